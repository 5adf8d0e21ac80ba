"""What a target is."""

import abc
import dataclasses
import functools
from collections.abc import Callable
from typing import ClassVar, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.counts import check_count
from densitometer.estimates import Estimate
from densitometer.numerics import pinned
from densitometer.points import check_point

__all__ = ["Target"]

FAR = 1e6
"""Points further out on an axis are judged as if they were here, where log p is below −1e13.

A compiled program computes the exponents of a log-sum-exp twice, for their maximum and for their
sum, and may round them differently; further out the two differ by more than 1, and the largest
term overflows: log p of a point of a diverged model would be +∞.
"""


CHUNK = 500
"""Points drawn by one call of a compiled program."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(abc.ABC):
    """A law p on R^d that is known exactly.

    A target is a frozen dataclass of the parameters of its law. The author of a new one writes
    `_sample` and `_log_prob`, both for a single point, and states four facts: `name`, `box`,
    `entropy` and `hdr_log_density`, the last three of the law with its default parameters. It
    knows nothing of models or training.

    Points are float32, and so are the numbers that leave, but `_log_prob` runs in float64,
    whatever the caller's precision: a curve of width 0.04 seen from seven standard deviations
    away loses 1e-4 nats to float32.
    """

    name: ClassVar[str]
    """The target's name in its registry, in folders and in tables."""

    label: ClassVar[str] = ""
    """What people read, as in "Gaussian mixture"; if empty, the name. A literal: it is read from
    source."""

    box: ClassVar[tuple[tuple[float, ...], tuple[float, ...]]]
    """(lower, upper) corners of a box with more than 1 − 1e-9 of the mass; pictures fill it."""

    entropy: ClassVar[Estimate]
    """H(p) = −E_p[log p] in nats, with its error."""

    hdr_log_density: ClassVar[float]
    """log of the density level whose upper set, {p ≥ level}, has 99.9 % of the mass; a sample
    below it is off the support. For a uniform law the level is just below the density."""

    smooth: ClassVar[bool] = True
    """Whether the density is differentiable and vanishes towards its border: what the Fisher
    divergence needs."""

    @property
    def modes(self) -> tuple[Float[np.ndarray, "modes d"], Float[np.ndarray, " modes"]] | None:
        """Centres and weights of separate modes, where the law has them."""
        return None

    @abc.abstractmethod
    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        """One draw from the law, float32."""

    @abc.abstractmethod
    def _log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The log-density at x, called with float64 `x` while 64-bit types are enabled."""

    @property
    def dim(self) -> int:
        """d, the dimension of the space."""
        return len(self.box[0])

    def sample(self, key: Key[Scalar, ""], n: SupportsIndex) -> Float[Array, "{n} d"]:
        """`n` independent draws, float32; the same ones whether or not 64-bit types are enabled.

        The first draws of many are those of few. One compiled program serves all n.

        Raises:
            UsageError: `n` is no whole number above 0.
        """
        n = check_count(n, "n")
        with pinned():
            keys = jax.random.split(key, -(-n // CHUNK) * CHUNK)
            chunks = [_sample(self, keys[i : i + CHUNK]) for i in range(0, len(keys), CHUNK)]
            return jnp.concatenate(chunks)[:n]

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The normalised log-density log p(x) of one point, in nats; −inf off the support.

        Raises:
            UsageError: `x` is not one point of dimension d, of real numbers.
        """
        return self._in_float64(_log_prob, x, "log_prob")

    def score(self, x: Float[Array, " d"]) -> Float[Array, " d"]:
        """∇ log p(x) of one point, by automatic differentiation, where the density is smooth.

        Raises:
            UsageError: `x` is not one point of dimension d, of real numbers.
        """
        return self._in_float64(jax.grad(_log_prob, argnums=1), x, "score")

    def _in_float64(
        self, function: Callable[["Target", Array], Array], x: Float[Array, "..."], method: str
    ) -> Float[Array, "..."]:
        x = check_point(x, self.dim, f"target.{method}")
        with jax.enable_x64(True):
            return function(self, jnp.asarray(x).astype(jnp.float64)).astype(jnp.float32)


# Compiled once a law, not once an instance: laws with equal parameters are equal and hash alike.


@functools.partial(jax.jit, static_argnums=0)
def _sample(law: Target, keys: Key[Array, " n"]) -> Float[Array, "n d"]:
    return jax.vmap(law._sample)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _log_prob(law: Target, x: Float[Array, " d"]) -> Float[Array, ""]:
    return law._log_prob(jnp.clip(x, -FAR, FAR))
