"""Baselines of every family: the truth itself, a Gaussian mixture and a kernel density estimate.

They are models like any other, so they are sampled, scored and drawn by the same code.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.estimates import EXACT, Provenance
from densitometer.gaussian import Mixture, converged
from densitometer.metrics.kde import cross_validated_factor
from densitometer.models import HasDensity, Standardiser
from densitometer.numerics import pinned
from densitometer.points import check_points, check_spread
from densitometer.targets.base import Target

Points = Float[Array, "n d"] | Float[np.ndarray, "n d"]

COMPONENTS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40)
"""Numbers of components among which BIC chooses."""


class Truth(HasDensity):
    """A target as a model: what no family can beat."""

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
    """A mixture of Gaussians with full covariances, as many as BIC chooses."""

    standardiser: Standardiser
    mixture: Mixture

    density_provenance: ClassVar[Provenance] = EXACT

    @classmethod
    @pinned()
    def fit(cls, data: Points) -> "GaussianMixture":
        """The mixture with the smallest BIC (Schwarz, 1978) of those with `COMPONENTS` components.

        Each is fitted by expectation–maximisation until it converges.

        Raises:
            UsageError: `data` are no points with a spread along each axis.
        """
        points = _checked(data)
        n, dim = points.shape

        def bic(k: int, log_likelihood: float) -> float:
            free = k * (1 + dim + dim * (dim + 1) / 2) - 1
            return free * math.log(n) - 2 * log_likelihood

        fits = {k: converged(points, k) for k in COMPONENTS if k * 5 < n}
        best = min(fits, key=lambda k: bic(k, fits[k].log_likelihood))
        return cls(Standardiser.identity(dim), fits[best].mixture())

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.mixture.draw(key)

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.mixture.log_prob(z)


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
