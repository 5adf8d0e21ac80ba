"""What is wrong with samples: one question a fault, each asked as sharply as n points allow.

A fault bends the truth p by a size θ, q = p + θ g + O(θ²). The mean over samples of s = g/p then
moves away from its mean under p, and no other mean moves further in units of its own scatter: it is
Rao's score test (Rao, 1948), and the fault whose score stands out most is the one that is there.
Each metric is the size that fits,

    θ̂ = (mean of s over the samples − E_p s) / (how fast E_q s grows with θ).

g and p are taken after smoothing by 0.1 standard deviations, so that edges have slopes, and the
denominator is mixed with 1 % of a uniform distribution, so that one stray point does not drown the
rest; both cost sharpness, neither biases θ̂ for small θ. Where faults come together each size holds
some of the others. A size is right to first order: of samples that are far from the truth it says
that they are, and no more. The errors are those of a mean. Two dimensions only.
"""

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, of_samples
from densitometer.metrics.grids import GridDensity

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray
Field = Float[np.ndarray, "ny nx"]

BACKGROUND = 0.01
"""Share of the uniform distribution in the denominator of a score."""

NODES = 20
"""Nodes an axis of the integral over Gaussian noise in the error of a length."""


class Score(NamedTuple):
    """s on the grid, its mean under the truth, and how fast that grows with the fault."""

    field: Field
    mean: float
    response: float


class Fault(Metric):
    """The size of one thing that may be wrong with samples, beside the truth on a grid."""

    dims = (2, 2)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, evidence.truth)


class Shift(Fault):
    """How far the samples lie from where they belong: ‖δ‖ if q(x) = p(x − δ).

    In standard deviations of the truth, axis by axis; 0 for the truth, larger is worse, and above 0
    by chance (a length). Cost O(n + cells). A distribution with narrow parts shows a shift of a
    fraction of their width. Where most samples lie beyond the truth its slopes are 0 and say
    nothing; the shift is then that of the mean. The error is that of a
    length, smaller near 0 than along a line. Source: Rao (1948).
    """

    name = "shift"
    label = "Shift"
    unit = "standard deviations"
    range = (0.0, math.inf)
    limit = 0.0

    @staticmethod
    def of(samples: Float[Array, "n 2"], truth: GridDensity) -> Estimate:
        """From samples, and the truth on a grid."""
        if np.mean(truth.at(samples, truth.smoothed) < BACKGROUND * uniform(truth)) > 0.5:
            return _shift_of_mean(np.asarray(samples, np.float64), truth)
        shifts = []
        for axis, sd in enumerate(truth.sds):
            s = -sd * slope(truth, truth.smoothed, axis) / mixed(truth)
            response = sd * _mean(truth, slope(truth, s, axis))
            shifts.append((truth.at(samples, s) - _mean(truth, s)) / response)
        return _length_of_mean(np.stack(shifts, axis=1))


class Blur(Fault):
    """How much noise has been added: τ² if q is p convolved with N(0, τ² diag(sd²)).

    In units of the truth's variance, axis by axis: a blur by a tenth of a standard deviation is
    0.01. 0 for the truth; below 0 the samples are too sharp. Cost O(n + cells). Source: Rao (1948).
    """

    name = "blur"
    label = "Blur, the variance added"
    unit = "variances of the truth"
    limit = 0.0

    @staticmethod
    def of(samples: Float[Array, "n 2"], truth: GridDensity) -> Estimate:
        """From samples, and the truth on a grid."""
        return Estimate(*_size(samples, truth, blur_score(truth)), of_samples(samples))


class Temperature(Fault):
    """T if q ∝ p^(1/T): 1 for the truth, above it for samples too spread over what is likely.

    0 where all samples are at the likeliest point, and never below. Cost O(n + cells). Not for
    targets of constant density, which no temperature changes. It hardly sees missing modes. Source:
    Rao (1948).
    """

    name = "temperature"
    label = "Temperature"
    needs = ("slopes",)
    range = (0.0, math.inf)
    limit = 1.0

    @staticmethod
    def of(samples: Float[Array, "n 2"], truth: GridDensity) -> Estimate:
        """From samples, and the truth on a grid."""
        size, error = _size(samples, truth, temperature_score(truth))
        return Estimate(max(1 + size, 0.0), error, of_samples(samples))


