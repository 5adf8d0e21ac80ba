"""Which named faults of the truth explain samples, if any do: a fit with a test of its fit.

Of the mean f̄ of features of n samples, the sizes θ of a set of faults are those at which

    X²(θ) = (f̄ − E_θ f)ᵀ S⁻¹ (f̄ − E_θ f),        S = Cov_θ(f) / n,

is least (`metrics.bends` has f and what is expected of it). If these faults and no others are
there, X² is χ² with as many degrees of freedom as there are features less sizes (Hansen, 1982,
doi:10.2307/1912775). So a fault is named only if what remains without it is what chance allows; the
fewest faults that do are named, and where several fit equally well all of them, with an "or".
"""

import itertools
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares
from scipy.stats import chi2

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, percent
from densitometer.metrics.bends import KNOTS, Bends, Features

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

LEVEL = 0.99
"""The quantile of χ² that a fit may reach."""

MOST = 3
"""Faults that are named together at most."""

RIVAL = 6.0
"""How far above the least X² that of another set of as many faults may be, to be named too."""

RIVALS = 3
"""Sets, of those that fit best with what each does alone, that are fitted together exactly."""

HOPELESS = 10.0
"""X² of one sample in the mean from which no fault is looked for: all lie in the same place."""

DECISIVE = 15.0
"""By how much each size must lower X², in units of X² over its degrees of freedom."""

EACH = 60
"""Samples that a part of the plane should have."""

MOST_PARTS = 32
"""Parts at most."""

CORRECTIONS = 2
"""Times that what faults do together is found anew."""

BACKGROUND = 0.01
"""Of the truth's covariance, added to that under faults: a mode that is gone would have none."""

INSIDE = 1e-3
"""How far from its limits a search for a size begins, as a share of their distance."""

LEAST = 0.005
"""The least stretch along an axis that is told."""

SINGULAR = 1e-6
"""Variance of a combination of features, in units of theirs, below which it is none."""

Sizes = Mapping[str, float]
Whitening = Float[np.ndarray, "kept features"]


class Fit(NamedTuple):
    """A set of faults, the sizes that fit best, X² and its degrees of freedom."""

    faults: tuple[str, ...]
    sizes: Sizes
    square: float
    free: int

    @property
    def excess(self) -> float:
        """X² over the quantile that it may reach: above 1 these faults are not all there is."""
        return self.square / float(chi2.ppf(LEVEL, self.free))

    @property
    def scatter(self) -> float:
        """The standard deviation of the excess, that of a non-central χ²."""
        more = max(self.square - self.free, 0.0)
        return math.sqrt(2 * self.free + 4 * more) / float(chi2.ppf(LEVEL, self.free))

    def decides(self, simpler: "Fit") -> bool:
        """Whether X² falls by more, a size, than what remains of it scatters."""
        scatter = max(self.square / self.free, 1.0)
        return simpler.square - self.square > DECISIVE * scatter * (simpler.free - self.free)


class Unexplained(Metric):
    """How far samples are from the truth with the faults that explain them best.

    X² over the 99.9 % quantile of its χ² distribution: up to 1 chance explains what remains. The
    provenance has the fewest faults that bring it there, with their sizes, or none if it is there
    without any; where up to three do not bring it there, it is the least X² without a name. If the
    training points are known, k of them, S counts their chance too: (1/n + 1/k) in the place of
    1/n, since whoever learns from them learns their deviations. Cost O(n + cells). Source: Hansen
    (1982), doi:10.2307/1912775.
    """

    name = "unexplained"
    label = "What no named fault explains"
    range = (0.0, math.inf)
    dims = (2, 2)
    floorless = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        parts = min(MOST_PARTS, 2 ** int(math.log2(max(len(evidence.compared) / EACH, 1))))
        learnt = None if evidence.train is None else len(evidence.train)
        return self.of(evidence.compared, evidence.bends(parts), learnt)

    @staticmethod
    def of(samples: Float[np.ndarray, "n 2"], bends: Bends, learnt: int | None) -> Estimate:
        """From samples, the bent truth, and the number of training points."""
        if not np.isfinite(samples).all():
            return Estimate(math.nan, math.nan, Provenance.of("chi2", faults="unknown"))
        fits = explain(samples, bends, learnt)
        faults = " or ".join(map(written, fits)) or "none"
        details = {"df": fits[0].free, "faults": faults if fits[0].excess <= 1 else "unknown"}
        return Estimate(fits[0].excess, fits[0].scatter, Provenance.of("chi2", **details))

    def truth(self, entropy: Estimate | None) -> float:
        """Chance alone."""
        return 0.0

    def allowed(self, estimate: Estimate, entropy: Estimate | None) -> tuple[float, float]:
        """What chance explains."""
        return 0.0, 1.0


