"""What a perfect model scores: how the values of fresh true samples scatter, metric by metric.

A number on samples is judged against its floor, the central 95 % of what as many true samples
score; a number on densities against the truth's own, which is known. Many numbers are judged at
once, so the verdict on all of them allows each what chance does to the worst of them.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import resources
from typing import Any, NamedTuple

import numpy as np

from densitometer.estimates import Estimate
from densitometer.metrics import faults
from densitometer.metrics.faults import percent
from densitometer.randomness import key_for
from densitometer.scoring import consistency, judging
from densitometer.system.files import keep_in_cache, read_from_cache
from densitometer.system.processes import die_with_parent
from densitometer.targets.base import Target

REPEATS = 200
"""True samples behind a floor that is measured when it is needed."""

FIRST_SEED = 2_000_000_000
"""That of the first of them: no study has such seeds."""

COVERAGE = 0.95
"""Share of true samples whose value lies within a metric's floor."""

JOINT_COVERAGE = 0.97
"""Share of true samples that are found true by all metrics together.

Above 95 %, since the quantiles of some hundred repeats are not those of the law."""

FOLDS = 10
"""Parts of the repeats, each judged by the floors of the others."""

ALIKE = 0.8
"""Share of the best fault's certainty above which another is named beside it."""

NORMAL = 1.96
"""Standard errors to either end of a 95 % interval."""

TENDS = {
    "bhattacharyya": (1.0, 1.0),
    "off_support": (0.001, 0.5),
    "shift": (0.0, 0.5),
    "blur": (0.0, 0.5),
    "temperature": (1.0, 0.5),
    "leak": (0.0, 0.5),
    "log_true_density": (0.0, 0.5),
    "mode_weights": (0.0, 0.5),
}
"""Metrics of all samples, however many: what n true ones tend to as n grows, and the power of 1/n
by which they come nearer. All others look at `judging.N_COMPARED` samples at most."""

VERSION = 3
"""Of what is measured: raised with every change of a metric that moves its floor."""


class Floor(NamedTuple):
    """The central 95 % of a metric's values for the truth, and their median."""

    low: float
    median: float
    high: float
    perfect: bool = False
    """Whether the median is what the truth scores always, and the ends a number's own error."""

    def nearer(self, limit: float, share: float) -> "Floor":
        """This floor drawn to a limit, until so much of the distance is left."""
        low, median, high = (limit + share * (end - limit) for end in self[:3])
        return Floor(low, median, high)

    def holds(self, value: float) -> bool:
        """Whether a value is one that the truth might have got."""
        return self.low <= value <= self.high

    def excess(self, value: float) -> float:
        """How far a value lies from the median, in units of the way to the floor's end.

        Above 1 it is beyond the floor; NaN is infinitely far.
        """
        way = self.high - self.median if value > self.median else self.median - self.low
        away = abs(value - self.median)
        if math.isnan(value):
            return math.inf
        return away / way if way > 0 else 0.0 if away == 0 else math.inf


