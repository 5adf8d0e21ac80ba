"""Print the entropy and the 99.9 % density level of every target, by accurate quadrature.

These are the constants in `densitometer.targets`, of the default parameters; for any other ones
`densitometer.targets.certificate` draws samples. Each is computed at two resolutions; the
difference is the error of the coarser one, hence a generous bound on that of the finer one, which
is printed. Three minutes on one core, 2 GB of memory; of some targets only:

    python benchmarks/target_constants.py
    python benchmarks/target_constants.py --targets rings
"""

import argparse
import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float

from densitometer import targets
from densitometer.targets.base import Target

OUTSIDE = 1e-3
"""The mass below the density level."""


class Constants(NamedTuple):
    """What is computed of a target; the mass, which should be 1, judges the quadrature."""

    mass: float
    entropy: float
    hdr_log_density: float


def log_density(
    target: Target, points: Float[np.ndarray, "n d"], at_once: int = 4096
) -> Float[np.ndarray, " n"]:
    """The log-density in float64, without the rounding to float32 of the public method."""
    with jax.enable_x64(True):
        return np.asarray(jax.lax.map(target._log_prob, points, batch_size=at_once))


def on_plane(target: Target, step: float) -> Constants:
    """A square grid over the box and a margin.

    For a smooth law that vanishes at the edges, the trapezoidal rule converges faster than any
    power of the step, so mass and entropy are good to rounding. The mass below a level is not
    smooth in the grid, and converges only like step^1.5.
    """
    (lower, _), (upper, _) = target.box
    axis = np.arange(lower - 0.3, upper + 0.3, step)
    log_p = log_density(target, np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2))
    p = np.exp(log_p)
    order = np.argsort(log_p)
    # Half of a cell counts as below its own level.
    below = step**2 * (np.cumsum(p[order]) - 0.5 * p[order])
    level = np.interp(OUTSIDE, below, log_p[order])
    return Constants(step**2 * p.sum(), -(step**2) * (p * log_p).sum(), float(level))


def on_circle(target: Target, points: int) -> Constants:
    """The pinwheel in the coordinates r and s = t − twist · r, where p = g(s) / r.

    The entropy is −∫ g log g ds + E[log r], with E[log r] = −1. The mass below the level e^ℓ is
    that of g(s) / r < e^ℓ, that is ∫ g(s) max(0, 1 − g(s) e^−ℓ) ds, solved for ℓ by bisection.
    """
    angle = 2 * math.pi / points * np.arange(points)
    radius = 0.5
    log_p = log_density(target, radius * np.stack([np.sin(angle), np.cos(angle)], axis=-1))
    log_g = log_p + math.log(radius)
    g, weight = np.exp(log_g), 2 * math.pi / points
    low, high = -20.0, 20.0
    while high - low > 1e-12:
        level = 0.5 * (low + high)
        below = weight * (g * np.maximum(0.0, 1 - g * math.exp(-level))).sum()
        low, high = (level, high) if below < OUTSIDE else (low, level)
    return Constants(weight * g.sum(), -weight * (g * log_g).sum() - 1.0, high)


def main() -> None:
    methods = {
        "spiral": (on_plane, 1 / 800, 1 / 1300),
        "pinwheel": (on_circle, 100_000, 1_000_000),
        "gaussian_mixture": (on_plane, 1 / 600, 1 / 1000),
        "two_moons": (on_plane, 1 / 700, 1 / 1200),
        "rings": (on_plane, 1 / 400, 1 / 700),
        "swiss_roll": (on_plane, 1 / 250, 1 / 400),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--targets", nargs="+", choices=list(methods), default=list(methods))
    for name in parser.parse_args().targets:
        method, coarse, fine = methods[name]
        target = targets.get(name)
        first, second = method(target, coarse), method(target, fine)
        print(target)
        for field, a, b in zip(Constants._fields, first, second, strict=True):
            print(f"  {field:16} {b:+.10f} ± {abs(a - b):.1e}")
    print("checkerboard: exact, log 32 =", math.log(32))


if __name__ == "__main__":
    main()