def explain(
    samples: Float[np.ndarray, "n 2"], bends: Bends, learnt: int | None = None
) -> list[Fit]:
    """The fewest faults that explain samples, every set of so few that does; else the best one.

    Args:
        samples: draws of anything.
        bends: the truth, bent.
        learnt: how many points whoever drew them was trained on; None if they are no learner's.
    """
    seen = bends.seen(samples)
    chance = 1 / len(samples) + (1 / learnt if learnt else 0.0)
    search = Search(bends, seen.mean(axis=1), np.cov(seen), chance)
    best = search.none()
    for number in range(1, MOST + 1):
        if best.excess <= 1 or search.hopeless():
            break
        # every pair is tried, of more than two only what the best has and one more
        kept = set(best.faults) if number > 2 else set()
        sets = [s for s in itertools.combinations(bends.faults, number) if kept <= set(s)]
        found = sorted(map(search.roughly, sets), key=lambda fit: fit.square)[:RIVALS]
        found = sorted(map(search.exactly, found), key=lambda fit: fit.square)
        fitting = [fit for fit in found if fit.excess <= 1 and fit.decides(best)]
        if fitting:
            return [fit for fit in fitting if fit.square <= fitting[0].square + RIVAL]
        best = min(best, found[0], key=lambda fit: fit.excess)
    return [best]


class Search(NamedTuple):
    """What a fit needs: the bent truth, and what is seen of the samples."""

    bends: Bends
    seen: Float[np.ndarray, " features"]
    covariance: Float[np.ndarray, "features features"]
    chance: float

    def none(self) -> Fit:
        """X² of the truth as it is."""
        whiten = self._whitening(self.bends.covariance)
        return self._fit((), {}, whiten, self.bends.mean)

    def hopeless(self) -> bool:
        """Whether the samples are too far from the truth for any fault to bring it there."""
        return self._square({}, self._rough(), self.bends.mean) * self.chance > HOPELESS

    def _rough(self) -> Whitening:
        return self._whitening((self.covariance + self.bends.covariance) / 2)

    def roughly(self, faults: tuple[str, ...]) -> Fit:
        """The sizes of these faults that fit best, if they do together what each does alone."""
        names = [name for fault in faults for name in self.bends.faults[fault]]
        whiten = self._rough()
        start, mean = dict.fromkeys(names, 0.0), self.bends.mean
        for name in [n for n in names if n in KNOTS]:  # X² has kinks and local minima
            tried = [start | {name: float(size)} for size in KNOTS[name]]
            start = min(tried, key=lambda s: self._square(s, whiten, mean))
        return self._fit(faults, start, whiten, mean)

    def exactly(self, fit: Fit) -> Fit:
        """The same with what they do together, and their covariance, at the sizes found."""
        for _ in range(CORRECTIONS if math.isfinite(fit.square) else 0):
            mean, covariance = self.bends.moments(fit.sizes)
            whiten = self._whitening(covariance + BACKGROUND * self.bends.covariance)
            fit = self._fit(fit.faults, fit.sizes, whiten, mean - self.bends.drift(fit.sizes))
        return fit

    def _whitening(self, covariance: Float[np.ndarray, "features features"]) -> Whitening:
        """S^(−1/2), without the directions in which S is 0."""
        scale = np.sqrt(np.diag(covariance))
        values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
        kept = values > SINGULAR
        root = (vectors[:, kept] / np.sqrt(values[kept])).T / scale
        return root / math.sqrt(self.chance)

    def _fit(self, faults: tuple[str, ...], start: Sizes, whiten: Whitening, mean: Features) -> Fit:
        names, off = list(start), whiten @ (self.seen - mean)
        if not names:
            return Fit(faults, {}, float(off @ off), len(off))
        away = lambda x: off - whiten @ self.bends.drift(dict(zip(names, x, strict=True)))
        slopes = lambda x: -whiten @ np.stack(list(map(self.bends.slope, names, x)), axis=1)
        low, high = np.transpose([self.bends.limits(name) for name in names])
        room = INSIDE * (high - low)
        inside = np.clip(list(start.values()), low + room, high - room)
        with np.errstate(all="ignore"):  # SciPy's, where samples have hardly any spread
            found = least_squares(away, inside, cast("Any", slopes), (low, high), x_scale="jac")
        sizes = dict(zip(names, map(float, found.x), strict=True))
        square = 2 * float(found.cost) if self.bends.possible(sizes) else math.inf
        return Fit(faults, sizes, square, len(off) - len(names))

    def _square(self, sizes: Sizes, whiten: Whitening, mean: Features) -> float:
        away = whiten @ (self.seen - mean - self.bends.drift(sizes))
        return float(away @ away)