@dataclasses.dataclass(frozen=True)
class Floors:
    """The floors of one target at one size.

    `joint` is the worst excess of all metrics together that chance brings about: a true sample
    stays below it in 97 % of cases. That is a test of all of them at once which knows how they hang
    together (Westfall & Young, 1993).
    """

    n: int
    n_test: int
    repeats: int
    joint: float
    metrics: Mapping[str, Floor]

    def of_more(self, n: int) -> "Floors":
        """The floors of more samples, `n`, where these are of `judging.N_COMPARED` or more.

        Those of means shrink as 1/√n, that of an overlap as 1/n; all others look at no more samples
        than these. A floor without width has none for any n.
        """
        metrics = dict(self.metrics)
        for name, (limit, power) in TENDS.items():
            if name in metrics and metrics[name].low < metrics[name].high:
                metrics[name] = metrics[name].nearer(limit, (self.n / n) ** power)
        return dataclasses.replace(self, n=n, metrics=metrics)

    def to_json(self) -> str:
        """What `from_json` reads."""
        metrics = {name: floor[:3] for name, floor in self.metrics.items()}
        return json.dumps(dataclasses.asdict(self) | {"metrics": metrics}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Floors":
        """The floors that `to_json` wrote."""
        return cls._of(json.loads(text))

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> "Floors":
        floors = {name: Floor(*ends) for name, ends in fields.pop("metrics").items()}
        return cls(**fields, metrics=floors)

    def floor(self, metric: str, estimate: Estimate, entropy: Estimate | None) -> Floor | None:
        """The floor of a number, None if it is none that a truth could have.

        Of what is computed from densities it is what the truth gets at the same points, with the
        number's own error about it; of a mass, what a quadrature is allowed.
        """
        if metric in self.metrics:
            return self.metrics[metric]
        if metric == "mass":
            return Floor(
                1 - consistency.MASS_TOLERANCE, 1.0, 1 + consistency.MASS_TOLERANCE, perfect=True
            )
        perfect = consistency.PERFECT.get(metric)
        if metric in consistency.LIKE_ENTROPY and entropy is not None:
            perfect = entropy.value
        return None if perfect is None else _about(metric, perfect, estimate)

    def verdict(self, card: Mapping[str, Estimate]) -> "Verdict":
        """What all metrics on samples say together, and which fault fits best.

        A fault is the more certain the more of its own errors it is away from the truth's median:
        of the errors that true samples have, which is the score test, times of those that these
        samples have, which is Wald's. Where the fault is a rare event the two are far apart: a
        single stray point is much to the one, and nothing to the other. What `_gross` finds comes
        first, since it spoils the sizes of faults.
        """
        floors = {m: floor for m, floor in self.metrics.items() if m in card}
        if "duplicates" in card:
            floors["duplicates"] = _about("duplicates", 0.0, card["duplicates"])
        excesses = {m: floor.excess(card[m].value) for m, floor in floors.items()}
        worst = max(excesses, key=lambda m: excesses[m])
        excess = excesses[worst] / self.joint
        if excess <= 1:
            return Verdict(None, excess, f"indistinguishable from the truth at n = {self.n}")
        beyond = {m: card[m] for m in excesses if excesses[m] > self.joint}
        if gross := _gross(beyond):
            return Verdict(gross[0], excess, gross[1])
        certain = {
            fault: excesses[fault] * _ratio(abs(found.value - floors[fault].median), found.stderr)
            for fault, found in beyond.items()
            if fault in faults.FAULTS and faults.describe(fault, found.value)
        }
        if not certain:
            return Verdict(worst, excess, self.describe(worst, card[worst].value))
        named = sorted(certain, key=lambda fault: -certain[fault])
        alike = [fault for fault in named if certain[fault] >= ALIKE * certain[named[0]]]
        sentence = " or ".join(self.describe(fault, card[fault].value) for fault in alike)
        return Verdict(named[0], excess, sentence)

    def describe(self, metric: str, value: float) -> str:
        """What a value beyond its floor means, in words."""
        low, _, high, _ = self.metrics[metric]
        if metric in faults.FAULTS and (words := faults.describe(metric, value)):
            return words
        side = "above" if value > high else "below"
        return f"{metric} is {value:.4g}, {side} what the truth scores, {low:.4g} to {high:.4g}"


class Verdict(NamedTuple):
    """Whether samples can be told from the truth, and by what."""

    fault: str | None
    """The metric whose fault fits best; None if nothing stands out."""
    excess: float
    """The worst excess of all metrics in units of what chance allows: up to 1 the truth's."""
    sentence: str


def _about(metric: str, perfect: float, estimate: Estimate) -> Floor:
    """What the truth scores always, with a number's own error about it."""
    half = NORMAL * (estimate.stderr if math.isfinite(estimate.stderr) else 0.0)
    low = 0.0 if metric in consistency.NEVER_NEGATIVE else perfect - half
    return Floor(low, perfect, perfect + half, perfect=True)


def _gross(beyond: Mapping[str, Estimate]) -> tuple[str, str] | None:
    """Of what lies beyond its floor: what makes sizes of faults mean nothing, and words for it.

    They are sizes, to first order, of what is wrong with independent draws near the truth.
    """
    broken = next((m for m, estimate in beyond.items() if math.isnan(estimate.value)), None)
    if broken is not None:
        return broken, "not finite, some of them are NaN or infinite"
    if repeated := beyond.get("duplicates"):
        return "duplicates", f"repeating themselves, {percent(repeated.value)} of them are copies"
    outside = beyond.get("off_support")
    if outside is not None and outside.value > 0.5:
        words = f"far from the truth, {percent(outside.value)} of them off its support"
        if "w2" in beyond:
            words += f", and {beyond['w2'].value:.3g} away from it (w2)"
        return "off_support", words
    return None


def _ratio(size: float, error: float) -> float:
    return size / error if error > 0 else math.inf


def measure(
    target: Target,
    n: int,
    n_test: int = judging.N_TEST,
    *,
    repeats: int = REPEATS,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Floors:
    """The floors of `n` samples, from `repeats` fresh true ones.

    Args:
        target: the truth.
        n: samples.
        n_test: fresh true points for the metrics that need some.
        repeats: true samples drawn and judged.
        workers: processes that share the work; the numbers do not depend on them.
        progress: told how many repeats are done.
    """
    seeds = range(FIRST_SEED, FIRST_SEED + repeats)
    cards = true_scores(target, n, n_test, seeds, workers=workers, progress=progress)
    return from_repeats(cards, n, n_test)


def true_scores(
    target: Target,
    n: int,
    n_test: int,
    seeds: Sequence[int],
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, float]]:
    """The values of fresh true samples, a dictionary by metric for each seed."""
    one = functools.partial(perfect, target, n, n_test)
    cards = []
    with contextlib.ExitStack() as stack:
        values = map(one, seeds)
        if workers > 1 and (pool := _pool(workers)) is not None:
            stack.callback(pool.shutdown, cancel_futures=True)
            values = pool.map(one, seeds, chunksize=5)
        for card in values:
            cards.append(card)
            if progress is not None:
                progress(len(cards), len(seeds))
    return cards


def from_repeats(cards: list[dict[str, float]], n: int, n_test: int) -> Floors:
    """The floors from the values of true samples, a dictionary by metric for each.

    What chance does to the worst metric is measured on repeats that the floors have not seen: a
    tenth of them at a time, against the floors of the others.
    """
    whole = _floors(cards)
    worst = []
    for fold in range(min(FOLDS, len(cards))):
        others = _floors([card for i, card in enumerate(cards) if i % FOLDS != fold] or cards)
        for card in cards[fold::FOLDS]:
            unseen = max(others[name].excess(value) for name, value in card.items())
            seen = max(whole[name].excess(value) for name, value in card.items())
            # few repeats of a small count may all be 0, and the next one infinitely far from them
            worst.append(unseen if math.isfinite(unseen) else seen)
    place = math.ceil(JOINT_COVERAGE * len(worst)) - 1
    return Floors(n, n_test, len(cards), sorted(worst)[place], whole)


def _floors(cards: list[dict[str, float]]) -> dict[str, Floor]:
    return {name: _floor(np.array([card[name] for card in cards])) for name in cards[0]}


def _floor(values: np.ndarray) -> Floor:
    """The quantiles between which a further value lies with just those probabilities.

    A small count takes few values, none of them perhaps just there: an end then lies on the value
    that brings the share within nearest to what it should be.
    """
    ends = ((1 - COVERAGE) / 2, 0.5, (1 + COVERAGE) / 2)
    low, median, high = np.quantile(values, ends, method="weibull")
    taken, times = np.unique(values, return_counts=True)
    counted = taken[times > 1]

    def missed(low: float, high: float) -> float:
        return abs(float(np.mean((low <= values) & (values <= high))) - COVERAGE)

    high = min([high, *counted[counted >= median]], key=lambda end: missed(low, end))
    low = min([low, *counted[counted <= median]], key=lambda end: missed(end, high))
    return Floor(float(low), float(median), float(high))


def of(
    target: Target,
    n: int,
    n_test: int = judging.N_TEST,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Floors:
    """The floors of `n` samples: those that are known, or measured now and kept for the next time.

    Of more than `judging.N_COMPARED` samples they follow from those of so many.
    """
    known = known_floors(target, n, n_test)
    if known is not None:
        return known
    few = min(n, judging.N_COMPARED)
    floors = measure(target, few, n_test, repeats=REPEATS, workers=workers, progress=progress)
    _MEASURED[_kept(target, few, n_test)] = floors
    keep_in_cache(_kept(target, few, n_test), floors.to_json().encode())
    return floors if few == n else floors.of_more(n)


_MEASURED: dict[str, Floors] = {}
"""What this process has measured: it need not be kept to be used."""


def seconds_to_measure(target: Target, n: int, n_test: int = judging.N_TEST) -> float:
    """What `of` would take on one core, from one true sample judged now."""
    perfect(target, 100, 100, FIRST_SEED)  # compiles and imports what only the first time needs
    began = time.perf_counter()
    perfect(target, min(n, judging.N_COMPARED), n_test, FIRST_SEED)
    return REPEATS * (time.perf_counter() - began)


def known_floors(target: Target, n: int, n_test: int = judging.N_TEST) -> Floors | None:
    """The floors that come with the package, have been kept, or follow from such; else None."""
    few = min(n, judging.N_COMPARED)
    known = _packaged_floors(target, few, n_test) or _kept_floors(target, few, n_test)
    return known if known is None or few == n else known.of_more(n)


def perfect(target: Target, n: int, n_test: int, seed: int) -> dict[str, float]:
    """The values of one fresh true sample, by metric."""
    samples = np.asarray(target.sample(key_for(seed, "samples"), n))
    estimates = judging.judge_samples(samples, target, seed, n_test=n_test)
    return {name: e.value for name, e in estimates.items() if name not in consistency.PERFECT}


def _pool(workers: int) -> ProcessPoolExecutor | None:
    """Processes that share the work; None where the system has no semaphores (no /dev/shm)."""
    spawn = multiprocessing.get_context("spawn")
    try:
        return ProcessPoolExecutor(workers, spawn, initializer=_heed_the_parent)
    except OSError:
        return None


def _heed_the_parent() -> None:
    """An interrupt from the terminal reaches all processes; one of them answers it, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


@functools.cache
def _packaged() -> dict[str, list[dict[str, Any]]]:
    """Floors by the target's repr, of the sizes that studies use; made by `make floors`."""
    file = resources.files("densitometer.scoring").joinpath("floors.json")
    kept = json.loads(file.read_text(encoding="utf-8"))
    return kept["floors"] if kept["version"] == VERSION else {}


def _packaged_floors(target: Target, n: int, n_test: int) -> Floors | None:
    for fields in _packaged().get(repr(target), ()):
        if (fields["n"], fields["n_test"]) == (n, n_test):
            return Floors._of(dict(fields))
    return None


def _kept_floors(target: Target, n: int, n_test: int) -> Floors | None:
    name = _kept(target, n, n_test)
    if name in _MEASURED:
        return _MEASURED[name]
    content = read_from_cache(name)
    try:
        return None if content is None else Floors.from_json(content.decode())
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged: as if it were not there
        return None


def _kept(target: Target, n: int, n_test: int) -> str:
    """The name in the cache."""
    law = hashlib.sha256(f"{VERSION} {target!r}".encode()).hexdigest()[:16]
    return f"floors/{target.name}-{law}-{n}-{n_test}.json"
