"""A pinwheel of curved arms."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.estimates import Estimate, Provenance
from densitometer.targets.base import Box, Target
from densitometer.targets.certificate import Certificate

DEFAULT = Certificate(
    Estimate(-0.09190466, 1e-8, Provenance("quadrature")),
    Estimate(-5.145, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pinwheel(Target):
    """Three arms, each turning as it runs from the centre to the unit circle.

    With an arm j uniform among 0, …, arms − 1, a radius r ~ U(0, 1) and an angle
    t = twist · (j + r) + noise · N(0, 1), the point is x = (r sin t, r cos t), so that

        p(x) = 1/r · 1/arms Σ_j WN(t; twist · (j + r), noise²)        on r ≤ 1, and 0 beyond.

    WN is the wrapped normal density. 1/r is the Jacobian of polar coordinates: a pole at 0 that
    integrates to 1, where `log_prob` is +∞.
    """

    name: ClassVar[str] = "pinwheel"
    label: ClassVar[str] = "Pinwheel"
    in_prose: ClassVar[str] = "the pinwheel"
    dim: ClassVar[int] = 2
    smooth: ClassVar[bool] = False

    arms: int = 3
    """Number of arms, equally likely."""

    twist: float = 4.0
    """Radians an arm turns from the centre to the edge, and the angle from one arm to the next."""

    noise: float = 0.2
    """Standard deviation of the angle within an arm, radians."""

    @property
    def box(self) -> Box:
        """That of the unit disc, whatever the parameters."""
        return (-1.0, -1.0), (1.0, 1.0)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == Pinwheel() else super().certificate

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        key_uniform, key_noise = jax.random.split(key)
        u = jax.random.uniform(key_uniform, (2,))
        arm = jnp.floor(self.arms * u[0])
        # A few rounding units away from 0 and 1, lest a float32 point fall on the pole or off
        # the disc, where log p is infinite.
        radius = jnp.clip(u[1], 2**-22, 1 - 2**-22)
        angle = self.twist * (arm + radius) + self.noise * jax.random.normal(key_noise)
        return radius * jnp.stack([jnp.sin(angle), jnp.cos(angle)])

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        square = x[0] ** 2 + x[1] ** 2
        at_pole = square == 0
        # Derivatives at the pole do not exist; a stand-in keeps NaN out of them.
        u, v = jnp.where(at_pole, 1.0, x[0]), jnp.where(at_pole, 0.0, x[1])
        radius = jnp.hypot(u, v)
        turned = jnp.arctan2(u, v) - self.twist * radius
        log_p = self._log_angular(turned) - jnp.log(radius)
        return jnp.where(at_pole, jnp.inf, jnp.where(square <= 1, log_p, -jnp.inf))

    def _log_angular(self, turned: Float[Array, ""]) -> Float[Array, ""]:
        """The log of 1/arms Σ_j WN(turned; twist · j, noise²): the density of t − twist · r."""
        offset = turned - self.twist * np.arange(self.arms, dtype=np.float64)
        nearest = jnp.remainder(offset + math.pi, 2 * math.pi) - math.pi
        # Each winding more either way covers 2π of the tails; what is left out is below e^(−40).
        more = max(1, math.ceil(9 * self.noise / (2 * math.pi) - 0.5))
        windings = 2 * math.pi * np.arange(-float(more), more + 1.0)
        logits = -0.5 * ((nearest[:, None] + windings[None, :]) / self.noise) ** 2
        constant = math.log(self.arms) + math.log(self.noise) + 0.5 * math.log(2 * math.pi)
        return jax.nn.logsumexp(logits) - constant
