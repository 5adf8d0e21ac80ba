"""Faults of samples that chance does not explain, and the window of the plane where each is worst.

A fault has a size with its error and its floor. Most sizes are means over the samples, so each
window of the plane contributes, and the figure of faults shows the one that contributes most. Two
dimensions only.
"""

import dataclasses
import functools
import math
import statistics
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float

from densitometer.findings.digits import NBSP, plus_minus, span
from densitometer.findings.results import CellFiles, Measure, Results
from densitometer.findings.windows import Window, WindowScan, scan_of
from densitometer.metrics.explanation import named

if TYPE_CHECKING:
    from densitometer.scoring.floors import Floor

SLENDER = 6.0
"""Length over width from which stray points are a thread."""

STRAYS = 6
"""Stray points that make a leak: off the support by more than the width of the smoothing."""

MOST, MOST_EACH = 16, 2
"""Faults that are shown as pictures, and those of one family."""

SHARP = 2.0
"""Half-widths of the truth's own interval, in place of a floor that was not measured."""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault of the samples of one family on one target."""

    target: str
    family: str
    seed: int
    """The seed whose samples show it."""
    kind: str
    """Its name, such as "blur"."""
    words: str
    """The number that shows it, with its error and what true samples score."""
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
    """The faults that are drawn, by the letter of the picture: those that distinguish a family.

    At most `MOST_EACH` a family, of different kinds and on different targets; a fault that most
    families share is drawn where it is most certain.
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
    """How much more certain a fault is than the same fault of the median family."""
    same = lambda f: (f.target, f.kind) == (fault.target, fault.kind)
    others = [
        max((f.certainty for f in own if same(f)), default=0.0) for own in everywhere.values()
    ]
    return fault.certainty - statistics.median_low(others)


class Case(NamedTuple):
    """The samples of one cell, and the windows of its target."""

    results: Results
    cell: CellFiles
    points: Float[np.ndarray, "n 2"]
    scan: WindowScan

    def named(self, fault: str) -> bool:
        """Whether it is among the faults that explain the samples."""
        found = self.cell.scorecard.get("unexplained")
        return found is not None and any(fault in one for one in named(found.provenance))

    def measure(self, metric: str) -> tuple[Measure, "Floor"] | None:
        """A metric and its floor, if chance does not explain how far apart they are."""
        target, family, _ = self.cell.cell
        measure = self.results.measure(target, family, metric)
        if measure is None or not math.isfinite(measure.value):
            return None
        floor = _floor(self.results, target, metric, measure)
        return (measure, floor) if floor else None

    def fault(self, kind: str, words: str, certainty: float, window: Window) -> Fault:
        """A fault of this case."""
        return Fault(*self.cell.cell, kind, words, certainty, window)


def inflation(results: Results) -> float:
    """Chance deviations of an ideal learner's samples, in units of those of true samples.

    It reproduces the deviations of its k training points, and its n samples add their own.
    """
    return math.sqrt(1 + results.plan.protocol.n_samples / results.plan.protocol.n_train)


def _floor(results: Results, target: str, metric: str, measure: Measure) -> "Floor | None":
    """What true samples score, if an ideal learner's do not score so by chance either."""
    from densitometer.metrics.base import NORMAL
    from densitometer.scoring.floors import Floor

    floors, truth = results.floors(target), results.measure(target, "truth", metric)
    if floors is not None:
        floor = results.floor(target, metric, measure)
        learners = floors.of_learner(results.plan.protocol.n_train).metrics.get(metric, floor)
        known = floor and learners and learners.excess(measure.value) > floors.joint
        return floor if known else None
    if truth is None:
        return None
    half = NORMAL * truth.stderr
    floor = Floor(truth.value - half, truth.value, truth.value + half)
    return floor if floor.excess(measure.value) > SHARP * inflation(results) else None


def of_cell(results: Results, target: str, family: str) -> Iterator[Fault]:
    """The faults of one family on one target."""
    scan = scan_of(results, target)
    cell = next((c for c in results.cells(target, family) if c.samples is not None), None)
    if scan is None or cell is None:
        return
    points = np.asarray(cell.samples, np.float64)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points):
        for rule in RULES:
            yield from rule(Case(results, cell, points, scan))


