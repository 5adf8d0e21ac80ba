"""What is wrong with a model's samples beyond chance, and where in the plane it is worst.

The size of a fault has its error and its floor. Most are means over the samples, so every window of
the plane has a share in them, and the window with the largest share is where to look: it is cut out
for the figure of faults. Two dimensions only.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.ndimage import distance_transform_edt

from densitometer.findings.digits import KEEP, plus_minus, span
from densitometer.findings.results import CellFiles, Measure, Results
from densitometer.metrics import faults as scores
from densitometer.metrics.density import MARGIN
from densitometer.metrics.grids import Grid, GridDensity

if TYPE_CHECKING:
    from densitometer.scoring.floors import Floor

SIDE = 0.3
"""Side of the window that is cut out, as a share of the target's box."""

SLENDER = 6.0
"""Length over width of a crowd of stray points from which it is a thread."""

STRAYS = 6
"""Strays that are a leak: points off the support by more than the width of the smoothing."""

FEWEST = 20
"""Samples that a window must have to expect for its share to be judged."""

REPEATS = 100
"""True samples drawn to see how far chance alone takes the worst window."""

PUPIL = math.sqrt(2.0)
"""A perfect pupil of n points repeats their chance deviations and adds as many of its own."""

MOST, MOST_EACH = 16, 2
"""Faults that are shown as pictures, and those of one family."""

SHARP = 2.0
"""Ends of a floor that was never measured, and is the truth's row with its error, in those ends."""


class Window(NamedTuple):
    """A square of the plane."""

    lower: tuple[float, float]
    upper: tuple[float, float]

    def holds(self, points: Float[np.ndarray, "n 2"]) -> np.ndarray:
        """Which points lie in it."""
        (left, low), (right, high) = self
        x, y = points.T
        return (x >= left) & (x < right) & (y >= low) & (y < high)


@dataclasses.dataclass(frozen=True)
class Fault:
    """Something wrong with the samples of one family on one target."""

    target: str
    family: str
    seed: int
    """The seed whose samples show it."""
    kind: str
    """In a word or two."""
    words: str
    """The number that tells of it, with its error and what true samples score."""
    certainty: float
    """The number's distance from the truth's in its own standard errors."""
    window: Window
    """Where it is worst."""


@functools.lru_cache(maxsize=4)
def found(results: Results) -> dict[str, tuple[Fault, ...]]:
    """By family, its faults on all targets, the most certain first."""
    return {
        family: tuple(
            sorted(
                (f for target in results.targets for f in of_cell(results, target, family)),
                key=lambda fault: -fault.certainty,
            )
        )
        for family in results.families
    }


def shown(results: Results) -> dict[str, Fault]:
    """The faults that are worth a picture, by its letter: what sets a family apart from the others.

    Of a family on one target it is one, of one kind it is one, and what most families share is
    shown where it is worst.
    """
    everywhere = found(results)
    chosen: list[Fault] = []
    for faults in everywhere.values():
        own = sorted(faults, key=lambda f: -_own(f, everywhere))
        for fault in own:
            mine = [f for f in chosen if f.family == fault.family]
            new = all(f.kind != fault.kind and f.target != fault.target for f in mine)
            if len(mine) < MOST_EACH and new and (_own(fault, everywhere) > 0 or not mine):
                chosen.append(fault)
    certain = sorted(chosen, key=lambda f: -f.certainty)[:MOST]
    return {chr(ord("a") + i): f for i, f in enumerate(f for f in chosen if f in certain)}


def _own(fault: Fault, everywhere: dict[str, tuple[Fault, ...]]) -> float:
    """How much more certain a fault is than the same one of the typical family."""
    same = lambda f: (f.target, f.kind) == (fault.target, fault.kind)
    alike = [max((f.certainty for f in own if same(f)), default=0.0) for own in everywhere.values()]
    return fault.certainty - statistics.median_low(alike)


def law_of(results: Results, target: str) -> GridDensity | None:
    """The truth on the pictures' grid; None if its cell is missing or it is not planar."""
    box = results.box(target)
    log_density = results.cell(target, "truth").log_density
    if log_density is None or box.shape[1] != 2:
        return None
    lower, upper = box.tolist()
    grid = Grid.over((tuple(lower), tuple(upper)), len(log_density), MARGIN)
    return GridDensity.of(grid, log_density)


def support_of(results: Results, target: str) -> Float[np.ndarray, "ny nx"]:
    """log p less the level of the support, on the pictures' grid, within ±1: 0 is the border."""
    from densitometer import targets

    log_density = results.cell(target, "truth").log_density
    assert log_density is not None
    return np.clip(log_density - targets.get(target).hdr_log_density, -1.0, 1.0)


