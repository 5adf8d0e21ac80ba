"""Distributions on a grid of cells: as they are, smoothed, and seen from points, in the plane."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import map_coordinates, maximum_filter

Array = np.ndarray

NOTHING = 9.0
"""How many nats below its maximum a density is nothing: a ten-thousandth of the maximum."""

BANDWIDTH = 0.1
"""Bandwidth of the smoothing in units of a distribution's standard deviation, axis by axis."""

BLOCK = 4_000
"""Points smoothed at once: two kernels of so many are some 25 MB."""

REACH = 12.0
"""Standard deviations beyond which a kernel is 0."""


class Grid(NamedTuple):
    """Midpoints of the cells of a square grid, a row of them for each y: index [iy, ix]."""

    x: Float[Array, " nx"]
    y: Float[Array, " ny"]

    @classmethod
    def over(
        cls, box: tuple[tuple[float, ...], tuple[float, ...]], n: int, margin: float
    ) -> "Grid":
        """n×n cells over a box widened on each side by `margin` times its side.

        Raises:
            ValueError: the box is not two-dimensional.
        """
        if len(box[0]) != 2:
            raise ValueError("grids are for two-dimensional distributions.")
        axes = []
        for low, high in zip(*box, strict=True):
            pad = margin * (high - low)
            cell = (high - low + 2 * pad) / n
            axes.append(low - pad + cell * (np.arange(n) + 0.5))
        return cls(*axes)

    @property
    def cell(self) -> float:
        """The area of a cell."""
        return float((self.x[1] - self.x[0]) * (self.y[1] - self.y[0]))

    @property
    def points(self) -> Float[Array, "n 2"]:
        """The midpoints, row by row."""
        x, y = np.meshgrid(self.x, self.y)
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)

    def evaluate(
        self, log_q: Callable[[Float[Array, "n 2"]], Float[Array, " n"]]
    ) -> Float[Array, "ny nx"]:
        """log q at the midpoints, where log q is dear and most of the grid is empty.

        Every other row and column is looked at first, and the cells between only where one of the
        nearest is not `NOTHING`; elsewhere they take the value beside them. The mass of trained
        models is off by 1e-5 at most; of a model that hides something narrower than two cells
        where all around is nothing, it would miss that.
        """
        shape = len(self.y), len(self.x)
        points = self.points.reshape(*shape, 2)
        coarse = log_q(points[::2, ::2].reshape(-1, 2)).reshape(-1, (shape[1] + 1) // 2)
        some = maximum_filter(coarse, size=3) > coarse.max() - NOTHING
        values, near = (a.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]] for a in (coarse, some))
        near[::2, ::2] = False
        if near.any():  # not where all is NaN
            values[near] = log_q(points[near])
        return values

    def holds(self, points: Float[Array, "n 2"]) -> np.ndarray:
        """Which points lie in one of the cells."""
        inside = np.ones(len(points), bool)
        for axis, p in zip(self, points.T, strict=True):
            half = (axis[1] - axis[0]) / 2
            inside &= (p >= axis[0] - half) & (p <= axis[-1] + half)
        return inside

    def around(self, cells: int) -> list["Grid"]:
        """The eight grids of the same extent that surround this one, each of cells×cells."""
        grids = []
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                if dx or dy:
                    grids.append(
                        Grid(*(_shifted(a, s, cells) for a, s in zip(self, (dx, dy), strict=True)))
                    )
        return grids


