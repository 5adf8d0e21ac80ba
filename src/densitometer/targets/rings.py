"""Concentric circles with Gaussian noise.

Four circles of equal weight, as in FFJORD (Grathwohl et al., 2019, arXiv 1810.01367), whose radii
and noise are the default ones.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.estimates import Estimate, Provenance
from densitometer.targets.base import Box, Target, square_box
from densitometer.targets.certificate import Certificate

DEFAULT = Certificate(
    Estimate(2.62318277, 1e-8, Provenance("quadrature")),
    Estimate(-7.669, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""

_ORDERS = np.arange(1.0, 13.0)
HANKEL = np.cumprod([1.0, *((2 * _ORDERS - 1) ** 2 / (8 * _ORDERS))])
"""Coefficients of 1, 1/z, 1/z², … in Hankel's expansion of √(2πz) e^(−z) I₀(z)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rings(Target):
    """Four concentric circles, blurred by Gaussian noise.

    With radii R_k = radius · k / count, k = 1, …, count, all of the same weight, so that a smaller
    circle has a greater density along it, and r = ‖x‖,

        p(x) = 1/count Σ_k 1/(2π noise²) exp(−(r² + R_k²) / (2 noise²)) I₀(r R_k / noise²).

    I₀ is the modified Bessel function: the mean of exp(z cos φ) over the angle φ is I₀(z).
    """

    name: ClassVar[str] = "rings"
    label: ClassVar[str] = "Rings"
    in_prose: ClassVar[str] = "the rings"
    dim: ClassVar[int] = 2

    count: int = 4
    """Number of circles, equally likely."""

    radius: float = 3.0
    """Radius of the outermost circle; those within are evenly spaced down to the centre."""

    noise: float = 0.08
    """Standard deviation of the noise on each axis."""

    @property
    def box(self) -> Box:
        """Centred at 0; it follows from the outermost circle and the noise."""
        return square_box(self.radius, self.noise)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == Rings() else super().certificate

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        key_uniform, key_noise = jax.random.split(key)
        u = jax.random.uniform(key_uniform, (2,))
        radius = self.radius / self.count * (1 + jnp.floor(self.count * u[0]))
        angle = 2 * math.pi * u[1]
        on_circle = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return on_circle + self.noise * jax.random.normal(key_noise, (2,))

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        square = x[0] ** 2 + x[1] ** 2
        at_centre = square == 0
        # The root has no derivative at the centre, where p has: it is level there.
        r = jnp.where(at_centre, 0.0, jnp.sqrt(jnp.where(at_centre, 1.0, square)))
        radii = self.radius / self.count * np.arange(1.0, self.count + 1)
        # The exponent of e^(−z) I₀(z), z = r R / noise², completes the square.
        logits = _log_i0e(r * radii / self.noise**2) - 0.5 * ((r - radii) / self.noise) ** 2
        return jax.nn.logsumexp(logits) - math.log(self.count * 2 * math.pi * self.noise**2)


def _log_i0e(z: Float[Array, " n"]) -> Float[Array, " n"]:
    """log(e^(−z) I₀(z)) for z ≥ 0, to 1e-14.

    Up to z = 50 by the midpoint rule for the mean of exp(z (cos φ − 1)) over φ, where its error is
    rounding; further out by Hankel's expansion (DLMF 10.32.1 and 10.40.1). JAX's own `i0e` is of
    single precision wherever a caller compiles it without 64-bit types.
    """
    near = z < 50
    small, large = jnp.where(near, z, 0.0), jnp.where(near, 50.0, z)
    cosines = np.cos(np.pi * (np.arange(32) + 0.5) / 32)
    mean = jnp.mean(jnp.exp(small[:, None] * (cosines[None] - 1)), axis=1)
    expansion = jnp.polyval(HANKEL[::-1], 1 / large) / jnp.sqrt(2 * math.pi * large)
    return jnp.log(jnp.where(near, mean, expansion))
