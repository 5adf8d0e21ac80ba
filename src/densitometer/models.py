"""Models, what families fit and scorecards judge, and their capabilities.

A model always samples. Whatever else it can do is said by its *type*: a model that has a density
is a `HasDensity`, one that has a score is a `HasScore`. Code that needs a capability asks
``isinstance(model, HasDensity)``, never ``hasattr``, so that a capability is a promise with tests.

The author of a family writes the methods with a leading underscore, for one point and in the
*standardised* coordinates z = (x − shift) / scale in which families learn. The classes here turn
them into the public ones, which take one point or any batch of points x in data coordinates. Here
alone the change of coordinates is written down:

    log q(x) = log q(z) − Σ log scale,        ∇ₓ log q(x) = ∇_z log q(z) / scale.
"""

import abc
from collections.abc import Mapping
from typing import ClassVar, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.batches import CHUNK, Batch, batched, pointwise
from densitometer.counts import check_count
from densitometer.estimates import Provenance
from densitometer.numerics import pinned
from densitometer.points import check_batch

Points = Float[Array, "n d"] | Float[np.ndarray, "n d"]

__all__ = [
    "HasBound",
    "HasDensity",
    "HasDiagnostics",
    "HasEnergy",
    "HasPath",
    "HasScore",
    "Model",
    "Standardiser",
    "batched",
]


