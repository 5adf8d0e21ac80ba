"""What the targets are held against: quadrature cells, and densities written a second time.

Nothing here calls the package, so that a slip in a law cannot excuse itself.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import i0e


class Cells(NamedTuple):
    """Cells that cover a law, each with a quadrature rule.

    `locate` gives the index of the cell that holds a point, −1 if none does.
    """

    points: np.ndarray  # (cells, nodes, 2)
    weights: np.ndarray  # (cells, nodes), of dx dy
    locate: Callable[[np.ndarray], np.ndarray]


def grid_cells(first: np.ndarray, second: np.ndarray, nodes: int):
    """Gauss–Legendre nodes, weights and locator of a grid of rectangles with these edges."""
    unit, unit_weight = np.polynomial.legendre.leggauss(nodes)

    def along(edges):
        half, middle = 0.5 * np.diff(edges), 0.5 * (edges[1:] + edges[:-1])
        return middle[:, None] + half[:, None] * unit, half[:, None] * unit_weight

    (u, du), (v, dv) = along(first), along(second)
    shape = (len(u), len(v), nodes, nodes)
    points = np.stack(
        [
            np.broadcast_to(u[:, None, :, None], shape),
            np.broadcast_to(v[None, :, None, :], shape),
        ],
        axis=-1,
    )
    weights = du[:, None, :, None] * dv[None, :, None, :]

    def locate(points):
        i = np.searchsorted(first, points[:, 0], side="right") - 1
        j = np.searchsorted(second, points[:, 1], side="right") - 1
        inside = (i >= 0) & (i < len(u)) & (j >= 0) & (j < len(v))
        return np.where(inside, i * len(v) + j, -1)

    return points.reshape(-1, nodes**2, 2), weights.reshape(-1, nodes**2), locate


def square_cells(half_width: float, cell: float, nodes: int) -> Cells:
    edges = cell * np.arange(-round(half_width / cell), round(half_width / cell) + 1)
    return Cells(*grid_cells(edges, edges, nodes))


def disc_cells(radii: int, angles: int, nodes: int) -> Cells:
    """Cells of the unit disc in r and t, x = (r sin t, r cos t): the factor r cancels a pole."""
    polar, weights, locate = grid_cells(
        np.linspace(0, 1, radii + 1), np.linspace(-math.pi, math.pi, angles + 1), nodes
    )
    r, t = polar[..., 0], polar[..., 1]
    return Cells(
        np.stack([r * np.sin(t), r * np.cos(t)], axis=-1),
        weights * r,
        lambda x: locate(np.stack([np.hypot(x[:, 0], x[:, 1]), np.arctan2(*x.T)], axis=-1)),
    )


# About one standard deviation a cell, edges on the edges of each target's box.
CELLS = {
    "spiral": square_cells(1.4, 0.04, 6),
    "pinwheel": disc_cells(10, 60, 6),
    "checkerboard": square_cells(5.0, 0.5, 2),
    "gaussian_mixture": square_cells(2.4, 0.1, 6),
    "two_moons": square_cells(2.4, 0.1, 4),
    "rings": square_cells(3.6, 0.1, 4),
    "swiss_roll": square_cells(4.4, 0.2, 4),
}


def log_sum_exp(terms: np.ndarray) -> np.ndarray:
    top = terms.max(axis=-1, keepdims=True)
    return top[..., 0] + np.log(np.exp(terms - top).sum(axis=-1))


def spiral(x: np.ndarray, turns=3.0, growth=0.05, noise=0.04) -> np.ndarray:
    angle, weight = panels(0, 2 * math.pi * turns, 400)
    return blurred(x, growth * angle * np.exp(1j * angle), weight, noise)


def swiss_roll(x: np.ndarray, start=0.75, turns=1.5, growth=0.2, noise=0.2) -> np.ndarray:
    angle, weight = panels(2 * math.pi * start, 2 * math.pi * (start + turns), 100)
    return blurred(x, growth * angle * np.exp(1j * angle), weight, noise)


def two_moons(x: np.ndarray, radius=1.0, noise=0.1) -> np.ndarray:
    """As in scikit-learn: the lower moon is 1 + i/2 − the upper one; then centred at 0."""
    angle, weight = panels(0, math.pi, 60)
    upper = np.exp(1j * angle)
    curve = np.concatenate([upper, 1 + 0.5j - upper]) - (0.5 + 0.25j)
    return blurred(x, radius * curve, np.tile(weight, 2) / 2, noise)


def panels(first: float, last: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Composite Gauss–Legendre: short panels of 10 nodes, where the targets have one long rule."""
    edges = np.linspace(first, last, count + 1)
    unit, unit_weight = np.polynomial.legendre.leggauss(10)
    half = 0.5 * np.diff(edges)[:, None]
    at = (0.5 * (edges[1:] + edges[:-1])[:, None] + half * unit).ravel()
    return at, (half * unit_weight).ravel() / (last - first)


