"""Curves blurred by Gaussian noise.

    x = c(t) + noise · N(0, I),   t ~ U(a, b),      p(x) = 1/(b − a) ∫ N(x; c(t), noise² I) dt.

The integral over t is Gauss–Legendre quadrature: a mixture of Gaussians along the curve.
"""

import abc
import dataclasses
import functools
import itertools
import math
from types import ModuleType
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.targets.base import Target

Times = Float[Array | np.ndarray, "*n"]
"""Values of a curve's parameter."""

Points = Float[Array | np.ndarray, "2 *n"]
"""The points of a curve at these, coordinates first."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlurredCurve(Target):
    """A curve in the plane, blurred by Gaussian noise of one standard deviation on each axis.

    A subclass has a parameter `noise` and says what its curve is: `_curve`, `_ends` and `_speed`.
    """

    if TYPE_CHECKING:  # each subclass places it among its parameters
        noise: float

    @abc.abstractmethod
    def _curve(self, t: Times, xp: ModuleType) -> Points:
        """c(t), written with the functions of `xp`: NumPy, or its counterpart in JAX."""

    @property
    @abc.abstractmethod
    def _ends(self) -> tuple[float, ...]:
        """a and b, and between them in ascending order where the curve leaps."""

    @property
    @abc.abstractmethod
    def _speed(self) -> float:
        """The greatest |c'(t)|, up to a few per cent."""

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        key_uniform, key_noise = jax.random.split(key)
        first, last = self._ends[0], self._ends[-1]
        t = first + (last - first) * jax.random.uniform(key_uniform)
        return jnp.asarray(self._curve(t, jnp)) + self.noise * jax.random.normal(key_noise, (2,))

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        curve, log_weights = _rule(self)
        squares = (x[0] - curve[0]) ** 2 + (x[1] - curve[1]) ** 2
        return jax.nn.logsumexp(log_weights - squares / (2 * self.noise**2))


@functools.cache
def _rule(target: BlurredCurve) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, " m"]]:
    """Points c(tᵢ) of the curve, and log of the weights wᵢ / ((b − a) · 2π noise²) there.

    Measured in t, the Gaussian under the integral has the width noise / |c'(t)|, so nodes are spent
    in proportion to the length of each piece in t and to the greatest speed over the noise. For the
    default spiral they are 840, and 573 already bring the error of log p below 1e-9 wherever
    p > 1e-12.
    """
    ends = target._ends
    angles, weights = [], []
    for first, last in itertools.pairwise(ends):
        length = last - first
        unit, unit_weights = np.polynomial.legendre.leggauss(
            math.ceil(40 + 1.8 * length * target._speed / target.noise)
        )
        angles.append(first + 0.5 * length * (1 + unit))
        # The weights on (−1, 1) sum to 2, so w/2 are those of the average over the piece.
        weights.append(length / (ends[-1] - ends[0]) * 0.5 * unit_weights)
    curve = np.asarray(target._curve(np.concatenate(angles), np))
    return curve, np.log(np.concatenate(weights) / (2 * math.pi * target.noise**2))
