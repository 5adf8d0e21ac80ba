"""Overlap of two laws, from samples smoothed alike. Two dimensions only."""

import math

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.grids import Grid, GridLaw

Array = np.ndarray

NOTHING = 1e-200
"""Densities below this are 0."""

REPEATS = 20
"""Perfect samples drawn for the error of `self_bhattacharyya`."""


def bhattacharyya(samples: Float[Array, "n 2"], truth: GridLaw) -> Estimate:
    """The Bhattacharyya coefficient ∫ √(p̂ q̂) of a model's samples q and the truth p.

    Both are smoothed alike, by Gaussians of 0.1 standard deviations of the truth: the samples as a
    KDE, the truth's density by the same kernel. Between 0 and 1, larger is better; a perfect
    sampler scores below 1 by about 1/n over the kernel's area in units of the truth's, so read it
    beside its floor. Cost O(n · cells). It sees modes that are missing or misweighted; it is blind
    below the bandwidth. The error is that of the mean of ½ ∫ √(p̂/q̂) k(x − xᵢ) dx, which is what
    point i adds to first order. Source: Bhattacharyya (1943).
    """
    samples = np.asarray(samples)
    q = truth.smooth(samples)
    # where q is next to nothing, so is every point's kernel
    ratio = np.divide(truth.smoothed, q, out=np.zeros_like(q), where=q > NOTHING)
    adds = truth.seen_from(samples, 0.5 * np.sqrt(ratio))
    n = len(samples)
    error = float(adds.std(ddof=1)) / math.sqrt(n)
    return Estimate(coefficient(truth.smoothed, q, truth.grid), error, f"samples(n={n})")


def self_bhattacharyya(samples: Float[Array, "n 2"], model: GridLaw) -> Estimate:
    """Whether a model's samples follow its own density: a difference of two coefficients.

    The Bhattacharyya coefficient of the samples with the model's density, minus that of perfect
    samples drawn from the density itself, all smoothed by the kernel of `model`. 0 when sampler and
    density agree; below −3 errors they are two different laws, and one of them is wrong. The error
    is the scatter of perfect samples. NaN if the density is no number somewhere, or 0 everywhere.
    """
    if not model.sound:
        return Estimate(math.nan, math.nan, f"samples(n={len(samples)})")
    rng = np.random.default_rng(0)

    def overlap(points: Float[Array, "n 2"]) -> float:
        points = points[model.grid.holds(points)]  # the density, too, is normalised on the grid
        return coefficient(model.smooth(points), model.smoothed, model.grid)

    perfect = [overlap(model.draw(rng, len(samples))) for _ in range(REPEATS)]
    value = overlap(np.asarray(samples)) - float(np.mean(perfect))
    stderr = float(np.std(perfect, ddof=1)) * math.sqrt(1 + 1 / REPEATS)  # of one, and of the mean
    return Estimate(value, stderr, f"samples(n={len(samples)})")


def coefficient(p: Float[Array, "ny nx"], q: Float[Array, "ny nx"], grid: Grid) -> float:
    """∫ √(p q) on a grid of cells."""
    return float(np.sqrt(p * q).sum() * grid.cell)
