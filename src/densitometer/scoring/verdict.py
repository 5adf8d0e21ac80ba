"""The verdict on samples: whether they can be distinguished from the truth, and by what."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from densitometer import metrics
from densitometer.estimates import Estimate
from densitometer.scoring.floors import Floor, Floors

SIMILAR = 0.8
"""Share of the best fault's certainty above which another is named beside it."""


class Verdict(NamedTuple):
    """Whether samples can be distinguished from the truth, and by what."""

    fault: str | None
    """The metric whose fault fits best; None if nothing stands out."""
    excess: float
    """The worst excess of all metrics in units of what chance allows: up to 1 the truth's."""
    sentence: str


def verdict(floors: Floors, card: Mapping[str, Estimate]) -> Verdict:
    """What all metrics on samples say together, and which fault fits best.

    A fault is the more certain the more of its own errors it is away from the truth's median: of
    the errors that true samples have, which is the score test, times of those that these samples
    have, which is Wald's. Where the fault is a rare event the two are far apart: a single stray
    point is much to the one, and nothing to the other. What is grossly wrong comes first, since
    sizes of faults are those, to first order, of what is wrong with independent draws near the
    truth.
    """
    ends = _floors(floors, card)
    excesses = {m: floor.excess(card[m].value) for m, floor in ends.items()}
    worst = max(excesses, key=lambda m: excesses[m])
    excess = excesses[worst] / floors.joint
    if excess <= 1:
        return Verdict(None, excess, f"indistinguishable from the truth at n = {floors.n}")
    beyond = {m: card[m] for m in excesses if excesses[m] > floors.joint}
    if gross := _gross(beyond):
        return Verdict(gross[0], excess, gross[1])
    certain = {
        m: excesses[m] * _ratio(abs(found.value - ends[m].median), found.stderr)
        for m, found in beyond.items()
        if _fault(m, found.value)
    }
    if not certain:
        return Verdict(worst, excess, described(worst, card[worst].value, ends[worst]))
    named = sorted(certain, key=lambda fault: -certain[fault])
    similar = [fault for fault in named if certain[fault] >= SIMILAR * certain[named[0]]]
    sentence = " or ".join(described(fault, card[fault].value, ends[fault]) for fault in similar)
    return Verdict(named[0], excess, sentence)


def described(metric: str, value: float, floor: Floor) -> str:
    """What a value beyond its floor means, in words."""
    if words := _fault(metric, value):
        return words
    side = "above" if value > floor.high else "below"
    shown = floor.possible(metric)
    truth = f"{shown.low:.4g} to {shown.high:.4g}"
    label = metrics.METRICS.label(metric) if metric in metrics.METRICS else metric
    return f"{label} is {value:.4g}, {side} what the truth scores, {truth}"


def _floors(floors: Floors, card: Mapping[str, Estimate]) -> dict[str, Floor]:
    """By metric, the floors of the numbers on samples that are on the card."""
    on_samples = [m for m in card if m in metrics.METRICS and metrics.get(m).takes_samples]
    names = dict.fromkeys([*floors.metrics, *on_samples])
    found = {m: floors.floor(m, card[m], None) for m in names if m in card}
    return {m: floor for m, floor in found.items() if floor is not None}


def _fault(metric: str, value: float) -> str | None:
    """The words of a fault, if the metric is the size of one."""
    return metrics.get(metric).in_words(value) if metric in metrics.METRICS else None


def _gross(beyond: Mapping[str, Estimate]) -> tuple[str, str] | None:
    """Of what lies beyond its floor: what makes sizes of faults mean nothing, and words for it."""
    for metric, estimate in beyond.items():
        if math.isnan(estimate.value):
            return metric, "not finite, some of them are NaN or infinite"
    for metric in beyond:
        if metric in metrics.METRICS and (words := metrics.get(metric).gross(beyond)):
            return metric, words
    return None


def _ratio(size: float, error: float) -> float:
    return size / error if error > 0 else math.inf
