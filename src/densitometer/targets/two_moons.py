"""Two interlocking half circles with Gaussian noise.

The layout is that of scikit-learn's ``make_moons``, centred at 0; its noise of 0.1 is that of
FFJORD (Grathwohl et al., 2019, arXiv 1810.01367).
"""

import dataclasses
import math
from types import ModuleType
from typing import ClassVar

from densitometer.estimates import Estimate, Provenance
from densitometer.targets.base import Box, square_box
from densitometer.targets.blurred_curve import BlurredCurve, Points, Times
from densitometer.targets.certificate import Certificate

DEFAULT = Certificate(
    Estimate(1.00758483, 1e-8, Provenance("quadrature")),
    Estimate(-5.931, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TwoMoons(BlurredCurve):
    """Two interlocking half circles, blurred by Gaussian noise.

    With t ~ U(0, 2π) and c(t) = radius · ((cos t, sin t) ± (1/2, 1/4)), the sign − where t < π, on
    the upper half circle, and + beyond,

        x = c(t) + noise · N(0, I),        p(x) = 1/2π ∫₀^2π N(x; c(t), noise² I) dt.
    """

    name: ClassVar[str] = "two_moons"
    label: ClassVar[str] = "Two moons"
    in_prose: ClassVar[str] = "the two moons"
    dim: ClassVar[int] = 2

    radius: float = 1.0
    """Radius of both half circles; their centres are (radius, radius / 2) apart."""

    noise: float = 0.1
    """Standard deviation of the noise on each axis."""

    @property
    def box(self) -> Box:
        """Centred at 0; it follows from the outer ends of the half circles and the noise."""
        return square_box(1.5 * self.radius, self.noise)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == TwoMoons() else super().certificate

    def _curve(self, t: Times, xp: ModuleType) -> Points:
        sign = xp.where(t < math.pi, -1.0, 1.0)
        return self.radius * xp.stack([xp.cos(t) + sign / 2, xp.sin(t) + sign / 4])

    @property
    def _ends(self) -> tuple[float, float, float]:
        return 0.0, math.pi, 2 * math.pi

    @property
    def _speed(self) -> float:
        return self.radius
