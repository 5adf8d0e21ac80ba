"""Who is best, who is as good, and what cannot be: the comparisons that reports draw on."""

import functools
from typing import NamedTuple

from densitometer import metrics
from densitometer.findings.comparisons import Difference, compare, difference
from densitometer.findings.results import CellFiles, Measure, Results
from densitometer.metrics import METRICS
from densitometer.scoring.consistency import violations
from densitometer.study.plan import REFERENCES

BASELINES = {"kde": "the cross-validated KDE", "gmm": "the Gaussian mixture"}
"""What any family should beat to earn its training, and how sentences call it."""


def larger_is_better(metric: str) -> bool:
    """Whether the larger of two values of a metric is the better one."""
    return metric in METRICS and metrics.get(metric).better == "higher"


def best(results: Results, target: str, metric: str) -> tuple[str, ...]:
    """The family with the best value of a metric, then those that tie with it.

    A number that cannot be wins nothing.
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
    """Families and baselines from best to worst, in groups, each behind the very best by so much.

    The best of a group is told apart from those of the group before it; the others of a group
    cannot be told apart from its best. A number that cannot be is not ranked.
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
    """(target, family, metric) of every number that cannot be, and the sentence that says why."""
    found = {}
    for target in results.targets:
        for family in (*REFERENCES, *results.families):
            for files in results.cells(target, family):
                for metric, why in violations(files.scorecard, results.entropy(target)):
                    found[target, family, metric] = f"Impossible: {where(results, files)}: {why}."
    return found


class Choice(NamedTuple):
    """The families to choose on a target: for a density, and where samples are all one needs."""

    density: str | None
    samples: str | None

    def __str__(self) -> str:
        if self.density == self.samples or self.samples is None:
            return self.density or "none"
        if self.density is None:
            return self.samples
        return f"{self.density} for a density and {self.samples} for samples alone"


def choice(results: Results, target: str) -> Choice:
    """The closest density and the nearest samples; one family for both if it is best at both."""
    density, samples = best(results, target, "kl"), best(results, target, "bhattacharyya")
    for family in density:
        if family in samples:
            return Choice(family, family)
    return Choice(next(iter(density), None), next(iter(samples), None))


def behind(results: Results, target: str) -> list[tuple[str, Measure]]:
    """The families whose density is not among the closest, nearest first, and their KL."""
    leaders, flagged = best(results, target, "kl"), impossible(results)
    rest = [
        (f, m)
        for f, m in results.ranked(target, "kl")
        if f not in leaders and (target, f, "kl") not in flagged
    ]
    return sorted(rest, key=lambda pair: pair[1].value)


def where(results: Results, files: CellFiles) -> str:
    """Family and target of a cell, and its seed where there are several."""
    seed = f" with seed {files.cell.seed}" if len(results.seeds) > 1 else ""
    return f"{files.cell.family} on {files.cell.target}{seed}"