class Place:
    """The truth's windows."""

    def __init__(self, results: Results, target: str, law: GridDensity):
        self.law = law
        self.support = support_of(results, target)
        spacing = [float(a[1] - a[0]) for a in law.grid]
        away = distance_transform_edt(self.support < 0, sampling=spacing[::-1])
        self.away = np.asarray(away) / float(np.mean(law.widths))
        self.blur = scores.blur_score(law)
        self.temperature = scores.temperature_score(law)
        self._cells = round(SIDE / (1 + 2 * MARGIN) * len(law.grid.x))
        self._bars: dict[int, float] = {}

    def counts(
        self, points: Float[np.ndarray, "n 2"], weights: Float[np.ndarray, " n"] | None = None
    ) -> Float[np.ndarray, "ny nx"]:
        """The points in each cell, or the sums of their weights."""
        edges = [np.append(a, 2 * a[-1] - a[-2]) - (a[1] - a[0]) / 2 for a in self.law.grid]
        return np.histogram2d(*points.T[::-1], bins=edges[::-1], weights=weights)[0]

    def sums(self, field: Float[np.ndarray, "*some ny nx"]) -> Float[np.ndarray, "*some my mx"]:
        """The sum over every window, by where it begins."""
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
        for axis, begin in zip(self.law.grid, at[::-1], strict=True):
            cell = axis[1] - axis[0]
            lower.append(float(axis[begin] - cell / 2))
            upper.append(lower[-1] + self._cells * float(cell))
        return Window((lower[0], lower[1]), (upper[0], upper[1]))

    def around(self, centre: Float[np.ndarray, " 2"]) -> Window:
        """The window about a point."""
        half = [self._cells * float(a[1] - a[0]) / 2 for a in self.law.grid]
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
        seen = self.counts(points, self.law.at(points, score.field)) / len(points)
        return (seen - self.law.cells * score.field) / score.response

    def residuals(
        self, counts: Float[np.ndarray, "*some ny nx"], n: int
    ) -> Float[np.ndarray, "*some my mx"]:
        """Every window's share of n samples against the truth's, in standard errors of chance."""
        due = self.sums(self.law.cells)
        scatter = np.sqrt(np.maximum(n * due * (1 - due), 1e-9))
        return np.where(n * due >= FEWEST, (self.sums(counts) - n * due) / scatter, 0.0)

    def bar(self, n: int) -> float:
        """The residual that the worst window of n true samples stays below in 95 % of cases."""
        if n not in self._bars:
            p = self.law.cells
            drawn = np.random.default_rng(0).multinomial(n, p.ravel(), size=REPEATS)
            residuals = self.residuals(drawn.reshape(REPEATS, *p.shape).astype(float), n)
            self._bars[n] = float(np.quantile(np.abs(residuals).max(axis=(1, 2)), 0.95))
        return self._bars[n]


class Case(NamedTuple):
    """A model's samples before a truth."""

    results: Results
    cell: CellFiles
    points: Float[np.ndarray, "n 2"]
    place: Place

    def measure(self, metric: str) -> tuple[Measure, "Floor"] | None:
        """A metric and its floor, where it lies beyond all that chance does to true samples."""
        target, family, _ = self.cell.cell
        measure = self.results.measure(target, family, metric)
        if measure is None or not math.isfinite(measure.value):
            return None
        floor, worst = _floor(self.results, target, metric, measure)
        return (measure, floor) if floor and floor.excess(measure.value) > worst else None

    def fault(self, kind: str, words: str, certainty: float, window: Window) -> Fault:
        """A fault of this case."""
        return Fault(*self.cell.cell, kind, words, certainty, window)


def _floor(
    results: Results, target: str, metric: str, measure: Measure
) -> "tuple[Floor | None, float]":
    """What true samples score, and how many times that far chance takes the worst metric of all."""
    from densitometer.metrics.base import NORMAL
    from densitometer.scoring.floors import Floor

    floors = results.floors(target)
    if floors is not None:
        return results.floor(target, metric, measure), floors.joint
    truth = results.measure(target, "truth", metric)
    if truth is None:
        return None, math.inf
    half = NORMAL * truth.stderr
    return Floor(truth.value - half, truth.value, truth.value + half), SHARP


def of_cell(results: Results, target: str, family: str) -> Iterator[Fault]:
    """The faults of one family on one target."""
    place = _place(results, target)
    cell = next((c for c in results.cells(target, family) if c.samples is not None), None)
    if place is None or cell is None:
        return
    points = np.asarray(cell.samples, np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points):
        for rule in RULES:
            yield from rule(Case(results, cell, points, place))


@functools.lru_cache(maxsize=64)
def _place(results: Results, target: str) -> Place | None:
    law = law_of(results, target)
    return None if law is None else Place(results, target, law)


def leaks(case: Case) -> Iterator[Fault]:
    """Samples well away from the support: strewn, or along a thread."""
    n, place = len(case.points), case.place
    strays = case.points[place.law.at(case.points, place.away) > 1]
    due = float(place.law.cells[place.away > 1].sum())
    if len(strays) < STRAYS + 2 * n * due:
        return
    window = place.worst(place.counts(strays))
    kind = "thread" if _slender(strays[window.holds(strays)]) else "leak"
    share = len(strays) / n
    scatter = math.sqrt(share * (1 - share) / n) or 1 / n
    words = (
        f"{plus_minus(share, scatter, scale=100.0, unit='%')} of the samples well away from the "
        f"support (true samples: {100 * due:.2f}{KEEP}%)"
    )
    yield case.fault(kind, words, (share - due) / scatter, window)


