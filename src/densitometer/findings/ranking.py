"""Rankings of families: the best and their ties, groups, choices, and impossible values."""

import functools
from typing import NamedTuple

from densitometer import metrics
from densitometer.findings.comparisons import Difference, compare, difference
from densitometer.findings.labels import in_prose, label
from densitometer.findings.results import CellFiles, Measure, Results
from densitometer.metrics import METRICS
from densitometer.scoring.consistency import violations
from densitometer.scoring.verdict import verdict
from densitometer.study.plan import REFERENCES

BASELINES = {
    "kde": "the cross-validated KDE",
    "kde_adaptive": "the adaptive KDE",
    "gmm": "the Gaussian mixture chosen by hold-out",
    "gmm_mean": "the mean of ten Gaussian mixtures",
}
"""What a family should beat to be worth its training, as sentences call it."""


def larger_is_better(metric: str) -> bool:
    """Whether the larger of two values of a metric is the better one."""
    return metric in METRICS and metrics.get(metric).better == "higher"


def best(results: Results, target: str, metric: str) -> tuple[str, ...]:
    """The family with the best value of a metric, then those that tie with it.

    Impossible values are left out.
    """
    flagged = impossible(results)
    ranked = [
        (f, m) for f, m in results.ranked(target, metric) if (target, f, metric) not in flagged
    ]
    if not ranked:
        return ()
    sign = -1 if larger_is_better(metric) else 1
    ranked.sort(key=lambda pair: sign * pair[1].value)
    leader = ranked[0][1]
    return tuple(family for family, m in ranked if compare(m, leader) == 0)


def ranking(results: Results, target: str, metric: str) -> list[list[tuple[str, Difference]]]:
    """Families and baselines in groups, from best to worst, each with its distance to the best.

    The first of a group differs significantly from the first of the group before it; the others of
    a group do not differ significantly from its first. Impossible values are left out.
    """
    flagged = impossible(results)
    sign = -1 if larger_is_better(metric) else 1
    entered = [(b, results.measure(target, b, metric)) for b in BASELINES]
    entered = [(b, m) for b, m in entered if m] + results.ranked(target, metric)
    entered = [(f, m) for f, m in entered if (target, f, metric) not in flagged]
    entered.sort(key=lambda pair: sign * pair[1].value)
    groups: list[list[tuple[str, Difference]]] = []
    leader: Measure | None = None
    for family, measure in entered:
        if leader is None or compare(measure, leader) != 0:
            groups.append([])
            leader = measure
        groups[-1].append((family, difference(measure, entered[0][1])))
    return groups


@functools.lru_cache(maxsize=4)
def impossible(results: Results) -> dict[tuple[str, str, str], str]:
    """The sentence that says why, by (target, family, metric), for every impossible value."""
    found = {}
    for target in results.targets:
        for family in (*REFERENCES, *results.families):
            for files in results.cells(target, family):
                for metric, why in violations(files.scorecard, results.entropy(target)):
                    found[target, family, metric] = f"Impossible: {where(results, files)}: {why}."
    return found


class Choice(NamedTuple):
    """The families to choose on a target: for a density, and for samples alone."""

    density: str | None
    samples: str | None

    def __str__(self) -> str:
        density, samples = (family and label(family) for family in self)
        if density and samples and density != samples:
            return f"{density} for a density and {samples} for samples alone"
        return density or samples or "none"


def choice(results: Results, target: str) -> Choice:
    """The families with the closest density and samples; one family if it is best in both."""
    density, samples = best(results, target, "kl"), best(results, target, "bhattacharyya")
    for family in density:
        if family in samples:
            return Choice(family, family)
    return Choice(next(iter(density), None), next(iter(samples), None))


def behind(results: Results, target: str) -> list[tuple[str, Measure]]:
    """The families whose density is not among the closest, and their KL, smallest first."""
    leaders, flagged = best(results, target, "kl"), impossible(results)
    rest = [
        (f, m)
        for f, m in results.ranked(target, "kl")
        if f not in leaders and (target, f, "kl") not in flagged
    ]
    return sorted(rest, key=lambda pair: pair[1].value)


def where(results: Results, files: CellFiles) -> str:
    """Family and target of a cell in words, and its seed where there are several."""
    seed = f" with seed {files.cell.seed}" if len(results.seeds) > 1 else ""
    return f"{label(files.cell.family)} on {in_prose(files.cell.target)}{seed}"


def signs(results: Results, target: str, family: str) -> dict[str, int]:
    """The sign of a family's KL less that of each baseline; empty where one is missing."""
    own = results.measure(target, family, "kl")
    found = {b: m for b in BASELINES if (m := results.measure(target, b, "kl"))}
    if own is None or len(found) < len(BASELINES):
        return {}
    return {b: compare(own, m) for b, m in found.items()}


def passes(results: Results, target: str, family: str) -> bool | None:
    """Whether the samples of most seeds cannot be distinguished from true ones; None if unknown."""
    floors = results.floors(target)
    cards = [c.scorecard for c in results.cells(target, family) if c.done]
    if floors is None or not cards:
        return None
    return 2 * sum(verdict(floors, card).fault is None for card in cards) > len(cards)
