"""Kernel density estimates: the field's habit, beside a version with a chosen bandwidth."""

import math
from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from densitometer.estimates import Estimate
from densitometer.metrics.density import mean

Array = np.ndarray

BLOCK = 50
"""Points at which a KDE is evaluated at a time: what stays near a core."""

LEFT_OUT = 2_000
"""Points whose leave-one-out likelihood chooses the bandwidth at most; all others bear kernels."""


def kde_log_likelihood(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
    """Mean log-density of true points under a KDE of the model's samples, default bandwidth.

    scipy's Gaussian kernel with Scott's rule, n^(−1/(d+4)) times the samples' covariance, as most
    papers on these toys use it. Nats, larger is better, cost O(n·m). It is biased by half a nat or
    more, and so is the score of a perfect sampler: read it only beside the truth's row.
    """
    return _log_likelihood(samples, points, lambda s: len(s) ** (-1 / (s.shape[1] + 4)))


def kde_cv_log_likelihood(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
    """The same with the bandwidth that maximises the samples' leave-one-out likelihood.

    Nats, larger is better, cost O(n·m). Far less biased than the default; still an estimate
    whose ceiling is the truth's row. Source: Habbema, Hermans & van den Broek (1974).
    """
    return _log_likelihood(samples, points, cross_validated_factor)


def cross_validated_factor(samples: Float[Array, "n d"]) -> float:
    """The factor f that maximises Σᵢ log q₋ᵢ(xᵢ), the leave-one-out log-likelihood.

    Kernels are N(xᵢ, f² C), with C the samples' covariance, as in `scipy.stats.gaussian_kde`. The
    sum is over the first 2000 points, their kernels' over all: the same in the mean, at O(n).
    """
    white, _ = _whitened(samples, samples)
    dim = white.shape[1]
    # Beyond the nearest neighbour's: float32 does, and no kernel can be too narrow to be seen.
    nearest, beyond = [], []
    for squares in _squares(white[:LEFT_OUT], white, own=False):
        nearest.append(squares.min(axis=1, keepdims=True))
        beyond.append((squares - nearest[-1]).astype(np.float32))
    mean_nearest = float(np.mean(np.concatenate(nearest)))

    def loss(log_factor: float) -> float:
        scale = -0.5 * math.exp(-2 * log_factor)
        bumps = np.concatenate([_exp_sums(np.float32(scale) * d2) for d2 in beyond])
        return float(dim * log_factor - scale * mean_nearest - np.log(bumps).mean())

    return math.exp(minimize_scalar(loss, bounds=(-6.0, 0.5), options={"xatol": 0.01}).x)


def _log_likelihood(
    samples: Float[Array, "n d"],
    points: Float[Array, "m d"],
    bandwidth: Callable[[Float[Array, "n d"]], float],
) -> Estimate:
    samples = np.asarray(samples, np.float64)
    n, dim = samples.shape
    collapsed = not np.isfinite(samples).all() or np.linalg.matrix_rank(np.cov(samples.T)) < dim
    if collapsed:  # a model that has broken down has no KDE, and this is its score
        return Estimate(-math.inf, math.nan, f"kde(h=0, n={n})")
    factor = bandwidth(samples)
    return mean(_log_density(samples, points, factor), f"kde(h={factor:.3g}, n={n})")


def _log_density(
    samples: Float[Array, "n d"], points: Float[Array, "m d"], factor: float
) -> Float[Array, " m"]:
    """log of (1/n) Σ N(x; xᵢ, factor² C) at points x: ten times as fast as `gaussian_kde`."""
    n, dim = samples.shape
    white, log_scale = _whitened(points, samples)
    bumps, _ = _whitened(samples, samples)
    sums = np.concatenate([_log_sum_exp(d2 / (-2 * factor**2)) for d2 in _squares(white, bumps)])
    return sums - math.log(n) - dim * math.log(math.sqrt(2 * math.pi) * factor) - log_scale


def _squares(
    points: Float[Array, "m d"], others: Float[Array, "n d"], *, own: bool = True
) -> Iterator[Array]:
    """Squared distances of some points at a time to all others, to itself infinite if not `own`."""
    for start in range(0, len(points), BLOCK):
        squares = cdist(points[start : start + BLOCK], others, "sqeuclidean")
        if not own:
            np.fill_diagonal(squares[:, start:], np.inf)
        yield squares


def _exp_sums(exponents: Float[Array, "m n"]) -> Float[Array, " m"]:
    return np.exp(exponents, out=exponents).sum(axis=1)


def _log_sum_exp(exponents: Float[Array, "m n"]) -> Float[Array, " m"]:
    top = exponents.max(axis=1, keepdims=True)
    return top[:, 0] + np.log(_exp_sums((exponents - top).astype(np.float32)))


def _whitened(
    points: Float[Array, "m d"], samples: Float[Array, "n d"]
) -> tuple[Float[Array, "m d"], float]:
    """Points in coordinates in which the samples' covariance is the identity; log of their unit."""
    samples, points = np.asarray(samples, np.float64), np.asarray(points, np.float64)
    factor = np.linalg.cholesky(np.cov(samples.T).reshape(samples.shape[1], -1))
    white = np.linalg.solve(factor, (points - samples.mean(axis=0)).T).T
    return white, float(np.log(np.diag(factor)).sum())
