"""A noisy Archimedean spiral."""

import dataclasses
import math
from types import ModuleType
from typing import ClassVar

from densitometer.estimates import Estimate, Provenance
from densitometer.targets.base import Box, square_box
from densitometer.targets.blurred_curve import BlurredCurve, Points, Times
from densitometer.targets.certificate import Certificate

DEFAULT = Certificate(
    Estimate(0.18020601, 1e-8, Provenance("quadrature")),
    Estimate(-5.304, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spiral(BlurredCurve):
    """A spiral of three turns, blurred by Gaussian noise.

    With θ ~ U(0, Θ), Θ = 2π · turns, and c(θ) = growth · θ (cos θ, sin θ),

        x = c(θ) + noise · N(0, I),        p(x) = 1/Θ ∫₀^Θ N(x; c(θ), noise² I) dθ.
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

    def _curve(self, t: Times, xp: ModuleType) -> Points:
        return self.growth * t * xp.stack([xp.cos(t), xp.sin(t)])

    @property
    def _ends(self) -> tuple[float, float]:
        return 0.0, 2 * math.pi * self.turns

    @property
    def _speed(self) -> float:
        return self.growth * 2 * math.pi * self.turns
