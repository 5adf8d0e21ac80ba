"""Kernel density estimates: the field's habit, beside a version with a chosen bandwidth."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, below, error_by_halves, mean
from densitometer.metrics.order import in_random_order

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray

BLOCK = 50
"""Points left out at a time: what stays near a core."""

TINY = 1e-30
"""The least share of a density by which another is divided."""

LEFT_OUT = 4_000
"""Points that choose a bandwidth at most."""


class KDELikelihood(Metric):
    """A mean log-density under a density made of samples: never above −H(p), whatever the model."""

    unit = "nats"
    better = "higher"

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.compared, evidence.test)

    def violations(
        self, estimate: Estimate, card: Mapping[str, Estimate], entropy: Estimate | None
    ) -> Iterator[str]:
        """Beside those of every metric: a density closer to the truth than the truth."""
        yield from super().violations(estimate, card, entropy)
        if entropy and below(estimate._replace(value=-estimate.value), entropy):
            truth = f"the truth's own mean, {-entropy.value:.4f}"
            yield f"{self.shown(estimate)}, above {truth}"


class KDELogLikelihood(KDELikelihood):
    """Mean log-density of true points under a KDE of the model's samples, default bandwidth.

    scipy's Gaussian kernel with Scott's rule, n^(−1/(d+4)) times the samples' covariance, as most
    papers on these toys use it. Nats, larger is better, cost O(n·m). It is biased by half a nat or
    more, and so is the score of a perfect sampler: read it only beside the truth's row. The error
    is that of the points and of the samples (`error_by_halves`), whose influences stand in
    `_log_density`.
    """

    name = "kde_log_likelihood"
    label = "Log-likelihood of a KDE of the samples"

    @staticmethod
    def of(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
        """From the model's samples, and true points."""
        return _log_likelihood(samples, points, lambda s: len(s) ** (-1 / (s.shape[1] + 4)))


class CrossValidatedKDELogLikelihood(KDELikelihood):
    """Mean log-density of true points under a KDE of the samples, bandwidth by cross-validation.

    The bandwidth is that which maximises the leave-one-out likelihood of the samples. Nats, larger
    is better, cost O(n·m). Far less biased than the default; still an estimate whose ceiling is the
    truth's row. The error leaves out that the bandwidth
    scatters too. Source: Habbema, Hermans & van den Broek (1974).
    """

    name = "kde_cv_log_likelihood"
    label = "Log-likelihood of a cross-validated KDE of the samples"

    @staticmethod
    def of(samples: Float[Array, "n d"], points: Float[Array, "m d"]) -> Estimate:
        """From the model's samples, and true points."""
        return _log_likelihood(samples, points, cross_validated_factor)


def cross_validated_factor(samples: Float[Array, "n d"]) -> float:
    """The factor f that maximises Σᵢ log q₋ᵢ(xᵢ), the leave-one-out log-likelihood.

    Kernels are N(xᵢ, f² C), with C the samples' covariance, as in `scipy.stats.gaussian_kde`. The
    likelihood is that of 4000 of the samples at most, chosen at random; for more, f shrinks as
    n^(−1/(d+4)), which is its rate where the density is smooth (Scott, 1992).
    """
    samples = in_random_order(np.asarray(samples, np.float64))
    n, dim = samples.shape
    few = min(n, LEFT_OUT)
    white, _ = _whitened(samples[:few], samples)
    nearest, beyond = zip(*_squares(white, white, leave_out=True), strict=True)
    mean_nearest = float(np.mean(np.concatenate(nearest)))

    def loss(log_factor: float) -> float:
        scale = -0.5 * math.exp(-2 * log_factor)
        bumps = np.concatenate([_bumps(d2, scale) for d2 in beyond])
        return float(dim * log_factor - scale * mean_nearest - np.log(bumps).mean())

    best = minimize_scalar(loss, bounds=(-6.0, 0.5), options={"xatol": 0.01}).x
    return math.exp(best) * (few / n) ** (1 / (dim + 4))


def _log_likelihood(
    samples: Float[Array, "n d"],
    points: Float[Array, "m d"],
    bandwidth: Callable[[Float[Array, "n d"]], float],
) -> Estimate:
    samples = np.asarray(samples, np.float64)
    n = len(samples)
    if not _has_spread(samples):  # a model that has broken down has no KDE, and this is its score
        return Estimate(-math.inf, math.nan, Provenance.of("kde", h=0, n=n))
    samples = in_random_order(samples)  # the first half is then a random one
    factor = bandwidth(samples)
    values, whole, half = _log_density(samples, points, factor)
    estimate = mean(values, Provenance.of("kde", h=f"{factor:.3g}", n=n))
    of_samples = error_by_halves(float(whole.var(ddof=1)), float(half.var(ddof=1)), n)
    return estimate._replace(stderr=math.hypot(estimate.stderr, of_samples))


