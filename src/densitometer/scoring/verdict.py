"""The verdict on samples: whether they can be distinguished from the truth, and by what."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from densitometer import metrics
from densitometer.estimates import Estimate
from densitometer.metrics import explanation, memory
from densitometer.scoring.floors import Floor, Floors


class Verdict(NamedTuple):
    """Whether samples can be distinguished from the truth, and by what."""

    excess: float
    """The worst excess of all metrics in units of what chance allows, of a model that allowed to an
    ideal learner of its training points: above 1 the samples are blamed."""
    cause: str | None
    """The metric that is furthest beyond its floor, or says what is grossly wrong; None if none."""
    sentence: str

    @property
    def passes(self) -> bool:
        """Whether nothing is blamed on whoever drew the samples."""
        return self.excess <= 1


def verdict(floors: Floors, card: Mapping[str, Estimate]) -> Verdict:
    """What all metrics on samples say together, and the faults that explain it.

    A model that has learnt from k points has their chance deviations too, so it is blamed only for
    what is beyond the floors of an ideal learner (`Floors.of_learner`).

    What is grossly wrong is told first, since sizes of faults mean nothing of such samples. Then
    come the faults that explain the samples: without them, what remains is chance (see
    `metrics.explanation`). If none do, the metric furthest beyond its floor is told in their place.
    """
    learnt = _learnt(card)
    excesses = _excesses(floors.of_learner(learnt) if learnt else floors, card)
    worst = max(excesses, key=lambda m: excesses[m])
    excess = excesses[worst] / floors.joint
    remarks = [r for m in card if m in metrics.METRICS and (r := metrics.get(m).remark(card[m]))]
    if excess <= 1:
        cause, sentence = None, f"indistinguishable from the truth at n = {floors.n}"
        if learnt and max(_excesses(floors, card).values()) > floors.joint:
            sentence = "as close to the truth as those of an ideal learner"
    else:
        beyond = {m: card[m] for m in excesses if excesses[m] > floors.joint}
        if gross := _gross(beyond):
            return Verdict(excess, *gross)
        cause, sentence = worst, _told(worst, beyond, card, floors)
    return Verdict(excess, cause, "; ".join([sentence, *remarks]))


def described(metric: str, value: float, floor: Floor) -> str:
    """What a value beyond its floor means, in words."""
    side = "above" if value > floor.high else "below"
    shown = floor.possible(metric)
    truth = f"{shown.low:.4g} to {shown.high:.4g}"
    label = metrics.METRICS.label(metric) if metric in metrics.METRICS else metric
    return f"{label} is {value:.4g}, {side} what the truth scores, {truth}"


def _learnt(card: Mapping[str, Estimate]) -> int | None:
    """How many points a model has learnt from, if the card knows; None for samples of anything."""
    if "memorised" not in card:
        return None
    return int(dict(card["memorised"].provenance.details)["train"])


def _excesses(floors: Floors, card: Mapping[str, Estimate]) -> dict[str, float]:
    """Of each number on samples, how far it is from what the truth scores."""
    on_samples = [m for m in card if m in metrics.METRICS and metrics.get(m).takes_samples]
    names = dict.fromkeys([*floors.metrics, *on_samples])
    ends = {m: floors.floor(m, card[m], None) for m in names if m in card}
    return {m: floor.excess(card[m].value) for m, floor in ends.items() if floor is not None}


def _told(
    worst: str, beyond: Mapping[str, Estimate], card: Mapping[str, Estimate], floors: Floors
) -> str:
    """Copying, and what explains the rest."""
    copied = memory.in_words(beyond["memorised"].value) if "memorised" in beyond else ""
    named = explanation.in_words(card["unexplained"].provenance) if "unexplained" in card else ""
    if not named and beyond.keys() != {"memorised"}:
        floor = floors.floor(worst, card[worst], None)
        assert floor is not None
        furthest = described(worst, card[worst].value, floor)
        named = f"different from the truth in no way that has a name; furthest off: {furthest}"
    return ", and ".join(filter(None, [named, copied]))


def _gross(beyond: Mapping[str, Estimate]) -> tuple[str, str] | None:
    """Of what lies beyond its floor: what makes sizes of faults mean nothing, and words for it."""
    for metric, estimate in beyond.items():
        if math.isnan(estimate.value):
            return metric, "not finite, some of them are NaN or infinite"
    for metric in beyond:
        if metric in metrics.METRICS and (words := metrics.get(metric).gross(beyond)):
            return metric, words
    return None