def blurred(x: np.ndarray, curve: np.ndarray, weight: np.ndarray, noise: float) -> np.ndarray:
    """Gaussians at points of the complex plane, in parts that fit into the memory."""
    real, imaginary = np.real(curve), np.imag(curve)
    log_weight = np.log(weight / (2 * math.pi * noise**2))
    chunks = [
        log_sum_exp(
            log_weight
            - ((part[:, :1] - real) ** 2 + (part[:, 1:] - imaginary) ** 2) / (2 * noise**2)
        )
        for part in np.array_split(x, 1 + len(x) // 500)
    ]
    return np.concatenate(chunks)


def pinwheel(x: np.ndarray, arms=3, twist=4.0, noise=0.2) -> np.ndarray:
    """The wrapped normal as a sum over nine windings, with no reduction of the angle."""
    radius = np.sqrt((x**2).sum(axis=1))
    centre = twist * (np.arange(float(arms))[:, None] + radius)
    angle = np.arctan2(x[:, 0], x[:, 1])
    winding = 2 * math.pi * np.arange(-4.0, 5.0)[:, None, None]
    z = ((angle + winding - centre) / noise).reshape(-1, len(x)).T
    density = log_sum_exp(-0.5 * z**2) - math.log(noise * math.sqrt(2 * math.pi) * arms)
    return np.where(radius <= 1, density - np.log(radius), -np.inf)


def checkerboard(x: np.ndarray, squares=4, side=2.0) -> np.ndarray:
    """The dark squares one by one, by their lower left corners: the first is that of the board."""
    edges = [-0.5 * squares * side + k * side for k in range(squares)]
    corners = [(a, b) for i, a in enumerate(edges) for b in edges[i % 2 :: 2]]
    inside = [((x >= c) & (x < np.add(c, side))).all(axis=1) for c in corners]
    return np.where(np.any(inside, axis=0), -math.log(len(corners) * side**2), -np.inf)


def gaussian_mixture(x: np.ndarray, components=7, radius=1.2, noise=0.12) -> np.ndarray:
    means = radius * np.exp(2j * math.pi * np.arange(components) / components)
    distance = np.abs(x[:, 0] + 1j * x[:, 1] - means[:, None]).T
    constant = math.log(components * 2 * math.pi * noise**2)
    return log_sum_exp(-0.5 * (distance / noise) ** 2) - constant


def rings(x: np.ndarray, count=4, radius=3.0, noise=0.08) -> np.ndarray:
    """Each ring's share of the density of ‖x‖, a Rice distribution, over the circumference."""
    r = np.hypot(*x.T)[:, None]
    radii = radius * np.arange(1, count + 1) / count
    exponent = -0.5 * ((r - radii) / noise) ** 2 + np.log(i0e(r * radii / noise**2))
    return log_sum_exp(exponent) - math.log(2 * math.pi * noise**2 * count)


LOG_DENSITIES = {
    "spiral": spiral,
    "pinwheel": pinwheel,
    "checkerboard": checkerboard,
    "gaussian_mixture": gaussian_mixture,
    "two_moons": two_moons,
    "rings": rings,
    "swiss_roll": swiss_roll,
}