class Standardiser(eqx.Module):
    """The affine map z = (x − shift) / scale, axis by axis, learnt from the training set."""

    shift: Float[Array, " d"]
    """The training set's mean."""
    scale: Float[Array, " d"]
    """Its standard deviation, axis by axis."""

    @classmethod
    def identity(cls, dim: int) -> "Standardiser":
        """The map that changes nothing."""
        return cls(jnp.zeros(dim), jnp.ones(dim))

    @classmethod
    def from_data(cls, data: Points) -> "Standardiser":
        """The map that gives `data` zero mean and unit variance on each axis."""
        exact = np.asarray(data, np.float64)
        shift, scale = np.mean(exact, axis=0), np.std(exact, axis=0)
        return cls(jnp.asarray(shift, jnp.float32), jnp.asarray(scale, jnp.float32))

    def forward(self, x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Data coordinates to standardised ones."""
        return (x - self._like(self.shift, x)) / self._like(self.scale, x)

    def standardise(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
        """`forward` of points in float64: they become float32 when their offset is gone."""
        shift, scale = (np.asarray(a, np.float64) for a in (self.shift, self.scale))
        return ((points - shift) / scale).astype(np.float32)

    def inverse(self, z: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
        """Standardised coordinates to data ones."""
        return z * self._like(self.scale, z) + self._like(self.shift, z)

    def log_det(self) -> Float[Array, ""]:
        """log |dz/dx|, what is added to a log-density in z to give one in x."""
        return -jnp.sum(jnp.log(self.scale))

    @staticmethod
    def _like(v: Float[Array, " d"], x: Float[Array, "*n d"]) -> Float[Array, "*m d"]:
        return v.reshape((1,) * (x.ndim - 1) + v.shape)


class Model(eqx.Module):
    """A distribution to sample from; the capabilities below say what more it can do.

    Subclasses are Equinox modules: pytrees of arrays, saved and loaded leaf by leaf. `standardiser`
    is the identity until `fit` replaces it.
    """

    standardiser: eqx.AbstractVar[Standardiser]

    derived: ClassVar[tuple[str, ...]] = ("standardiser",)
    """Fields that follow from the data or from other fields: they are no parameters."""

    @abc.abstractmethod
    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        """One draw in standardised coordinates."""

    @property
    def dim(self) -> int:
        """d, the dimension of the space."""
        return self.standardiser.shift.shape[0]

    @pinned()
    def sample(self, key: Key[Scalar, ""], n: SupportsIndex) -> Float[Array, "n d"]:
        """`n` independent draws in data coordinates, float32.

        Raises:
            UsageError: `n` is no whole number above 0.
        """
        return self._samples(key, check_count(n, "n"))

    @eqx.filter_jit
    def _samples(self, key: Key[Scalar, ""], n: int) -> Float[Array, "n d"]:
        keys = jax.random.split(key, n)
        z = jax.lax.map(self._sample, keys, batch_size=min(n, CHUNK))
        return self.standardiser.inverse(z)

    def _to_standard(self, x: Batch) -> Float[Array, " d"]:
        return self.standardiser.forward(jnp.asarray(x, jnp.float32))


class HasDensity(Model):
    """A model with a normalised log-density."""

    density_provenance: ClassVar[Provenance]
    """How the density is computed, e.g. ``ode(step=0.4)``; the mass is added when measured."""

    @abc.abstractmethod
    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(z) in standardised coordinates."""

    @pinned()
    @pointwise("model")
    def log_prob(self, x: Batch) -> Float[Array, "*n"]:
        """log q(x) = log q(z) + log |dz/dx|, nats, of x in data coordinates.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return self._log_prob(self._to_standard(x)) + self.standardiser.log_det()

    @pinned()
    @pointwise("model")
    def log_prob_gradient(self, x: Batch) -> Float[Array, "*n d"]:
        """∇ₓ log q(x), the gradient of `log_prob` as it is computed, nats per unit of the data.

        By reverse differentiation, through a solver if there is one. `HasScore.score` is what a
        network says that it is.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return jax.grad(self._log_prob)(self._to_standard(x)) / self.standardiser.scale


class HasBound(Model):
    """A model with a lower bound on its log-density, estimated by sampling."""

    bound_tightens: ClassVar[bool] = True
    """Whether k samples tighten the bound (importance weights) or only steady its estimate."""

    @abc.abstractmethod
    def _log_prob_bound(
        self, key: Key[Scalar, ""], z: Float[Array, " d"], k: int
    ) -> Float[Array, ""]:
        """A one-draw estimate of the bound in standardised coordinates."""

    @pinned()
    def log_prob_bound(
        self, key: Key[Scalar, ""], x: Batch, k: SupportsIndex = 1
    ) -> Float[Array, "*n"]:
        """An unbiased estimate of a lower bound on log q(x), nats, data coordinates.

        `k` is the number of samples: k = 1 is the ELBO; a larger k is tighter if `bound_tightens`,
        else the same bound with less noise. The points of a batch have keys of their own, split
        from `key`.

        Raises:
            UsageError: `k` is no whole number above 0, or `x` is neither one point nor a batch.
        """
        k = check_count(k, "k")
        x = check_batch(x, self.dim, "model.log_prob_bound")
        if x.ndim == 1:
            return self._bound_at(k, (key, x))
        points = x.reshape(-1, self.dim)
        keys = jax.random.split(key, len(points))
        return batched(eqx.Partial(self._bound_at, k), (keys, points)).reshape(x.shape[:-1])

    def _bound_at(self, k: int, draw: tuple[Key[Scalar, ""], Batch]) -> Float[Array, ""]:
        key, x = draw
        return self._log_prob_bound(key, self._to_standard(x), k) + self.standardiser.log_det()


class HasScore(Model):
    """A model with a score, ∇ log q."""

    @abc.abstractmethod
    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇_z log q(z) in standardised coordinates."""

    @pinned()
    @pointwise("model")
    def score(self, x: Batch) -> Float[Array, "*n d"]:
        """∇ₓ log q(x) = ∇_z log q(z) / scale, nats per unit of the data.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return self._score(self._to_standard(x)) / self.standardiser.scale


class HasEnergy(HasScore):
    """A model that knows its density but for a factor: q ∝ exp(−E)."""

    @abc.abstractmethod
    def _energy(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """E(z) in standardised coordinates."""

    @pinned()
    @pointwise("model")
    def energy(self, x: Batch) -> Float[Array, "*n"]:
        """E(x) = −log q(x) up to a constant, nats, of x in data coordinates.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return self._energy(self._to_standard(x))

    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return -jax.grad(self._energy)(z)


class HasDiagnostics(Model):
    """A model that measures what its draws cost, or how well its sampler worked."""

    @abc.abstractmethod
    def diagnostics(self, key: Key[Scalar, ""], n: int) -> Mapping[str, Float[Array, " n"]]:
        """Numbers of each of `n` draws by the name of their metric (``acceptance``, ``nfe``)."""


class HasPath(Model):
    """A model whose sampling unfolds over time, for pictures."""

    @abc.abstractmethod
    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        """The path of one draw from noise (first) to sample (last), standardised coordinates."""

    @pinned()
    def path(
        self, key: Key[Scalar, ""], n: SupportsIndex, frames: SupportsIndex
    ) -> Float[Array, "frames n d"]:
        """The paths of `n` draws in data coordinates, noise first.

        Raises:
            UsageError: `n` is no whole number above 0, or `frames` none above 1.
        """
        return self._paths(key, check_count(n, "n"), check_count(frames, "frames", 2))

    @eqx.filter_jit
    def _paths(self, key: Key[Scalar, ""], n: int, frames: int) -> Float[Array, "frames n d"]:
        paths = jax.vmap(lambda k: self._path(k, frames))(jax.random.split(key, n))
        return jnp.swapaxes(self.standardiser.inverse(paths), 0, 1)
