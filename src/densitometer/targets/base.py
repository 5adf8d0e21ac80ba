"""Targets, distributions that are known exactly: a sampler, a normalised density, a certificate."""

import abc
import contextlib
import dataclasses
import functools
import math
from collections.abc import Iterator
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
"""Points further out on an axis are evaluated as if they were here: there log p is below −1e13.

A compiled program computes the exponents of a log-sum-exp twice, for their maximum and for their
sum, and may round them differently; further out the two differ by more than 1, and the largest
term overflows: log p of a point of a diverged model would be +∞.
"""

CHUNK = 500
"""Points drawn by one call of a compiled program."""

TAIL = 6.4
"""Standard deviations beyond which a Gaussian has 1.6e-10 of its mass on an axis, both ends."""

Box = tuple[tuple[float, ...], tuple[float, ...]]
"""The lower and the upper corner of an axis-parallel box, data coordinates."""


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """Around all of a call, so that a batch is compiled with 64-bit types too."""
    with jax.enable_x64(True):
        yield


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target(abc.ABC):
    """A distribution p on R^d that is known exactly.

    A target is a frozen dataclass of its parameters. The author of a new one writes `_sample` and
    `_log_prob`, both for a single point, and states `name`, `dim`, `box`, which follows from the
    parameters, and `smooth = False` if the density is not. Entropy and density level need not be
    stated: `certify` finds those of these parameters when they are first asked for, which takes
    seconds, and they are cached. A target for which they are known exactly overrides `certificate`.

    Points are float32, and so are the numbers returned, but `_log_prob` runs in float64, whatever
    the caller's precision: a curve of width 0.04 seen from seven standard deviations
    away loses 1e-4 nats to float32.
    """

    name: ClassVar[str]
    """The target's name in its registry, in folders and in tables."""

    label: ClassVar[str] = ""
    """What people read, as in "Gaussian mixture"; if empty, the name. A literal: it is read from
    source."""

    in_prose: ClassVar[str] = ""
    """The label within a sentence, as in "the Gaussian mixture"; if empty, the label. A literal."""

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
        """Entropy and density level for these parameters, with their errors.

        Raises:
            UsageError: draws contradict the density, or the box.
        """
        return certificate_of(self)

    @property
    def entropy(self) -> Estimate:
        """H(p) = −E_p[log p] in nats, with its error."""
        return self.certificate.entropy

    @property
    def hdr_log_density(self) -> float:
        """log of the density level whose upper set, {p ≥ level}, has 99.9 % of the mass.

        A sample below it is off the support. The level of a uniform distribution is just below its
        density.
        """
        return self.certificate.hdr_log_density.value

    @property
    def modes(self) -> tuple[Float[np.ndarray, "modes d"], Float[np.ndarray, " modes"]] | None:
        """Centres and weights of separate modes, where there are some."""
        return None

    @abc.abstractmethod
    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        """One draw, float32."""

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

    @_float64()
    @pointwise("target")
    def log_prob(self, x: Batch) -> Float[Array, "*n"]:
        """The normalised log-density log p(x), nats; −inf off the support.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return _log_prob(self, jnp.asarray(x, jnp.float64)).astype(jnp.float32)

    @_float64()
    @pointwise("target")
    def score(self, x: Batch) -> Float[Array, "*n d"]:
        """∇ log p(x) by automatic differentiation, where the density is smooth.

        Raises:
            UsageError: `x` is neither one point nor a batch of them.
        """
        return jax.grad(_log_prob, argnums=1)(self, jnp.asarray(x, jnp.float64)).astype(jnp.float32)


def square_box(reach: float, noise: float) -> Box:
    """A square centred at 0 for points at a distance of up to `reach`, blurred by Gaussian noise.

    `noise` is the standard deviation on each axis. The square leaves room for `TAIL` of them, and
    is rounded up to two significant digits.
    """
    half = reach + TAIL * noise
    digit = 10.0 ** (1 - math.floor(math.log10(half)))
    half = math.ceil(half * digit) / digit
    return (-half, -half), (half, half)


# Compiled once for all instances of equal parameters: they are equal and have the same hash.


@functools.partial(jax.jit, static_argnums=0)
def _sample(target: Target, keys: Key[Array, " n"]) -> Float[Array, "n d"]:
    return jax.vmap(target._sample)(keys)


@functools.partial(jax.jit, static_argnums=0)
def _log_prob(target: Target, x: Float[Array, " d"]) -> Float[Array, ""]:
    return target._log_prob(jnp.clip(x, -FAR, FAR))
