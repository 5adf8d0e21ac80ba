"""What a target is."""

import abc
import dataclasses
import functools
import math
from collections.abc import Callable
from typing import ClassVar, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.batches import Batch, pointwise
from densitometer.counts import check_count
from densitometer.estimates import Estimate
from densitometer.numerics import pinned
from densitometer.targets.certificate import Certificate, certificate_of

__all__ = ["Target"]

FAR = 1e6
"""Points further out on an axis are judged as if they were here, where log p is below −1e13.

A compiled program computes the exponents of a log-sum-exp twice, for their maximum and for their
sum, and may round them differently; further out the two differ by more than 1, and the largest
term overflows: log p of a point of a diverged model would be +∞.
"""


CHUNK = 500
"""Points drawn by one call of a compiled program."""

TAIL = 6.4
"""Standard deviations beyond which a Gaussian has 1.6e-10 of its mass on an axis, both ends."""

Box = tuple[tuple[float, ...], tuple[float, ...]]
"""The lower and the upper corner."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(abc.ABC):
    """A law p on R^d that is known exactly.

    A target is a frozen dataclass of the parameters of its law. The author of a new one writes
    `_sample` and `_log_prob`, both for a single point, and states `name`, `dim`, `smooth` if it is
    not, and `box`, which follows from the parameters. Entropy and density level are those of these
    parameters too, and need not be stated: they are found by `certify` when they are first asked
    for, which takes seconds, and cached. Who knows them exactly overrides `certificate`. A target
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

    dim: ClassVar[int]
    """d, the dimension of the space."""

    smooth: ClassVar[bool] = True
    """Whether the density is differentiable and vanishes towards its border: what the Fisher
    divergence needs."""

    @property
    @abc.abstractmethod
    def box(self) -> Box:
        """(lower, upper) corners of a box with more than 1 − 1e-9 of the mass; pictures fill it."""

    @property
    def certificate(self) -> Certificate:
        """Entropy and density level of the law with these parameters.

        Raises:
            UsageError: draws and density contradict each other, or the box.
        """
        return certificate_of(self)

    @property
    def entropy(self) -> Estimate:
        """H(p) = −E_p[log p] in nats, with its error."""
        return self.certificate.entropy

    @property
    def hdr_log_density(self) -> float:
        """log of the density level whose upper set, {p ≥ level}, has 99.9 % of the mass.

        A sample below it is off the support. For a uniform law it is just below the density.
        """
        return self.certificate.hdr_log_density.value

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

    @pointwise("target")
    def log_prob(self, x: Batch) -> Float[Array, "*n"]:
        """The normalised log-density log p(x), nats; −inf off the support.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return self._in_float64(_log_prob, x)

    @pointwise("target")
    def score(self, x: Batch) -> Float[Array, "*n d"]:
        """∇ log p(x) by automatic differentiation, where the density is smooth.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return self._in_float64(jax.grad(_log_prob, argnums=1), x)

    def _in_float64(
        self, function: Callable[["Target", Array], Array], x: Batch
    ) -> Float[Array, "..."]:
        with jax.enable_x64(True):
            return function(self, jnp.asarray(x).astype(jnp.float64)).astype(jnp.float32)


def square(reach: float, noise: float) -> Box:
    """A box in the plane, centred at 0, for points up to `reach` from it that Gaussian noise moves.

    It leaves room for `TAIL` standard deviations, and is rounded up to two significant digits.
    """
    half = reach + TAIL * noise
    digit = 10.0 ** (1 - math.floor(math.log10(half)))
    half = math.ceil(half * digit) / digit
    return (-half, -half), (half, half)


# Compiled once a law, not once an instance: laws with equal parameters are equal and hash alike.


@functools.partial(jax.jit, static_argnums=0)
def _sample(law: Target, keys: Key[Array, " n"]) -> Float[Array, "n d"]:
    return jax.vmap(law._sample)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _log_prob(law: Target, x: Float[Array, " d"]) -> Float[Array, ""]:
    return law._log_prob(jnp.clip(x, -FAR, FAR))
