"""The truth, bent in the ways that have a name, as it is seen through a few features of samples.

With size θ a fault turns the truth p into q_θ, and θ = 0 into p itself:

    shift          p(x − δ)                            in standard deviations of each axis
    stretch        p, drawn apart about its mean       by e^a along each axis
    turn           p, turned about its mean            radians
    blur           p convolved with N(0, τ² diag(sd²)) θ = τ²
    temperature    ∝ p^(1/T)                           θ = log T
    leak           (1 − λ) p + λ u                     u uniform on the target's box
    mode weights   Σ_k w_k p_k                         p_k that part of p nearest to mode k

Samples are seen through features f: the scores of these faults (see `metrics.faults`), which change
fastest with their sizes, and shares of the samples, in parts of the plane of equal mass, in levels
of the smoothed density, and near each mode, which change with whatever else may be wrong. E f under
q_θ is a sum over the cells of a grid. Two dimensions only.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.interpolate import CubicSpline
from scipy.ndimage import fourier_gaussian, map_coordinates

from densitometer.metrics import faults
from densitometer.metrics.grids import Grid, GridDensity

Array = np.ndarray
Field = Float[np.ndarray, "ny nx"]
Features = Float[np.ndarray, " features"]

COARSER = 2
"""Cells of the truth's grid along the side of one here."""

ROOM = 0.02
"""How much more than it has a mode may give by chance, where it is empty."""

LEVELS = (0.001, 0.01, 0.05, 0.15, 0.3, 0.5, 0.75)
"""The mass below each level of the smoothed density."""

_SIDE = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8])
_BOTH = np.concatenate([-_SIDE[::-1], [0.0], _SIDE])
KNOTS: Mapping[str, Array] = {
    "shift x": _BOTH,
    "shift y": _BOTH,
    "stretch x": _BOTH,
    "stretch y": _BOTH,
    "turn": _BOTH,
    "blur": np.array([0, 0.02, 0.04, 0.06, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8]) ** 2,
    "leak": np.array([0.0, 0.01, 0.03, 0.1, 0.3, 1.0]),
    "temperature": np.log([0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0]),
}
"""Sizes at which E f is computed; between them it is interpolated, each side of 0 for itself: an
edge that passes that of a part makes a kink there."""