def _has_spread(samples: Float[Array, "n d"]) -> bool:
    """Whether the samples' covariance has an inverse, to the precision of its own numbers."""
    if not np.isfinite(samples).all():
        return False
    covariance = np.cov(samples.T).reshape(samples.shape[1], -1)
    sds = np.sqrt(np.diag(covariance))
    if not np.all(sds > 0):
        return False
    return bool(np.linalg.eigvalsh(covariance / np.outer(sds, sds))[0] > 1e-12)


def _log_density(
    samples: Float[Array, "n d"], points: Float[Array, "m d"], factor: float
) -> tuple[Float[Array, " m"], Float[Array, " n"], Float[Array, " h"]]:
    """log of q(x) = (1/n) Σ N(x; xᵢ, factor² C) at points, as `scipy.stats.gaussian_kde` has it.

    And the influence of each sample on the mean of these, by n times its derivative with respect to
    the sample's weight. With wᵢ(x) the share of xᵢ's bump in q(x), and all in coordinates z in
    which the samples have mean 0 and covariance C = I,

        ψᵢ = n E[wᵢ(x)] + ½ zᵢᵀ (E[Σⱼ wⱼ (z − zⱼ)(z − zⱼ)ᵀ] / factor² − I) zᵢ,

    up to a constant: what its bump adds, and what it does to the width of all. Last come the
    influences of the first half of the samples if these were all the bumps, which stay as wide.
    """
    white, log_unit = _whitened(samples, samples)
    n, dim = white.shape
    half = max(n // 2, 2)
    scale = -0.5 / factor**2
    at = _whitened(points, samples)[0]
    values, shares, of_half, means = [], np.zeros(n), np.zeros(half), []
    for nearest, beyond in _squares(at, white):
        bumps = np.exp(np.float32(scale) * beyond)
        total = bumps.sum(axis=1, dtype=np.float64)
        values.append(scale * nearest + np.log(total))
        parts = bumps / total[:, None]
        shares += parts.sum(axis=0)
        among = parts[:, :half]
        of_half += np.sum(among / np.maximum(among.sum(axis=1), TINY)[:, None], axis=0)
        means.append(parts @ white)
    cross = at.T @ np.concatenate(means)
    spread = (at.T @ at - cross - cross.T + (white.T * shares) @ white) / len(at)
    widening = 0.5 * np.sum(white @ (spread / factor**2 - np.eye(dim)) * white, axis=1)
    log_norm = math.log(n) + dim * math.log(factor * math.sqrt(2 * math.pi)) + log_unit
    influences = n * shares / len(at) + widening
    of_half = half * of_half / len(at) + widening[:half]
    return np.concatenate(values) - log_norm, influences, of_half


def _squares(
    points: Float[Array, "m d"], bumps: Float[Array, "n d"], *, leave_out: bool = False
) -> Iterator[tuple[Float[Array, " b"], Float[np.ndarray, "b n"]]]:
    """‖x − xᵢ‖² of `BLOCK` points at a time: the least of each, and how far beyond it all are.

    What is beyond does with float32, whose exp is five times as fast, and no kernel can be too
    narrow for a point to be seen. `leave_out` the bump that is the point itself.
    """
    for start in range(0, len(points), BLOCK):
        squares = cdist(points[start : start + BLOCK], bumps, "sqeuclidean")
        if leave_out:
            np.fill_diagonal(squares[:, start:], np.inf)
        nearest = squares.min(axis=1)
        yield nearest, (squares - nearest[:, None]).astype(np.float32)


def _bumps(squares: Float[np.ndarray, "b n"], scale: float) -> Float[Array, " b"]:
    """Σᵢ exp(scale · squaresᵢ) of each row."""
    return np.exp(np.float32(scale) * squares).sum(axis=1, dtype=np.float64)


def _whitened(
    points: Float[Array, "m d"], samples: Float[Array, "n d"]
) -> tuple[Float[Array, "m d"], float]:
    """Points in coordinates in which the samples' covariance is the identity; log of their unit."""
    samples, points = np.asarray(samples, np.float64), np.asarray(points, np.float64)
    factor = np.linalg.cholesky(np.cov(samples.T).reshape(samples.shape[1], -1))
    white = np.linalg.solve(factor, (points - samples.mean(axis=0)).T).T
    return white, float(np.log(np.diag(factor)).sum())
