"""Kernel density estimates: the field's habit, beside a version with a chosen bandwidth."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import pdist, squareform
from scipy.stats import gaussian_kde

from densitometer.estimates import Estimate
from densitometer.metrics.density import mean

Array = np.ndarray


def kde_log_likelihood(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
    """Mean log-density of true points under a KDE of the model's samples, default bandwidth.

    scipy's Gaussian kernel with Scott's rule, n^(−1/(d+4)) times the samples' covariance, as most
    papers on these toys use it. Nats, larger is better, cost O(n·m). It is biased by half a nat or
    more, and so is the score of a perfect sampler: read it only beside the truth's row.
    """
    return _log_likelihood(samples, points, lambda s: len(s) ** (-1 / (s.shape[1] + 4)))


def kde_cv_log_likelihood(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
    """The same with the bandwidth that maximises the samples' leave-one-out likelihood.

    Nats, larger is better, cost O(n² + n·m). Far less biased than the default; still an estimate
    whose ceiling is the truth's row. Source: Habbema, Hermans & van den Broek (1974).
    """
    return _log_likelihood(samples, points, cross_validated_factor)


def cross_validated_factor(samples: Float[Array, "n d"]) -> float:
    """The factor f that maximises Σᵢ log q₋ᵢ(xᵢ), the leave-one-out log-likelihood.

    Kernels are N(xᵢ, f² C), with C the samples' covariance, as in `scipy.stats.gaussian_kde`.
    """
    samples = np.asarray(samples, np.float64)
    factor = np.linalg.cholesky(np.cov(samples.T).reshape(samples.shape[1], -1))
    white = np.linalg.solve(factor, (samples - samples.mean(axis=0)).T).T
    d2 = pdist(white, "sqeuclidean")
    dim = white.shape[1]

    def loss(log_factor: float) -> float:
        bumps = squareform(np.exp(-0.5 * d2 * math.exp(-2 * log_factor))).sum(axis=1)
        # A point without neighbours within 38 bandwidths would be log 0; it is merely very bad.
        return float(dim * log_factor - np.mean(np.log(np.maximum(bumps, 1e-300))))

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
    values = gaussian_kde(samples.T, bw_method=factor).logpdf(np.asarray(points.T, np.float64))
    return mean(values, f"kde(h={factor:.3g}, n={n})")