class Bends:
    """A truth, bent.

    Args:
        truth: on a grid.
        box: over which a leak strews samples: its lower and its upper corner.
        modes: centres and weights, if it has separate ones.
        parts: how many parts of equal mass the plane is divided into, a power of 2.
    """

    def __init__(
        self,
        truth: GridDensity,
        box: tuple[tuple[float, ...], tuple[float, ...]],
        modes: tuple[Float[Array, "modes 2"], Float[Array, " modes"]] | None,
        parts: int,
    ):
        x, y = ((a >= low) & (a <= high) for a, low, high in zip(truth.grid, *box, strict=True))
        self._box_cells = _summed(np.outer(y, x) / (y.sum() * x.sum()))
        self._has_slopes = not truth.is_flat
        self._truth = truth = _coarser(truth)
        self._scores = _scores(truth, self._has_slopes)
        self._labels = [_parts(truth, parts), _levels(truth)]
        self._weights = np.empty(0)
        if modes is not None:
            centres, self._weights = modes
            away = ((truth.grid.points[:, None] - centres) ** 2).sum(axis=2)
            self._nearest = away.argmin(axis=1).reshape(truth.cells.shape)
            self._labels.append(self._nearest)
        shares = [label == k for label in self._labels for k in range(1, label.max() + 1)]
        self._fields = np.stack([*self._scores, *shares]).reshape(-1, truth.cells.size)
        self.mean, self.covariance = self.moments({})
        self._curves: dict[str, Callable[..., Features]] = {}

    @functools.cached_property
    def faults(self) -> Mapping[str, tuple[str, ...]]:
        """By fault of which this truth is capable, the names of its sizes."""
        found: dict[str, tuple[str, ...]] = {
            "shift": ("shift x", "shift y"),
            "stretch": ("stretch x", "stretch y"),
            "turn": ("turn",),
            "blur": ("blur",),
            "leak": ("leak",),
        }
        if self._has_slopes:
            found["temperature"] = ("temperature",)
        if len(self._weights):
            found["mode weights"] = tuple(f"weight {k}" for k in range(1, len(self._weights)))
        return found

    def seen(self, samples: Float[Array, "n 2"]) -> Float[Array, "features n"]:
        """The features of samples."""
        x, y = (
            np.clip(np.rint((p - a[0]) / (a[1] - a[0])), 0, len(a) - 1).astype(int)
            for p, a in zip(np.asarray(samples, np.float64).T, self._truth.grid, strict=True)
        )
        scores = [self._truth.at(samples, field) for field in self._scores]
        labels = [(label[y, x], label.max()) for label in self._labels]
        return np.stack([*scores, *(of == k for of, last in labels for k in range(1, last + 1))])

    def moments(
        self, sizes: Mapping[str, float]
    ) -> tuple[Features, Float[np.ndarray, "features features"]]:
        """Mean and covariance of f under the truth with these faults, all of them exactly."""
        cells = self._bent(sizes).ravel()
        mean = self._fields @ cells
        return mean, (self._fields * cells) @ self._fields.T - np.outer(mean, mean)

    def drift(self, sizes: Mapping[str, float]) -> Features:
        """How far E f moves with these faults, each of them alone: sums of what they do."""
        return sum((self._curve(name)(size) for name, size in sizes.items()), 0 * self.mean)

    def slope(self, name: str, size: float) -> Features:
        """How fast `drift` grows with one size."""
        return self._curve(name)(size, 1)

    def limits(self, name: str) -> tuple[float, float]:
        """Between what one size may lie."""
        if name in KNOTS:
            return float(KNOTS[name][0]), float(KNOTS[name][-1])
        weight = self._weights[int(name.removeprefix("weight "))]
        return -float(weight), 1 - float(weight)

    def possible(self, sizes: Mapping[str, float]) -> bool:
        """Whether the first mode, which gives what the others take, has so much to give."""
        moved = sum(size for name, size in sizes.items() if name.startswith("weight "))
        return not len(self._weights) or moved <= float(self._weights[0]) + ROOM

    def _curve(self, name: str) -> Callable[..., Features]:
        """What `drift` is of one size, and its derivatives; made when first asked for."""
        if name not in self._curves:
            knots = KNOTS[name] if name in KNOTS else np.array([0.0, self._weights[0]])
            cells = np.stack([self._bent({name: size}).ravel() for size in knots])
            bent = cells @ self._fields.T - self.mean
            zero = int(np.searchsorted(knots, 0.0))
            right = CubicSpline(knots[zero:], bent[zero:])
            left = CubicSpline(knots[: zero + 1], bent[: zero + 1]) if zero else right
            self._curves[name] = _joined(left, right)
        return self._curves[name]

    def _bent(self, sizes: Mapping[str, float]) -> Field:
        """The probabilities of the cells under the truth with these faults."""
        cells = self._truth.cells
        if moved := {k: v for k, v in sizes.items() if k.startswith("weight ")}:
            share = np.array([moved.get(f"weight {k}", 0.0) for k in range(len(self._weights))])
            share[0] = -share.sum()
            cells = cells * (1 + share / self._weights).clip(0)[self._nearest]
        if hotter := sizes.get("temperature", 0.0):
            cells = (cells / cells.max()) ** math.exp(-hotter)
        cells = self._moved(cells, sizes)
        if (variance := sizes.get("blur", 0.0)) > 0:
            grid = self._truth.grid
            steps = np.array([a[1] - a[0] for a in grid])
            widths = math.sqrt(variance) * self._truth.sds / steps
            blurred = fourier_gaussian(np.fft.rfft2(cells), widths[::-1], n=cells.shape[1])
            cells = np.fft.irfft2(blurred, cells.shape).clip(0)
        cells = cells / cells.sum()
        if leaked := sizes.get("leak", 0.0):
            cells = (1 - leaked) * cells + leaked * self._box_cells
        return cells

    def _moved(self, cells: Field, sizes: Mapping[str, float]) -> Field:
        """Cells stretched, turned and shifted."""
        names = ("shift x", "shift y", "stretch x", "stretch y", "turn")
        dx, dy, ax, ay, angle = (sizes.get(name, 0.0) for name in names)
        if not any((dx, dy, ax, ay, angle)):
            return cells
        x, y = np.meshgrid(
            *(a - m for a, m in zip(self._truth.grid, self._truth.means, strict=True))
        )
        sdx, sdy = self._truth.sds
        x, y = x - dx * sdx, y - dy * sdy
        cos, sin = math.cos(angle), math.sin(angle)
        x, y = math.exp(-ax) * (cos * x + sin * y), math.exp(-ay) * (cos * y - sin * x)
        places = [
            (a + m - axis[0]) / (axis[1] - axis[0])
            for a, m, axis in zip((x, y), self._truth.means, self._truth.grid, strict=True)
        ]
        return map_coordinates(cells, places[::-1], order=1)


