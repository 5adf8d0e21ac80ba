"""A family with a closed form, small data, and clocks that never tick: tools for tests."""

import dataclasses
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from densitometer.domains import Count, CountOrZero, Steps
from densitometer.estimates import EXACT, Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasDensity, Standardiser

MEAN = np.array([3.0, -1.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])


def gaussian(seed: int, n: int) -> np.ndarray:
    """Draws from N(MEAN, COVARIANCE): off centre and correlated, so that sign errors show."""
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(MEAN, COVARIANCE, n).astype(np.float32)


def gaussian_log_prob(x: np.ndarray, mean=MEAN, covariance=COVARIANCE) -> np.ndarray:
    """log N(x; mean, covariance), row by row."""
    white = np.linalg.solve(np.linalg.cholesky(covariance), (x - mean).T)
    log_det = np.linalg.slogdet(2 * np.pi * covariance)[1]
    return -0.5 * np.sum(white**2, axis=0) - 0.5 * log_det


class Normal(HasDensity):
    """N(0, I) in standardised coordinates."""

    standardiser: Standardiser
    density_provenance: ClassVar[Provenance] = EXACT

    def _sample(self, key):
        return jax.random.normal(key, (self.dim,))

    def _log_prob(self, z):
        return log_normal(z)


class Shifted(Normal):
    """N(mean, I)."""

    mean: jax.Array

    def _sample(self, key):
        return self.mean + jax.random.normal(key, self.mean.shape)

    def _log_prob(self, z):
        return log_normal(z - self.mean)


class MeanState(eqx.Module):
    mean: jax.Array
    count: jax.Array


class MeanInfo(Info):
    loss: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeanFamily(Family[MeanState]):
    """Learns the mean of a unit Gaussian by gradient descent on the negative log-likelihood.

    From step `breaks_at` on its state is NaN; from step `worsens_at` on it walks away again.
    """

    name: ClassVar[str] = "mean"
    steps: Steps = 400
    batch_size: Count = 32
    breaks_at: CountOrZero = 60_000
    worsens_at: CountOrZero = 60_000

    def init(self, key, data):
        return MeanState(jnp.full(data.shape[1], 2.0), jnp.zeros((), int))

    def step(self, key, state, batch):
        pull = jnp.mean(batch, axis=0) - state.mean
        pull = jnp.where(state.count >= self.worsens_at, 1.0, pull)
        mean = state.mean + 0.05 * pull
        mean = jnp.where(state.count >= self.breaks_at, jnp.nan, mean)
        new = MeanState(mean, state.count + 1)
        return new, MeanInfo(self.loss(key, state, batch))

    def loss(self, key, state, batch):
        return -jnp.mean(jax.vmap(lambda z: log_normal(z - state.mean))(batch))

    def model(self, state):
        return Shifted(Standardiser.identity(state.mean.shape[0]), state.mean)
