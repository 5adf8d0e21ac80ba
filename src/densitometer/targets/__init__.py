"""Targets: distributions with a density in closed form or by one-dimensional quadrature."""

from typing import TYPE_CHECKING

from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.targets.base import Target

__all__ = ["TARGETS", "get"]

TARGETS = Registry(
    "target",
    "targets",
    {
        "spiral": "densitometer.targets.spiral:Spiral",
        "pinwheel": "densitometer.targets.pinwheel:Pinwheel",
        "checkerboard": "densitometer.targets.checkerboard:Checkerboard",
        "gaussian_mixture": "densitometer.targets.gaussian_mixture:GaussianMixture",
    },
)
"""The targets by name: a new one is one line here."""


def get(name: str) -> "Target":
    """The target called `name`.

    Raises:
        UsageError: there is none; the sentence names the nearest one.
    """
    return TARGETS[name]()