def leaks(case: Case) -> Iterator[Fault]:
    """Samples well off the support: scattered, or along a thread."""
    n, scan = len(case.points), case.scan
    strays = case.points[scan.truth.at(case.points, scan.away) > 1]
    expected = float(scan.truth.cells[scan.away > 1].sum())
    if len(strays) < STRAYS + 2 * n * expected:
        return
    window = scan.worst(scan.counts(strays))
    kind = "thread" if _slender(strays[window.holds(strays)]) else "leak"
    share = len(strays) / n
    scatter = math.sqrt(share * (1 - share) / n) or 1 / n
    words = (
        f"{plus_minus(share, scatter, scale=100.0, unit='%')} of the samples well away from the "
        f"support (true samples: {100 * expected:.2f}{NBSP}%)"
    )
    yield case.fault(kind, words, (share - expected) / scatter, window)


def blur(case: Case) -> Iterator[Fault]:
    """Noise that was added; failing that, a temperature that is not 1."""
    size = case.measure("blur") if case.named("blur") else None
    if size is None or size[0].value <= 0:
        yield from _temperature(case)
        return
    measure, floor = size
    window = case.scan.worst(case.scan.contributions(case.points, case.scan.blur))
    noise = math.sqrt(abs(measure.value))
    level = plus_minus(noise, measure.error / (2 * noise))
    end = math.sqrt(max(floor.high, 0.0))
    words = f"noise of {level} sd added (true samples: up to {end:.2g})"
    off = case.measure("off_support")
    if off:
        share = plus_minus(off[0].value, off[0].error, scale=100.0, unit="%")
        words += f", {share} off the support ({_true(off[1], 100.0, '%')})"
    yield case.fault("blur", words, _certainty(*size), window)


def _temperature(case: Case) -> Iterator[Fault]:
    """Too many samples where the true density is low (too hot), or where it is high (too cold)."""
    size = case.measure("temperature") if case.named("temperature") else None
    if size is None:
        return
    measure, floor = size
    sign = 1 if measure.value > 1 else -1
    field = case.scan.contributions(case.points, case.scan.temperature)
    words = f"temperature {plus_minus(measure.value, measure.error)} ({_true(floor)})"
    kind = "too hot" if sign > 0 else "too cold"
    yield case.fault(kind, words, _certainty(measure, floor), case.scan.worst(sign * field))


def weights(case: Case) -> Iterator[Fault]:
    """Mass in the wrong mode; failing that, a window with too few samples or too many."""
    size, modes = case.measure("mode_weights"), _modes(case.cell.cell.target)
    if size is None or modes is None:
        yield from _shares(case)
        return
    (measure, floor), (centres, expected) = size, modes
    nearest = ((case.points[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    shares = np.bincount(nearest, minlength=len(expected)) / len(nearest)
    worst = int(np.abs(shares - expected).argmax())
    scatter = math.sqrt(shares[worst] * (1 - shares[worst]) / len(nearest)) or 1 / len(nearest)
    wrong = plus_minus(measure.value, measure.error, scale=100.0, unit="%")
    here = plus_minus(shares[worst], scatter, scale=100.0, unit="%")
    words = (
        f"{wrong} of the mass in the wrong mode ({_true(floor, 100.0, '%')}); the worst has {here} "
        f"instead of {100 * expected[worst]:.1f}{NBSP}%"
    )
    window = case.scan.around(centres[worst])
    yield case.fault("wrong mode weights", words, _certainty(measure, floor), window)


def _shares(case: Case) -> Iterator[Fault]:
    n, scan = len(case.points), case.scan
    residuals = scan.residuals(scan.counts(case.points), n)
    row, column = np.unravel_index(np.argmax(np.abs(residuals)), residuals.shape)
    z = float(residuals[row, column])
    if abs(z) <= inflation(case.results) * scan.threshold(n):
        return
    window = scan.window((int(row), int(column)))
    expected = float(scan.sums(scan.truth.cells)[row, column])
    share = float(window.holds(case.points).mean())
    observed = plus_minus(share, math.sqrt(share * (1 - share) / n) or 1 / n, scale=100.0, unit="%")
    half = scan.threshold(n) * math.sqrt(expected * (1 - expected) / n)
    low, high = 100 * max(expected - half, 0.0), 100 * (expected + half)
    words = f"{observed} of the samples in the frame (true samples: {span(low, high)}{NBSP}%)"
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
    return f"true samples: {ends}" + (NBSP + unit if unit else "")
