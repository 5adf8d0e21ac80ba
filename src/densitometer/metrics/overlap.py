"""Overlap of two distributions, from samples and densities smoothed alike. Two dimensions only."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, error_by_halves, of_samples
from densitometer.metrics.grids import Grid, GridDensity
from densitometer.metrics.order import in_random_order

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray

NOTHING = 1e-200
"""Densities below this are 0."""

REPEATS = 20
"""Perfect samples drawn for the error of `SelfBhattacharyya`."""


class Bhattacharyya(Metric):
    """∫ √(p̂ q̂) of a model's samples q and the truth p, both smoothed.

    Both are smoothed alike, by Gaussians of 0.1 standard deviations of the truth: the samples as a
    KDE, the truth's density by the same kernel. Between 0 and 1, larger is better; a perfect
    sampler scores below 1 by about 1/n over the kernel's area in units of the truth's, so read it
    beside its floor. Cost O(n · cells). It sees modes that are missing or misweighted; it is blind
    below the bandwidth. The error is that of the mean of ½ ∫ √(p̂/q̂) k(x − xᵢ) dx, which is what
    point i adds, with `error_by_halves`. Source: Bhattacharyya (1943).
    """

    name = "bhattacharyya"
    label = "Bhattacharyya coefficient of the samples"
    better = "higher"
    dims = (2, 2)
    range = (0.0, 1.0)
    limit = 1.0
    rate = 1.0
    title = "Bhattacharyya coefficient of samples: the truth row is the ceiling"
    aspect = "overlap of samples"
    glance = "Bhattacharyya"

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, evidence.truth)

    @staticmethod
    def of(samples: Float[Array, "n 2"], truth: GridDensity) -> Estimate:
        """From samples, and the truth on a grid."""
        samples = np.asarray(samples)
        n = len(samples)
        q = truth.smooth(samples)

        def scatter(points: Float[Array, "n 2"], q: Float[Array, "ny nx"]) -> float:
            # where q is next to nothing, so is every point's kernel
            ratio = np.divide(truth.smoothed, q, out=np.zeros_like(q), where=q > NOTHING)
            return float(truth.smooth_at(points, 0.5 * np.sqrt(ratio)).var(ddof=1))

        some, others = np.array_split(in_random_order(samples), 2)
        of_some = truth.smooth(some)
        of_others = (n * q - len(some) * of_some) / len(others)
        halves = scatter(some, of_some), scatter(others, of_others)
        error = error_by_halves(scatter(samples, q), sum(halves) / 2, n)
        return Estimate(coefficient(truth.smoothed, q, truth.grid), error, of_samples(samples))


class SelfBhattacharyya(Metric):
    """Whether a model's samples follow its own density: a difference of two coefficients.

    The Bhattacharyya coefficient of the samples with the model's density, minus that of perfect
    samples drawn from the density itself, all smoothed by the same kernel. 0 when sampler and
    density agree; below −3 errors they are two different distributions, and one of them is wrong.
    The error is the scatter of perfect samples. NaN if the density is no number somewhere, or 0
    everywhere.
    """

    name = "self_bhattacharyya"
    label = "Self-consistency of samples and density"
    better = "neither"
    needs = ("log_q",)
    dims = (2, 2)
    perfect = 0.0

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, evidence.own_density)

    @staticmethod
    def of(samples: Float[Array, "n 2"], model: GridDensity) -> Estimate:
        """From samples, and the model's density on a grid."""
        if not model.sound:
            return Estimate(math.nan, math.nan, of_samples(samples))
        rng = np.random.default_rng(0)

        def overlap(points: Float[Array, "n 2"]) -> float:
            points = points[model.grid.holds(points)]  # the density, too, is normalised on the grid
            return coefficient(model.smooth(points), model.smoothed, model.grid)

        perfect = [overlap(model.draw(rng, len(samples))) for _ in range(REPEATS)]
        value = overlap(np.asarray(samples)) - float(np.mean(perfect))
        scatter = float(np.std(perfect, ddof=1))
        # of one sample, and of the mean of the perfect ones
        return Estimate(value, scatter * math.sqrt(1 + 1 / REPEATS), of_samples(samples))


def coefficient(p: Float[Array, "ny nx"], q: Float[Array, "ny nx"], grid: Grid) -> float:
    """∫ √(p q) on a grid of cells."""
    return float(np.sqrt(p * q).sum() * grid.cell)
