"""A Swiss roll in cross-section: a spiral that begins away from its centre.

It is scikit-learn's ``make_swiss_roll`` without its middle coordinate, on a fifth of its scale and
with a noise of 1 on the whole, as in FFJORD (Grathwohl et al., 2019, arXiv 1810.01367).
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
    Estimate(2.66964617, 1e-8, Provenance("quadrature")),
    Estimate(-7.322, 5e-4, Provenance("quadrature")),
)
"""Of the default parameters, by ``benchmarks/target_constants.py``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SwissRoll(BlurredCurve):
    """A wide spiral of one and a half turns around an empty centre, blurred by Gaussian noise.

    With t ~ U(a, b), a = 2π · start, b = a + 2π · turns, and c(t) = growth · t (cos t, sin t),

        x = c(t) + noise · N(0, I),        p(x) = 1/(b − a) ∫ₐᵇ N(x; c(t), noise² I) dt.
    """

    name: ClassVar[str] = "swiss_roll"
    label: ClassVar[str] = "Swiss roll"
    in_prose: ClassVar[str] = "the Swiss roll"
    dim: ClassVar[int] = 2

    start: float = 0.75
    """Turns from the origin to the inner end, which are left out."""

    turns: float = 1.5
    """Turns from the inner end to the outer one."""

    growth: float = 0.2
    """Radius gained per radian; neighbouring arms are 2π · growth apart."""

    noise: float = 0.2
    """Standard deviation of the noise on each axis."""

    @property
    def box(self) -> Box:
        """Centred at 0; it follows from the outer end of the curve and the noise."""
        return square_box(self.growth * self._ends[1], self.noise)

    @property
    def certificate(self) -> Certificate:
        """Shipped for the default parameters."""
        return DEFAULT if self == SwissRoll() else super().certificate

    def _curve(self, t: Times, xp: ModuleType) -> Points:
        return self.growth * t * xp.stack([xp.cos(t), xp.sin(t)])

    @property
    def _ends(self) -> tuple[float, float]:
        return 2 * math.pi * self.start, 2 * math.pi * (self.start + self.turns)

    @property
    def _speed(self) -> float:
        return self.growth * math.hypot(1, self._ends[1])
