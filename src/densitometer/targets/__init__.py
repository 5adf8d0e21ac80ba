"""Targets: distributions with a density in closed form or by one-dimensional quadrature."""

from typing import TYPE_CHECKING

from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.targets.base import Target

__all__ = ["STUDIED", "TARGETS", "get"]

TARGETS = Registry(
    "target",
    "targets",
    {
        "spiral": "densitometer.targets.spiral:Spiral",
        "pinwheel": "densitometer.targets.pinwheel:Pinwheel",
        "checkerboard": "densitometer.targets.checkerboard:Checkerboard",
        "gaussian_mixture": "densitometer.targets.gaussian_mixture:GaussianMixture",
        "two_moons": "densitometer.targets.two_moons:TwoMoons",
        "rings": "densitometer.targets.rings:Rings",
        "swiss_roll": "densitometer.targets.swiss_roll:SwissRoll",
    },
)
"""The targets by name: a new one is one line here."""

STUDIED: tuple[str, ...] = ("spiral", "pinwheel", "checkerboard", "gaussian_mixture")
"""Those of a study that names none. The families' hyper-parameters were chosen on them, so what
carries over to other distributions is seen on the rest of `TARGETS`."""


def get(name: str) -> "Target":
    """The target called `name`.

    Raises:
        UsageError: there is none; the sentence names the nearest one.
    """
    return TARGETS[name]()
