"""A ring of Gaussians."""

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
    Estimate(0.54321751, 1e-8, Provenance("quadrature")),
    Estimate(-6.450, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GaussianMixture(Target):
    """Seven equal Gaussians, evenly spaced on a circle.

    With means μ_k = radius · (cos φ_k, sin φ_k) at φ_k = 2πk / components,

        p(x) = 1/components Σ_k N(x; μ_k, noise² I).
    """

    name: ClassVar[str] = "gaussian_mixture"
    label: ClassVar[str] = "Gaussian mixture"
    in_prose: ClassVar[str] = "the Gaussian mixture"
    dim: ClassVar[int] = 2

    components: int = 7
    """Number of Gaussians, equally likely."""

    radius: float = 1.2
    """Radius of the circle of means."""

    noise: float = 0.12
    """Standard deviation of each Gaussian on each axis."""

    @property
    def box(self) -> Box:
        """Centred at 0; it follows from radius and noise."""
        return square_box(self.radius, self.noise)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == GaussianMixture() else super().certificate

    @property
    def modes(self) -> tuple[Float[np.ndarray, "modes 2"], Float[np.ndarray, " modes"]]:
        """The means, all of the same weight."""
        angle = 2 * math.pi / self.components * np.arange(self.components)
        centres = self.radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return centres, np.full(self.components, 1 / self.components)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        key_uniform, key_noise = jax.random.split(key)
        component = jnp.floor(self.components * jax.random.uniform(key_uniform))
        angle = 2 * math.pi / self.components * component
        mean = self.radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return mean + self.noise * jax.random.normal(key_noise, (2,))

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        squares = jnp.sum((x[None] - self.modes[0]) ** 2, axis=1)
        constant = math.log(self.components * 2 * math.pi * self.noise**2)
        return jax.nn.logsumexp(-squares / (2 * self.noise**2)) - constant