class Leak(Fault):
    """The share of samples spread evenly over the box: λ if q = (1 − λ) p + λ u.

    At most 1; 0 for the truth, and below it by chance. It sees what `OffSupport` sees, and
    strays inside the support besides; what is outside the box counts as much as what is in its
    emptiest part. Cost O(n + cells). Source: Rao (1948).
    """

    name = "leak"
    label = "Leak"
    range = (-math.inf, 1.0)
    limit = 0.0

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, evidence.truth, evidence.target.box)

    @staticmethod
    def of(
        samples: Float[Array, "n 2"],
        truth: GridDensity,
        box: tuple[tuple[float, ...], tuple[float, ...]],
    ) -> Estimate:
        """From samples, the truth on a grid, and its box."""
        s = (uniform(truth) - truth.smoothed) / mixed(truth)
        x, y = ((a >= low) & (a <= high) for a, low, high in zip(truth.grid, *box, strict=True))
        mean = _mean(truth, s)
        score = Score(s, mean, float(s[np.ix_(y, x)].mean()) - mean)
        size, error = _size(samples, truth, score)
        return Estimate(min(size, 1.0), error, of_samples(samples))


def _shift_of_mean(samples: Float[Array, "n 2"], truth: GridDensity) -> Estimate:
    return _length_of_mean((samples - truth.means) / truth.sds)


def _length_of_mean(vectors: Float[Array, "n 2"]) -> Estimate:
    """‖m‖ of the mean m of vectors, and the standard deviation of ‖μ + ε‖, ε ~ N(0, S/n).

    S is their covariance, and ‖μ‖² = (‖m‖² − tr S/n)₊ is ‖m‖² without what chance adds to it.
    """
    with np.errstate(invalid="ignore"):  # a mean of infinite samples is none
        mean = vectors.mean(axis=0)
        length = math.hypot(*mean)
        covariance = np.cov(vectors.T) / len(vectors)
    if not np.isfinite(covariance).all():
        return Estimate(length, math.nan, of_samples(vectors))
    variances, axes = np.linalg.eigh(covariance)
    noise = variances.clip(0).sum()
    centre = mean * math.sqrt(max(1 - noise / length**2, 0.0)) if length else mean
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    normal = np.stack(np.meshgrid(nodes, nodes), axis=2).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / weights.sum() ** 2
    lengths = np.linalg.norm(centre + normal * np.sqrt(variances.clip(0)) @ axes.T, axis=1)
    error = math.sqrt(weights @ (lengths - weights @ lengths) ** 2)
    return Estimate(length, error, of_samples(vectors))


def blur_score(truth: GridDensity) -> Score:
    """The score of `Blur`."""
    x, y = truth.sds**2 / 2
    curve = lambda f, axis: slope(truth, slope(truth, f, axis), axis)
    second = lambda f: x * curve(f, 0) + y * curve(f, 1)
    s = second(truth.smoothed) / mixed(truth)
    return Score(s, _mean(truth, s), _mean(truth, second(s)))


def temperature_score(truth: GridDensity) -> Score:
    """The score of `Temperature`, whose size is T − 1."""
    s = -np.log(mixed(truth))
    mean = _mean(truth, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(truth.cells > 0, -np.log(truth.cells), 0.0)
    return Score(s, mean, _mean(truth, (s - mean) * surprise))


def uniform(truth: GridDensity) -> float:
    """The density of the uniform distribution on the grid."""
    return 1 / (truth.cells.size * truth.grid.cell)


def mixed(truth: GridDensity) -> Field:
    """The denominator of scores: the smoothed truth with a little of the uniform distribution."""
    return (1 - BACKGROUND) * truth.smoothed + BACKGROUND * uniform(truth)


def _mean(truth: GridDensity, values: Field) -> float:
    return float(np.sum(truth.cells * values))


def slope(truth: GridDensity, values: Field, axis: int) -> Field:
    """The derivative along x (axis 0) or y (axis 1), by central differences."""
    return np.gradient(values, truth.grid[axis], axis=1 - axis)


def _size(samples: Float[Array, "n 2"], truth: GridDensity, score: Score) -> tuple[float, float]:
    values = truth.at(samples, score.field)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) / abs(score.response)
    return (float(values.mean()) - score.mean) / score.response, error
