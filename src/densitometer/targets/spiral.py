"""A noisy Archimedean spiral."""

import dataclasses
import functools
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
    Estimate(0.18020601, 1e-8, Provenance("quadrature")),
    Estimate(-5.304, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spiral(Target):
    """A spiral of three turns, blurred by Gaussian noise.

    With θ ~ U(0, Θ), Θ = 2π · turns, and c(θ) = growth · θ (cos θ, sin θ),

        x = c(θ) + noise · N(0, I),        p(x) = 1/Θ ∫₀^Θ N(x; c(θ), noise² I) dθ.

    The integral over θ is Gauss–Legendre quadrature (`_rule`).
    """

    name: ClassVar[str] = "spiral"
    label: ClassVar[str] = "Spiral"
    in_prose: ClassVar[str] = "the spiral"
    dim: ClassVar[int] = 2

    turns: float = 3.0
    """Turns from the centre to the outer end."""

    growth: float = 0.05
    """Radius gained per radian; neighbouring arms are 2π · growth apart."""

    noise: float = 0.04
    """Standard deviation of the noise on each axis."""

    @property
    def box(self) -> Box:
        """Centred at 0; it follows from the outer end of the curve and the noise."""
        return square_box(self.growth * 2 * math.pi * self.turns, self.noise)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == Spiral() else super().certificate

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        key_uniform, key_noise = jax.random.split(key)
        angle = 2 * math.pi * self.turns * jax.random.uniform(key_uniform)
        on_curve = self.growth * angle * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return on_curve + self.noise * jax.random.normal(key_noise, (2,))

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        curve, log_weights = _rule(self)
        squares = (x[0] - curve[0]) ** 2 + (x[1] - curve[1]) ** 2
        return jax.nn.logsumexp(log_weights - squares / (2 * self.noise**2))


@functools.cache
def _rule(target: Spiral) -> tuple[Float[np.ndarray, "2 m"], Float[np.ndarray, " m"]]:
    """Points c(θᵢ) of the curve, and log of the weights wᵢ / (Θ · 2π noise²) of their Gaussians.

    Measured in θ, the Gaussian under the integral has the width noise / |c'(θ)| and is narrowest
    on the outer arm, so nodes are spent in proportion to Θ² · growth / noise. By default they are
    840, and 573 already bring the error of log p below 1e-9 wherever p > 1e-12.
    """
    length = 2 * math.pi * target.turns
    nodes, weights = np.polynomial.legendre.leggauss(
        math.ceil(40 + 1.8 * length**2 * target.growth / target.noise)
    )
    angle = 0.5 * length * (1 + nodes)
    curve = target.growth * angle * np.stack([np.cos(angle), np.sin(angle)])
    # The weights on (−1, 1) sum to 2, so w/2 are those of the average over θ.
    return curve, np.log(0.5 * weights / (2 * math.pi * target.noise**2))