def blur(case: Case) -> Iterator[Fault]:
    """Noise that was added, or is missing; failing that, too much or too little of what is thin."""
    size = case.measure("blur")
    if size is None:
        yield from _temperature(case)
        return
    measure, floor = size
    sign = 1 if measure.value > 0 else -1
    window = case.place.worst(sign * case.place.contributions(case.points, case.place.blur))
    noise = math.sqrt(abs(measure.value))
    said = plus_minus(noise, measure.error / (2 * noise))
    end = math.sqrt(max(floor.high if sign > 0 else -floor.low, 0.0))
    words = (
        f"noise of {said} sd {'added' if sign > 0 else 'missing'} (true samples: up to {end:.2g})"
    )
    off = case.measure("off_support")
    if sign > 0 and off:
        share = plus_minus(off[0].value, off[0].error, scale=100.0, unit="%")
        words += f", {share} off the support ({_true(off[1], 100.0, '%')})"
    yield case.fault("blur" if sign > 0 else "too sharp", words, _certainty(*size), window)


def _temperature(case: Case) -> Iterator[Fault]:
    """Too often where the truth is thin, or where it is dense."""
    size = case.measure("temperature")
    if size is None:
        return
    measure, floor = size
    sign = 1 if measure.value > 1 else -1
    field = case.place.contributions(case.points, case.place.temperature)
    words = f"temperature {plus_minus(measure.value, measure.error)} ({_true(floor)})"
    kind = "too hot" if sign > 0 else "too cold"
    yield case.fault(kind, words, _certainty(measure, floor), case.place.worst(sign * field))


def weights(case: Case) -> Iterator[Fault]:
    """Mass in the wrong mode; failing that, a window with far too few samples or far too many."""
    size, modes = case.measure("mode_weights"), _modes(case.cell.cell.target)
    if size is None or modes is None:
        yield from _shares(case)
        return
    (measure, floor), (centres, due) = size, modes
    nearest = ((case.points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(due)) / len(nearest)
    worst = int(np.abs(shares - due).argmax())
    scatter = math.sqrt(shares[worst] * (1 - shares[worst]) / len(nearest)) or 1 / len(nearest)
    wrong = plus_minus(measure.value, measure.error, scale=100.0, unit="%")
    here = plus_minus(shares[worst], scatter, scale=100.0, unit="%")
    words = (
        f"{wrong} of the mass in the wrong mode ({_true(floor, 100.0, '%')}); the worst has {here} "
        f"for {100 * due[worst]:.1f}{KEEP}%"
    )
    window = case.place.around(centres[worst])
    yield case.fault("wrong mode weights", words, _certainty(measure, floor), window)


def _shares(case: Case) -> Iterator[Fault]:
    n, place = len(case.points), case.place
    residuals = place.residuals(place.counts(case.points), n)
    row, column = np.unravel_index(np.argmax(np.abs(residuals)), residuals.shape)
    z = float(residuals[row, column])
    if abs(z) <= PUPIL * place.bar(n):
        return
    window = place.window((int(row), int(column)))
    due = float(place.sums(place.law.cells)[row, column])
    share = float(window.holds(case.points).mean())
    said = plus_minus(share, math.sqrt(share * (1 - share) / n) or 1 / n, scale=100.0, unit="%")
    half = place.bar(n) * math.sqrt(due * (1 - due) / n)
    low, high = 100 * max(due - half, 0.0), 100 * (due + half)
    words = f"{said} of the samples in the frame (true samples: {span(low, high)}{KEEP}%)"
    yield case.fault("too little mass" if z < 0 else "too much mass", words, abs(z), window)


RULES: tuple[Callable[[Case], Iterator[Fault]], ...] = (
    leaks,
    blur,
    weights,
)


def _modes(
    target: str,
) -> tuple[Float[np.ndarray, "modes d"], Float[np.ndarray, " modes"]] | None:
    from densitometer import targets

    return targets.get(target).modes


def _slender(points: Float[np.ndarray, "n 2"]) -> bool:
    """Whether the points lie along a line."""
    if len(points) < 6:
        return False
    length, width = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)
    return bool(length > SLENDER * width)


def _certainty(measure: Measure, floor: "Floor") -> float:
    return abs(measure.value - floor.median) / max(measure.stderr, 1e-12)


def _true(floor: "Floor", scale: float = 1.0, unit: str = "") -> str:
    if floor.low == floor.high:
        ends = f"{scale * floor.high:g}"
    else:
        ends = span(scale * floor.low, scale * floor.high)
    return f"true samples: {ends}" + (KEEP + unit if unit else "")