def written(fit: Fit) -> str:
    """Faults and sizes as a provenance has them, such as "blur 0.0102 + stretch 1.05 0.998"."""
    sizes = lambda fault: " ".join(f"{size:.3g}" for size in _sizes(fault, fit.sizes))
    return " + ".join(f"{fault} {sizes(fault)}" for fault in fit.faults)


def named(provenance: Provenance) -> list[dict[str, list[float]]]:
    """The faults that `written` wrote, with their sizes: one dictionary, or several rivals."""
    text = dict(provenance.details).get("faults", "")
    rivals = [[_read(fault) for fault in one.split(" + ")] for one in text.split(" or ")]
    return [dict(found) for rival in rivals if (found := [f for f in rival if f])]


def in_words(provenance: Provenance) -> str:
    """The faults that a provenance names, in a sentence; empty if there are none."""
    told = [[WORDS[fault](*sizes) for fault, sizes in one.items()] for one in named(provenance)]
    return ", or ".join(map(" and ".join, told))


def _read(text: str) -> tuple[str, list[float]] | None:
    """One fault and its sizes; None for anything else."""
    found = re.fullmatch(r"([a-z ]+?)((?: [-+.e\d]+)+)", text)
    if not found or found[1] not in WORDS:
        return None
    return found[1], list(map(float, found[2].split()))


def _sizes(fault: str, sizes: Sizes) -> list[float]:
    """The sizes of a fault as people want them."""
    if fault == "shift":
        return [math.hypot(sizes["shift x"], sizes["shift y"])]
    if fault == "stretch":
        return [math.exp(sizes["stretch x"]), math.exp(sizes["stretch y"])]
    if fault == "turn":
        return [math.degrees(sizes["turn"])]
    if fault == "temperature":
        return [math.exp(sizes["temperature"])]
    if fault == "mode weights":
        moved = [size for name, size in sizes.items() if name.startswith("weight ")]
        return [(sum(map(abs, moved)) + abs(sum(moved))) / 2]
    return [sizes[fault]]


def _shift(size: float) -> str:
    return f"shifted by {size:.2g} standard deviations"


def _stretch(x: float, y: float) -> str:
    ways = {a: f - 1 for a, f in (("x", x), ("y", y)) if abs(f - 1) >= LEAST}
    told = [
        f"too {'wide' if by > 0 else 'narrow'} by {percent(abs(by))} along {axis}"
        for axis, by in ways.items()
    ]
    return " and ".join(told) or "stretched"


def _turn(degrees: float) -> str:
    return f"turned by {abs(degrees):.2g}°"


def _blur(variance: float) -> str:
    noise = f"{math.sqrt(variance):.2g} standard deviations"
    return f"blurred by noise of {noise} ({variance:.2g} of the truth’s variance)"


def _temperature(t: float) -> str:
    where = "hot, too often where the truth is thin" if t > 1 else None
    return f"too {where or 'cold, too often where the truth is dense'} (temperature {t:.2f})"


def _leak(share: float) -> str:
    return f"leaking, {percent(share)} strewn over the box"


def _mode_weights(share: float) -> str:
    return f"sharing itself wrongly among the modes, {percent(share)} of the mass in the wrong one"


WORDS: Mapping[str, Callable[..., str]] = {
    "shift": _shift,
    "stretch": _stretch,
    "turn": _turn,
    "blur": _blur,
    "temperature": _temperature,
    "leak": _leak,
    "mode weights": _mode_weights,
}
"""Of every fault that can be named, what a sentence says of it, given its sizes."""
