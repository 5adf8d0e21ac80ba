"""Phrases: the parts that sentences about results are made of."""

import statistics
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from densitometer.findings.digits import in_words, listed, plus_minus
from densitometer.findings.labels import in_prose, label
from densitometer.findings.results import Measure, Results

T = TypeVar("T", bound=Hashable)


def families(names: Iterable[str], last: str = "and") -> str:
    """The labels of families: DSM, VAE and GAN."""
    return listed([label(name) for name in names], last)


def places(results: Results, targets: Sequence[str]) -> str:
    """Targets within a sentence: the spiral and the pinwheel; all four targets."""
    if len(targets) == len(results.targets) > 2:
        return f"all {in_words(len(targets))} targets"
    return listed([in_prose(target) for target in targets])


def number(measure: Measure) -> str:
    """A value and its error: 0.088 ± 0.004."""
    return plus_minus(measure.value, measure.error)


def percent(measure: Measure) -> str:
    """A share and its error: 7.1 ± 0.6 %."""
    return plus_minus(measure.value, measure.error, scale=100.0, unit="%")


def grouped(by_target: dict[str, T]) -> dict[T, list[str]]:
    """By value, the targets that have it."""
    groups: dict[T, list[str]] = {}
    for target, key in by_target.items():
        groups.setdefault(key, []).append(target)
    return groups


def measured(results: Results, target: str, family: str, metric: str) -> Measure:
    """A metric that is known to be there."""
    measure = results.measure(target, family, metric)
    assert measure is not None, (target, family, metric)
    return measure


def seconds(results: Results, target: str | None, family: str) -> float | None:
    """Median wall time of a fit; None if not recorded."""
    recorded = [c.seconds for c in results.cells(target, family) if c.seconds == c.seconds]
    return statistics.median(recorded) if recorded else None


def fits(results: Results) -> str:
    """What a comparison of one seed is about, after a noun: " of these fits"; else nothing."""
    return " of these fits" if len(results.seeds) == 1 else ""


def of_these(results: Results, sentence: str, how: str = "Of") -> str:
    """A sentence that compares, with a capital; of one seed, it is about these fits and says so."""
    if len(results.seeds) == 1:
        return f"{how} these fits, {sentence}"
    return sentence[0].upper() + sentence[1:]


def none_of(results: Results, *, capital: bool = False) -> str:
    """What nothing is shown of: none of these fits; of several seeds no family."""
    none = "none of these fits" if len(results.seeds) == 1 else "no family"
    return none[0].upper() + none[1:] if capital else none
