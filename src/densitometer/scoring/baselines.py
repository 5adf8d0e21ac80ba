"""What every family is held against: the truth itself, and two honest estimators.

They are models like any other, so they are sampled, scored and drawn by the same code.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar
from scipy.cluster.vq import kmeans2

from densitometer.estimates import EXACT, Provenance
from densitometer.gaussian import log_normal
from densitometer.metrics.kde import cross_validated_factor
from densitometer.models import HasDensity, Standardiser
from densitometer.numerics import pinned
from densitometer.points import check_points, check_spread
from densitometer.targets.base import Target

Points = Float[Array, "n d"] | Float[np.ndarray, "n d"]

COMPONENTS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
"""Numbers of components among which BIC chooses."""


class Truth(HasDensity):
    """A target in the dress of a model: the row that no family can beat."""

    standardiser: Standardiser
    target: Target = eqx.field(static=True)

    density_provenance: ClassVar[Provenance] = EXACT

    @pinned()
    def __init__(self, target: Target):
        self.standardiser, self.target = Standardiser.identity(target.dim), target

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.target.sample(key, 1)[0]

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.target.log_prob(z)


class GaussianMixture(HasDensity):
    """A mixture of Gaussians with full covariances, log q(x) = log Σ_k w_k N(x; m_k, L_k L_kᵀ)."""

    standardiser: Standardiser
    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    factors: Float[Array, "k d d"]
    """Cholesky factors L_k of the covariances."""

    density_provenance: ClassVar[Provenance] = EXACT

    @classmethod
    @pinned()
    def fit(cls, data: Points) -> "GaussianMixture":
        """The mixture with the smallest BIC (Schwarz, 1978) of those with `COMPONENTS` components.

        Each is fitted by expectation–maximisation (Dempster, Laird & Rubin, 1977).
        """
        points = _checked(data)
        n, dim = points.shape

        def bic(k: int, log_likelihood: float) -> float:
            free = k * (1 + dim + dim * (dim + 1) / 2) - 1
            return free * math.log(n) - 2 * log_likelihood

        fits = [(k, *_em(points, k)) for k in COMPONENTS if k * 5 < n]
        _, _, weights, means, factors = min(fits, key=lambda f: bic(f[0], f[1]))
        return cls(
            Standardiser.identity(dim),
            *(jnp.asarray(a, jnp.float32) for a in (np.log(weights), means, factors)),
        )

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        component_key, noise_key = jax.random.split(key)
        k = jax.random.categorical(component_key, self.log_weights)
        return self.means[k] + self.factors[k] @ jax.random.normal(noise_key, (self.dim,))

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        def component(log_w: Array, mean: Array, factor: Array) -> Array:
            inverse = jnp.linalg.inv(factor)
            return log_w + log_normal(inverse @ (z - mean)) + jnp.sum(jnp.log(jnp.diag(inverse)))

        return jax.nn.logsumexp(jax.vmap(component)(self.log_weights, self.means, self.factors))


class KDE(HasDensity):
    """A Gaussian kernel density estimate with its bandwidth chosen by cross-validation."""

    standardiser: Standardiser
    points: Float[Array, "n d"]
    factor: Float[Array, "d d"]
    """Cholesky factor of the kernel's covariance."""

    density_provenance: ClassVar[Provenance] = EXACT

    @classmethod
    @pinned()
    def fit(cls, data: Points) -> "KDE":
        """Kernels on the training points, with the bandwidth of `cross_validated_factor`."""
        points = _checked(data)
        covariance = np.cov(points.T).reshape(points.shape[1], -1)
        factor = cross_validated_factor(points) * np.linalg.cholesky(covariance)
        identity = Standardiser.identity(points.shape[1])
        return cls(identity, jnp.asarray(points, jnp.float32), jnp.asarray(factor, jnp.float32))

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        point_key, noise_key = jax.random.split(key)
        i = jax.random.randint(point_key, (), 0, len(self.points))
        return self.points[i] + self.factor @ jax.random.normal(noise_key, (self.dim,))

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        inverse = jnp.linalg.inv(self.factor)
        white = (z[None, :] - self.points) @ inverse.T
        log_norm = jnp.sum(jnp.log(jnp.diag(self.factor))) + 0.5 * self.dim * math.log(2 * math.pi)
        bumps = jax.nn.logsumexp(-0.5 * jnp.sum(white**2, axis=1))
        return bumps - math.log(len(self.points)) - log_norm


def _checked(data: Points) -> Float[np.ndarray, "n d"]:
    points = check_points(data, "data")
    check_spread(points, "data")
    return points


def _em(
    points: np.ndarray, k: int, iterations: int = 500, tolerance: float = 1e-5
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The log-likelihood, weights, means and Cholesky factors that EM reaches from k-means++.

    Both halves of an iteration are one matrix product with the monomials (1, x, x xᵀ): a Gaussian's
    log-density is linear in them, and so are the moments that give the next one. It stops when an
    iteration gains less than `tolerance` nats a point.
    """
    n, dim = points.shape
    centre = points.mean(axis=0)
    x = points - centre  # sums of squares lose no digits to a far origin
    spread = float(np.mean(np.var(x, axis=0)))
    outer = (x[:, :, None] * x[:, None, :]).reshape(n, -1)
    monomials = np.concatenate([np.ones((n, 1)), x, outer], axis=1)
    _, labels = kmeans2(x, k, minit="++", rng=0, missing="warn", iter=20)
    responsibilities = np.eye(k)[labels] * 0.9 + 0.1 / k
    log_likelihood, gain = -math.inf, math.inf
    weights, means, factors = np.full(k, 1 / k), x[:k], np.stack([np.eye(dim)] * k)
    while gain > tolerance * n and (iterations := iterations - 1) >= 0:
        moments = responsibilities.T @ monomials
        counts = moments[:, 0] + 1e-9
        weights, means = counts / n, moments[:, 1 : 1 + dim] / counts[:, None]
        covariances = (moments[:, 1 + dim :] / counts[:, None]).reshape(k, dim, dim)
        covariances -= means[:, :, None] * means[:, None, :]
        # The ridge keeps a component from collapsing onto a point.
        factors = np.linalg.cholesky(covariances + 1e-5 * spread * np.eye(dim))
        inverses = np.linalg.inv(factors)
        precisions = np.swapaxes(inverses, 1, 2) @ inverses
        linear = np.einsum("kij,kj->ki", precisions, means)
        constants = (
            np.log(weights)
            - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
            - 0.5 * dim * math.log(2 * math.pi)
            - 0.5 * np.sum(linear * means, axis=1)
        )
        coefficients = [constants[:, None], linear, -0.5 * precisions.reshape(k, -1)]
        log_joint = monomials @ np.concatenate(coefficients, axis=1).T
        top = log_joint.max(axis=1, keepdims=True)
        joint = np.exp(log_joint - top)
        total = joint.sum(axis=1, keepdims=True)
        responsibilities = joint / total
        previous, log_likelihood = log_likelihood, float(np.sum(top + np.log(total)))
        gain = log_likelihood - previous
    return log_likelihood, weights, means + centre, factors
