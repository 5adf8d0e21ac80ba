"""Windows of the plane, and the scan that finds the one in which samples are furthest from true.

A `WindowScan` slides a square over the grid on which the true density is known. It sums any field
of cells over every window, and standardises a window's share m/n of n samples,

    z = (m − n π) / √(n π (1 − π)),        π the window's true probability.

Two dimensions only.
"""

import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt

from densitometer.findings.results import Results
from densitometer.metrics import faults as scores
from densitometer.metrics.density import MARGIN
from densitometer.metrics.grids import Grid, GridDensity

SIDE = 0.3
"""Side of a window, as a share of the target's box."""

FEWEST = 20
"""Samples that a window must expect for its share to be judged."""

REPEATS = 100
"""Simulated samples of the truth that give the worst window's distribution under chance."""


class Window(NamedTuple):
    """A square of the plane."""

    lower: tuple[float, float]
    upper: tuple[float, float]

    def holds(self, points: Float[np.ndarray, "n 2"]) -> np.ndarray:
        """Which points lie in it."""
        (left, low), (right, high) = self
        x, y = points.T
        return (x >= left) & (x < right) & (y >= low) & (y < high)


class WindowScan:
    """All windows of one target, whose density is given on a grid."""

    def __init__(self, results: Results, target: str, truth: GridDensity):
        self.truth = truth
        self.support = support_of(results, target)
        spacing = [float(a[1] - a[0]) for a in truth.grid]
        away = distance_transform_edt(self.support < 0, sampling=spacing[::-1])
        self.away = np.asarray(away) / float(np.mean(truth.widths))
        self.blur = scores.blur_score(truth)
        self.temperature = scores.temperature_score(truth)
        self._cells = round(SIDE / (1 + 2 * MARGIN) * len(truth.grid.x))
        self._thresholds: dict[int, float] = {}

    def counts(
        self, points: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, "ny nx"]:
        """The points in each cell, or the sums of their weights."""
        edges = [np.append(a, 2 * a[-1] - a[-2]) - (a[1] - a[0]) / 2 for a in self.truth.grid]
        return np.histogram2d(*points.T[::-1], bins=edges[::-1], weights=weights)[0]

    def sums(self, field: Float[np.ndarray, "*some ny nx"]) -> Float[np.ndarray, "*some my mx"]:
        """The sum over every window, by its first row and column."""
        k = self._cells
        for axis in (-1, -2):
            whole = field.cumsum(axis=axis)
            before = np.zeros_like(whole.take([0], axis=axis))
            whole = np.concatenate([before, whole], axis=axis).swapaxes(axis, -1)
            field = (whole[..., k:] - whole[..., :-k]).swapaxes(axis, -1)
        return field

    def window(self, at: tuple[int, int]) -> Window:
        """The window that begins at a row and a column."""
        lower, upper = [], []
        for axis, begin in zip(self.truth.grid, at[::-1], strict=True):
            cell = axis[1] - axis[0]
            lower.append(float(axis[begin] - cell / 2))
            upper.append(lower[-1] + self._cells * float(cell))
        return Window((lower[0], lower[1]), (upper[0], upper[1]))

    def around(self, centre: Float[np.ndarray, " 2"]) -> Window:
        """The window about a point."""
        half = [self._cells * float(a[1] - a[0]) / 2 for a in self.truth.grid]
        x, y = centre.tolist()
        return Window((x - half[0], y - half[1]), (x + half[0], y + half[1]))

    def worst(self, field: Float[np.ndarray, "ny nx"]) -> Window:
        """The window with the largest sum."""
        sums = self.sums(field)
        row, column = np.unravel_index(np.argmax(sums), sums.shape)
        return self.window((int(row), int(column)))

    def contributions(
        self, points: Float[np.ndarray, "n 2"], score: scores.Score
    ) -> Float[np.ndarray, "ny nx"]:
        """What each cell adds to the size of a fault."""
        observed = self.counts(points, self.truth.at(points, score.field)) / len(points)
        return (observed - self.truth.cells * score.field) / score.response

    def residuals(
        self, counts: Float[np.ndarray, "*some ny nx"], n: int
    ) -> Float[np.ndarray, "*some my mx"]:
        """z of every window's share of n samples; 0 where fewer than `FEWEST` are expected."""
        expected = self.sums(self.truth.cells)
        scatter = np.sqrt(np.maximum(n * expected * (1 - expected), 1e-9))
        z = (self.sums(counts) - n * expected) / scatter
        return np.where(n * expected >= FEWEST, z, 0.0)

    def threshold(self, n: int) -> float:
        """The |z| that the worst window of n true samples exceeds in 5 % of cases."""
        if n not in self._thresholds:
            p = self.truth.cells
            drawn = np.random.default_rng(0).multinomial(n, p.ravel(), size=REPEATS)
            residuals = self.residuals(drawn.reshape(REPEATS, *p.shape).astype(float), n)
            worst = np.abs(residuals).max(axis=(1, 2))
            self._thresholds[n] = float(np.quantile(worst, 0.95))
        return self._thresholds[n]


@functools.lru_cache(maxsize=64)
def scan_of(results: Results, target: str) -> WindowScan | None:
    """The windows of a target; None if its truth's cell is missing or it is not planar."""
    box = results.box(target)
    log_density = results.cell(target, "truth").log_density
    if log_density is None or box.shape[1] != 2:
        return None
    lower, upper = box.tolist()
    grid = Grid.over((tuple(lower), tuple(upper)), len(log_density), MARGIN)
    return WindowScan(results, target, GridDensity.of(grid, log_density))


def support_of(results: Results, target: str) -> Float[np.ndarray, "ny nx"]:
    """log p less the level of the support, on the pictures' grid, within ±1: 0 is the border."""
    from densitometer import targets

    log_density = results.cell(target, "truth").log_density
    assert log_density is not None
    return np.clip(log_density - targets.get(target).hdr_log_density, -1.0, 1.0)
