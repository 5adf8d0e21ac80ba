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

from densitometer import metrics
from densitometer.estimates import Estimate
from densitometer.randomness import key_for
from densitometer.scoring import evidence
from densitometer.scoring.evidence import N_TEST, Evidence, judge
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

Above 95 %, since the quantiles of some hundred repeats are not those of the distribution."""

FOLDS = 10
"""Parts of the repeats, each judged by the floors of the others."""

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

    def possible(self, metric: str) -> "Floor":
        """This floor as it is printed: without values that the metric cannot have.

        Its ends are an estimate's, and may be beyond them by chance.
        """
        if metric not in metrics.METRICS:
            return self
        low, high = metrics.get(metric).range
        ends = [min(max(end, low), high) for end in self[:3]]
        return Floor(ends[0], ends[1], ends[2], self.perfect)

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
        """The floors of more samples, `n`, where these are of `evidence.N_COMPARED` or more.

        Those of means shrink as 1/√n, that of an overlap as 1/n; all others look at no more samples
        than these. A floor without width has none for any n.
        """
        found = dict(self.metrics)
        for name, floor in self.metrics.items():
            metric = metrics.get(name)
            if metric.limit is not None and floor.low < floor.high:
                found[name] = floor.nearer(metric.limit, (self.n / n) ** metric.rate)
        return dataclasses.replace(self, n=n, metrics=found)

    def of_learner(self, k: int) -> "Floors":
        """The floors of the samples of an ideal learner of k points.

        It learns the chance deviations of its training points as well, so what it draws is as far
        from the truth as n / (1 + n/k) true samples are. A floor reaches from the truth's own to
        that of so few: a metric's distance from its limit, or from its median if it has none, grows
        with the power of 1/n that is its `rate`.
        """
        found = dict(self.metrics)
        for name, floor in self.metrics.items():
            if name in metrics.METRICS and floor.low < floor.high:
                metric = metrics.get(name)
                limit = floor.median if metric.limit is None else metric.limit
                far = floor.nearer(limit, (1 + self.n / k) ** metric.rate)
                low, high = min(floor.low, far.low), max(floor.high, far.high)
                found[name] = floor._replace(low=low, high=high)
        return dataclasses.replace(self, metrics=found)

    def to_json(self) -> str:
        """What `from_json` reads."""
        ends = {name: floor[:3] for name, floor in self.metrics.items()}
        return json.dumps(dataclasses.asdict(self) | {"metrics": ends}, indent=1)

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
        known = metrics.get(metric) if metric in metrics.METRICS else None
        if floor := self.metrics.get(metric):
            return floor._replace(low=known.range[0]) if known and known.one_sided else floor
        if known is None:
            return None
        allowed, truth = known.allowed(estimate, entropy), known.truth(entropy)
        return None if not allowed or truth is None else Floor(allowed[0], truth, allowed[1], True)


def measure(
    target: Target,
    n: int,
    n_test: int = N_TEST,
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
    n_test: int = N_TEST,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Floors:
    """The floors of `n` samples: those that are known, or measured now and cached.

    Of more than `evidence.N_COMPARED` samples they follow from those of so many.
    """
    few = min(n, evidence.N_COMPARED)
    floors = _packaged(target, few, n_test) if _has_every_metric() else None
    floors = floors or _cached(target, few, n_test)
    if floors is None:
        floors = measure(target, few, n_test, repeats=REPEATS, workers=workers, progress=progress)
        _MEASURED[_cache_name(target, few, n_test)] = floors
        keep_in_cache(_cache_name(target, few, n_test), floors.to_json().encode())
    return floors if few == n else floors.of_more(n)


_MEASURED: dict[str, Floors] = {}
"""What this process has measured: it is used, whether or not it can be cached."""


def seconds_to_measure(target: Target, n: int, n_test: int = N_TEST) -> float:
    """What `of` would take on one core, from one true sample judged now."""
    perfect(target, 100, 100, FIRST_SEED)  # compiles and imports what only the first time needs
    began = time.perf_counter()
    perfect(target, min(n, evidence.N_COMPARED), n_test, FIRST_SEED)
    return REPEATS * (time.perf_counter() - began)


def known_floors(target: Target, n: int, n_test: int = N_TEST) -> Floors | None:
    """The floors that come with the package, are in the cache, or follow from such; else None.

    Where a metric has been added since the package's were measured, those in the cache come first.
    """
    few = min(n, evidence.N_COMPARED)
    found = [_packaged(target, few, n_test), _cached(target, few, n_test)]
    known = next(filter(None, found if _has_every_metric() else reversed(found)), None)
    return known if known is None or few == n else known.of_more(n)


def measured() -> list[str]:
    """The metrics whose floor is found by judging true samples."""
    return [name for name in metrics.METRICS if metrics.get(name).floor_is_measured]


def perfect(target: Target, n: int, n_test: int, seed: int) -> dict[str, float]:
    """The values of one fresh true sample, by metric whose floor is measured."""
    samples = np.asarray(target.sample(key_for(seed, "samples"), n))
    estimates = judge(Evidence(target, seed, samples, n_test=n_test))
    return {name: estimates[name].value for name in measured() if name in estimates}


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
def _shipped() -> dict[str, Any]:
    """What comes with the package, made by `make floors`.

    Floors by the target's repr, of the sizes that studies use, and the metrics that there were.
    """
    file = resources.files("densitometer.scoring").joinpath("floors.json")
    shipped = json.loads(file.read_text(encoding="utf-8"))
    return shipped if shipped["version"] == VERSION else {"metrics": [], "floors": {}}


def _has_every_metric() -> bool:
    """Whether there is no measured metric that the package's floors know nothing of."""
    return set(measured()) <= set(_shipped()["metrics"])


def _packaged(target: Target, n: int, n_test: int) -> Floors | None:
    for fields in _shipped()["floors"].get(repr(target), ()):
        if (fields["n"], fields["n_test"]) == (n, n_test):
            return Floors._of(dict(fields))
    return None


def _cached(target: Target, n: int, n_test: int) -> Floors | None:
    name = _cache_name(target, n, n_test)
    if name in _MEASURED:
        return _MEASURED[name]
    content = read_from_cache(name)
    try:
        return None if content is None else Floors.from_json(content.decode())
    except (ValueError, TypeError, KeyError, AttributeError):  # damaged: as if it were not there
        return None


def _cache_name(target: Target, n: int, n_test: int) -> str:
    what = f"{VERSION} {sorted(measured())} {target!r}"
    return (
        f"floors/{target.name}-{hashlib.sha256(what.encode()).hexdigest()[:16]}-{n}-{n_test}.json"
    )
