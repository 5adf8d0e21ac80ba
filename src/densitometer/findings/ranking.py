"""Rankings of families: the best and their ties, groups, choices, and impossible values."""

import functools
from typing import NamedTuple

from scipy.stats import binom

from densitometer import metrics
from densitometer.findings.comparisons import Comparison, Difference, by_errors, by_points
from densitometer.findings.labels import in_prose, label
from densitometer.findings.results import CellFiles, Measure, Results
from densitometer.metrics import METRICS
from densitometer.scoring.consistency import violations
from densitometer.scoring.floors import COVERAGE, JOINT_COVERAGE
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


@functools.lru_cache(maxsize=64)
def comparison(results: Results, target: str, metric: str) -> Comparison:
    """The models of a target by one metric, references among them, without impossible values.

    With one seed it is paired by test point where the metric is a mean over these; else the samples
    of each model are draws of their own.
    """
    flagged = impossible(results)
    measures = {
        family: measure
        for family in (*REFERENCES, *results.families)
        if (target, family, metric) not in flagged
        and (measure := results.measure(target, family, metric)) is not None
        and not measure.is_bound
    }
    terms = {family: results.terms(target, family, metric) for family in measures}
    paired = {family: t for family, t in terms.items() if t is not None}
    if paired and len(paired) == len(measures):
        return by_points(paired, results.seeds[0])
    return by_errors(measures)


def best(results: Results, target: str, metric: str) -> tuple[str, ...]:
    """The family with the best value of a metric, then those that cannot be distinguished from it.

    Impossible values are left out, and infinite ones win nothing.
    """
    compared = comparison(results, target, metric)
    ranked = [f for f in _from_best(results, target, metric) if f not in REFERENCES]
    if not ranked or ranked[0] not in compared.finite:
        return ()
    return tuple(f for f in ranked if f == ranked[0] or compared.sign(f, ranked[0]) == 0)


def ranking(results: Results, target: str, metric: str) -> list[list[tuple[str, Difference]]]:
    """Families and baselines in groups, from best to worst, each with its distance to the best.

    The first of a group differs significantly from the first of the group before it; the others of
    a group do not differ significantly from its first. Impossible values are left out.
    """
    compared = comparison(results, target, metric)
    entered = _from_best(results, target, metric)
    groups: list[list[tuple[str, Difference]]] = []
    leader: str | None = None
    for family in entered:
        if leader is None or compared.sign(family, leader) != 0:
            groups.append([])
            leader = family
        groups[-1].append((family, compared.difference(family, entered[0])))
    return groups


def _from_best(results: Results, target: str, metric: str) -> list[str]:
    """Families and baselines that have a number, from best to worst; no impossible values."""
    flagged = impossible(results)
    sign = -1 if larger_is_better(metric) else 1
    entered = [(b, results.measure(target, b, metric)) for b in BASELINES]
    entered = [(b, m) for b, m in entered if m] + results.ranked(target, metric)
    entered = [(f, m) for f, m in entered if (target, f, metric) not in flagged]
    return [f for f, _ in sorted(entered, key=lambda pair: sign * pair[1].value)]


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
    compared = comparison(results, target, "kl")
    if not {family, *BASELINES} <= compared.by_seed.keys():
        return {}
    return {b: compared.sign(family, b) for b in BASELINES}


def passes(results: Results, target: str, family: str) -> bool | None:
    """Whether samples are as close to the truth as an ideal learner's.

    Of as many seeds as chance allows; None if that is not known.
    """
    floors = results.floors(target)
    cards = [c.scorecard for c in results.cells(target, family) if c.done]
    if floors is None or not cards:
        return None
    faulty = sum(not verdict(floors, card).passes for card in cards)
    return chance_allows(faulty, len(cards), 1 - JOINT_COVERAGE)


def within_floor(results: Results, target: str, family: str, metric: str) -> bool | None:
    """Whether a metric is within its floor, of as many seeds as chance allows.

    None if there is no floor.
    """
    held = []
    for files in results.cells(target, family):
        estimate = files.scorecard.get(metric)
        floor = estimate and results.floor(target, metric, estimate)
        if estimate is not None and floor is not None:
            held.append(floor.holds(estimate.value))
    return chance_allows(held.count(False), len(held), 1 - COVERAGE) if held else None


def chance_allows(misses: int, n: int, rate: float) -> bool:
    """Whether it is no surprise, at 5 %, that so many of n true samples miss a floor.

    Args:
        misses: how many do.
        n: of how many.
        rate: the probability that one does.
    """
    return float(binom.cdf(misses - 1, n, rate)) < 0.95