def _joined(left: CubicSpline, right: CubicSpline) -> Callable[..., Features]:
    return lambda size, order=0: (right if size >= 0 else left)(size, order)


def _coarser(truth: GridDensity) -> GridDensity:
    """The same on fewer, larger cells."""
    grid = Grid(*(a.reshape(-1, COARSER).mean(axis=1) for a in truth.grid))
    return dataclasses.replace(truth, grid=grid, cells=_summed(truth.cells))


def _summed(cells: Field) -> Float[np.ndarray, "rows columns"]:
    """Probabilities of the larger cells."""
    ny, nx = cells.shape
    return cells.reshape(ny // COARSER, COARSER, nx // COARSER, COARSER).sum(axis=(1, 3))


def _scores(truth: GridDensity, has_slopes: bool) -> list[Field]:
    """The scores of the faults: how fast log p grows with each size, at θ = 0."""
    x, y = np.meshgrid(*(a - m for a, m in zip(truth.grid, truth.means, strict=True)))
    mixed = faults.mixed(truth)
    along_x, along_y = (faults.slope(truth, truth.smoothed, axis) / mixed for axis in (0, 1))
    uniform = faults.uniform(truth)
    found = [along_x * truth.sds[0], along_y * truth.sds[1]]
    found += [x * along_x, y * along_y, y * along_x - x * along_y, y * along_x + x * along_y]
    found += [faults.blur_score(truth).field, (uniform - truth.smoothed) / mixed]
    return [*found, faults.temperature_score(truth).field] if has_slopes else found


def _levels(truth: GridDensity) -> Int[np.ndarray, "ny nx"]:
    """Which of `LEVELS` a cell has reached."""
    order = np.argsort(truth.smoothed, axis=None)
    below = np.cumsum(truth.cells.ravel()[order])
    levels = truth.smoothed.ravel()[order][np.searchsorted(below, LEVELS)]
    return np.searchsorted(levels, truth.smoothed)


def _parts(truth: GridDensity, parts: int) -> Int[np.ndarray, "ny nx"]:
    """The plane halved along x, each half along y, and so on: parts of about equal mass."""
    axes = np.meshgrid(*truth.grid)
    label = np.zeros(truth.cells.shape, int)
    for halving in range(parts.bit_length() - 1):
        axis, new = axes[halving % 2], 2 * label
        for part in range(2**halving):
            inside = label == part
            order = np.argsort(axis[inside], kind="stable")
            below = np.cumsum(truth.cells[inside][order])
            middle = axis[inside][order][np.searchsorted(below, below[-1] / 2)]
            new[inside & (axis > middle)] += 1
        label = new
    return label
