"""Comparisons: differences of one metric between models of one target, with 95 % intervals.

    one seed         the models are judged at the same test points x_t, so their difference is the
                     mean of paired terms, a(x_t) − b(x_t); it is that of these fits, and says
                     nothing of what another seed would give
    several seeds    a seed gives all models the same points too: the mean of the differences,
                     seed by seed, and their scatter over seeds

Many models are compared at once, and the best of them is chosen after looking. So the intervals of
a `Comparison` are simultaneous: with probability 95 % all its differences lie in theirs. Half their
length is c standard errors, where c is the 95 % quantile of the largest |t| over all pairs if all
models were equal (max-t: Hothorn, Bretz & Westfall, 2008, doi:10.1002/bimj.200810425). A single
pair that is named beforehand has Student's interval, or the normal one (`difference`).
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.stats import norm as normal
from scipy.stats import t as student_t

from densitometer.findings.results import Measure

LEVEL = 0.95
"""Probability with which an interval holds, or all those of a comparison do."""

DRAWS = 20_000
"""Simulated comparisons behind a quantile of the largest |t|: its error is below 1 %."""


class Difference(NamedTuple):
    """a − b of one metric on one target, with a 95 % confidence interval."""

    value: float
    low: float
    high: float
    seeds: int
    """Seeds behind it; 1 where the interval comes from the test points alone."""

    @property
    def sign(self) -> int:
        """That of a − b; 0 if the interval contains 0: the two cannot be distinguished."""
        return int(self.low > 0) - int(self.high < 0)


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """Models of one target, by one metric; the intervals of all differences hold together."""

    by_seed: Mapping[str, Mapping[int, float]]
    """The value of each model, by seed."""
    covariance: Float[np.ndarray, "k k"] | None = None
    """Of the errors of the finite values, with one seed, in the order of `finite`."""

    def difference(self, a: str, b: str) -> Difference:
        """a − b, by the mean over the seeds that both have.

        An infinite value is beyond every finite one, whatever the interval; two infinities cannot
        be compared, nor can what is missing.
        """
        of_a, of_b = (self.by_seed.get(model, {}) for model in (a, b))
        pairs = [(of_a[seed], of_b[seed]) for seed in of_a if seed in of_b]
        if len(pairs) < 2:
            value = pairs[0][0] - pairs[0][1] if pairs else math.nan
            if not math.isfinite(value):
                return _beyond(value, 1)
            if self.covariance is None:  # one seed in common, of several: nothing is known
                return Difference(value, -math.inf, math.inf, 1)
            return _interval(value, self._error(a, b), self._critical_of_points, 1)
        differences = [x - y for x, y in pairs]
        value, error = float(np.mean(differences)), _scatter(differences)
        if not math.isfinite(value):
            return _beyond(value, len(pairs))
        return _interval(value, error, critical_of_seeds(len(self.by_seed), len(pairs)), len(pairs))

    def sign(self, a: str, b: str) -> int:
        """The sign of a − b, or 0 where the two cannot be distinguished."""
        return self.difference(a, b).sign

    @functools.cached_property
    def finite(self) -> tuple[str, ...]:
        """The models whose values are all finite."""
        return tuple(m for m, v in self.by_seed.items() if all(map(math.isfinite, v.values())))

    def _error(self, a: str, b: str) -> float:
        assert self.covariance is not None
        i, j = self.finite.index(a), self.finite.index(b)
        return math.sqrt(max(_of_differences(self.covariance)[i, j], 0.0))

    @functools.cached_property
    def _critical_of_points(self) -> float:
        assert self.covariance is not None
        return critical_of_points(self.covariance)


def by_points(terms: Mapping[str, Float[np.ndarray, " n"]], seed: int) -> Comparison:
    """The comparison of models by the means of their terms at the same test points."""
    values = {model: {seed: float(np.mean(t))} for model, t in terms.items()}
    finite = [t for t in terms.values() if np.isfinite(t).all()]
    n = len(next(iter(terms.values())))
    covariance = np.cov(np.stack(finite), ddof=1).reshape(len(finite), -1) / n if finite else None
    return Comparison(values, covariance)


def by_errors(measures: Mapping[str, Measure]) -> Comparison:
    """The comparison of models whose errors are independent: draws of their own behind each.

    With several seeds it is that of their values seed by seed.
    """
    values = {model: measure.by_seed for model, measure in measures.items()}
    if any(len(v) > 1 for v in values.values()):
        return Comparison(values)
    errors = [m.stderr for m in measures.values() if math.isfinite(m.value)]
    return Comparison(values, np.diag(np.square(errors)))


def difference(a: Measure, b: Measure) -> Difference:
    """a − b of a pair that is named beforehand: its own 95 % interval.

    Student's over the seeds that both have. With one seed it follows from the two standard errors
    as if they were independent; it is too wide where both come from the same points.
    """
    pairs = [a.by_seed[seed] - b.by_seed[seed] for seed in a.by_seed if seed in b.by_seed]
    if len(pairs) > 1:
        value, error = float(np.mean(pairs)), _scatter(pairs)
        critical = float(student_t.ppf((1 + LEVEL) / 2, len(pairs) - 1))
    else:
        value, error = a.value - b.value, math.hypot(a.stderr, b.stderr)
        critical = float(normal.ppf((1 + LEVEL) / 2))
    if not math.isfinite(value):
        return _beyond(value, max(len(pairs), 1))
    return _interval(value, error, critical, max(len(pairs), 1))


def critical_of_points(covariance: Float[np.ndarray, "k k"]) -> float:
    """c for normal errors of this covariance: one seed, many test points."""
    k = len(covariance)
    if k <= 2:
        return float(normal.ppf((1 + LEVEL) / 2))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    errors = np.random.default_rng(0).normal(size=(DRAWS, k)) @ root.T
    spread = np.sqrt(np.maximum(_of_differences(covariance), 0.0))
    largest = np.zeros(DRAWS)
    for i, j in zip(*np.triu_indices(k, 1), strict=True):
        if spread[i, j] > 0:
            np.maximum(largest, np.abs(errors[:, i] - errors[:, j]) / spread[i, j], out=largest)
    return float(np.quantile(largest, LEVEL))


@functools.lru_cache(maxsize=64)
def critical_of_seeds(k: int, seeds: int) -> float:
    """c for k models whose fits scatter alike and independently over so many seeds.

    The error of each difference is its own, of `seeds` − 1 degrees of freedom, so c is large for
    few seeds. Where fits scatter unalike or together, it errs on the safe side.
    """
    if k <= 2:
        return float(student_t.ppf((1 + LEVEL) / 2, seeds - 1))
    rng = np.random.default_rng(0)
    largest = np.zeros(DRAWS)
    values = rng.normal(size=(DRAWS, seeds, k))
    means = values.mean(axis=1)
    centred = values - means[:, None]
    for i, j in zip(*np.triu_indices(k, 1), strict=True):
        variance = np.sum((centred[:, :, i] - centred[:, :, j]) ** 2, axis=1) / (seeds - 1)
        t = np.abs(means[:, i] - means[:, j]) / np.sqrt(variance / seeds)
        np.maximum(largest, t, out=largest)
    return float(np.quantile(largest, LEVEL))


def _interval(value: float, error: float, critical: float, seeds: int) -> Difference:
    if not math.isfinite(error):
        return Difference(value, -math.inf, math.inf, seeds)
    return Difference(value, value - critical * error, value + critical * error, seeds)


def _beyond(value: float, seeds: int) -> Difference:
    """The difference from an infinite value, of which the sign is known, or of what is none."""
    if math.isnan(value):
        return Difference(value, -math.inf, math.inf, seeds)
    return Difference(value, value, value, seeds)


def _scatter(values: list[float]) -> float:
    """The standard error of the mean of values."""
    with np.errstate(invalid="ignore"):
        return float(np.std(values, ddof=1)) / math.sqrt(len(values))


def _of_differences(covariance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    """The variance of each difference of two."""
    variances = np.diag(covariance)
    return variances[:, None] + variances[None, :] - 2 * covariance