@dataclasses.dataclass(frozen=True, eq=False)
class GridDensity:
    """A distribution given by probabilities of cells, and a Gaussian kernel to smooth it with."""

    grid: Grid
    cells: Float[Array, "ny nx"]
    """Probabilities: they sum to 1."""
    widths: Float[Array, " 2"]
    """The kernel's standard deviation on each axis."""

    @classmethod
    def of(
        cls,
        grid: Grid,
        log_density: Float[Array, "ny nx"],
        widths: Float[Array, " 2"] | None = None,
    ) -> "GridDensity":
        """The distribution of a log-density at the midpoints, normalised on the grid.

        `widths` are 0.1 of its own standard deviations if not given.
        """
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # a broken density has no probabilities; see `sound`
            weights = np.exp(log_density.astype(np.float64))
            weights = weights / weights.sum()
        found = cls(grid, weights, np.ones(2))
        return dataclasses.replace(
            found, widths=BANDWIDTH * found.sds if widths is None else widths
        )

    @functools.cached_property
    def means(self) -> Float[Array, " 2"]:
        """The distribution's mean on each axis."""
        return np.array([w @ a for a, w in zip(self.grid, self._marginals, strict=True)])

    @functools.cached_property
    def sds(self) -> Float[Array, " 2"]:
        """The distribution's standard deviation on each axis."""
        of_axes = zip(self.grid, self._marginals, self.means, strict=True)
        return np.sqrt([w @ (a - m) ** 2 for a, w, m in of_axes])

    @property
    def _marginals(self) -> tuple[Float[Array, " nx"], Float[Array, " ny"]]:
        return self.cells.sum(axis=0), self.cells.sum(axis=1)

    @functools.cached_property
    def smoothed(self) -> Float[Array, "ny nx"]:
        """The density after convolution with the kernel."""
        kx, ky = (self._kernel(axis, a) for axis, a in enumerate(self.grid))
        return ky @ self.cells @ kx.T

    @property
    def sound(self) -> bool:
        """Whether the cells have probabilities: no density was NaN or infinite, some were not 0."""
        return bool(np.isfinite(self.cells).all())

    @property
    def is_flat(self) -> bool:
        """Whether the density is the same wherever it is not 0."""
        inside = self.cells[self.cells > 0]
        return bool(np.ptp(inside) < 1e-6 * inside.max())

    def smooth(self, points: Float[Array, "n 2"]) -> Float[Array, "ny nx"]:
        """The density of points after the same convolution: a KDE, (1/n) Σ k(x − xᵢ) k(y − yᵢ)."""
        total = np.zeros(self.cells.shape)
        for some in _in_blocks(points):
            kx, ky = (self._kernel(axis, p) for axis, p in enumerate(some.T))
            total += ky @ kx.T
        return total / len(points)

    def smooth_at(
        self, points: Float[Array, "n 2"], values: Float[Array, "ny nx"]
    ) -> Float[Array, " n"]:
        """∫ k(x − xᵢ) values(x) dx for each point: a function on the grid, smoothed, at points."""
        seen = []
        for some in _in_blocks(points):
            kx, ky = (self._kernel(axis, p) for axis, p in enumerate(some.T))
            seen.append(np.einsum("yn,yn->n", ky, values @ kx) * self.grid.cell)
        return np.concatenate(seen)

    def at(self, points: Float[Array, "n 2"], values: Float[Array, "ny nx"]) -> Float[Array, " n"]:
        """A function on the grid at points, linear between midpoints, constant outside."""
        ix, iy = (
            np.clip((p - a[0]) / (a[1] - a[0]), 0, len(a) - 1)
            for p, a in zip(np.asarray(points, np.float64).T, self.grid, strict=True)
        )
        return map_coordinates(values, [iy, ix], order=1, mode="nearest")

    def draw(self, rng: np.random.Generator, n: int) -> Float[Array, "n 2"]:
        """Draws from the density that is constant on each cell."""
        chosen = rng.choice(self.cells.size, size=n, p=self.cells.ravel())
        iy, ix = np.divmod(chosen, self.cells.shape[1])
        x, y = self.grid
        step = np.array([x[1] - x[0], y[1] - y[0]])
        return np.stack([x[ix], y[iy]], axis=1) + step * rng.uniform(-0.5, 0.5, (n, 2))

    def _kernel(self, axis: int, positions: Float[Array, " n"]) -> Float[Array, "cells n"]:
        """The kernel of one axis, from every position to every midpoint; 0 beyond `REACH`.

        There it is less than rounding, and products of numbers near the least that there is take a
        hundred times as long.
        """
        width = self.widths[axis]
        squares = np.minimum(((self.grid[axis][:, None] - positions) / width) ** 2, REACH**2)
        bumps = np.where(squares < REACH**2, np.exp(-0.5 * squares), 0.0)
        return bumps / (width * np.sqrt(2 * np.pi))


def _in_blocks(points: Float[Array, "n 2"]) -> Iterator[Float[Array, "b 2"]]:
    return (points[start : start + BLOCK] for start in range(0, len(points), BLOCK))


def _shifted(axis: Float[Array, " n"], steps: int, cells: int) -> Float[Array, " m"]:
    cell = axis[1] - axis[0]
    width, low = cell * len(axis), axis[0] - cell / 2
    return low + steps * width + width / cells * (np.arange(cells) + 0.5)
