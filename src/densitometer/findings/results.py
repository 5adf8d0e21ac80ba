"""The results of a study, read from its folder.

Every number comes from a cell's files; none is computed again. A cell that has not run yet is an
ordinary state of a study: `CellFiles.done` says so, and nothing raises.
"""

import csv
import dataclasses
import functools
import json
import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from densitometer import metrics
from densitometer.errors import UsageError
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.findings import digits
from densitometer.metrics import METRICS
from densitometer.study.plan import Cell, Plan
from densitometer.study.store import read_plan

if TYPE_CHECKING:
    from densitometer.scoring.floors import Floor, Floors


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of one family on one target, over the seeds that have it.

    With one seed, `value` and `error` are the estimate and its standard error, which comes from
    the test sample alone. With several, they are the mean over seeds and the standard deviation
    over seeds; infinite if one seed's is.
    """

    value: float
    error: float
    """What is printed after the ±."""
    stderr: float
    """The standard error of `value`, for comparisons."""
    seeds: int
    provenance: Provenance
    by_seed: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """The estimate of each seed."""

    @property
    def kind(self) -> str:
        """How the number was obtained, without the details."""
        return self.provenance.kind

    @property
    def is_bound(self) -> bool:
        """Whether the number only bounds the metric: it must then be labelled wherever it goes."""
        return self.provenance.is_bound


class TestDensities(NamedTuple):
    """Both log-densities at a cell's fresh true points, nats."""

    log_p: Float[np.ndarray, " n"]
    log_q: Float[np.ndarray, " n"]
    overlap: Estimate | None
    """E_p[min(q/p, 2)], of the control variate of `KL`; None where there is none."""


@dataclasses.dataclass(frozen=True)
class CellFiles:
    """The files of one cell of the plan, if it has run."""

    cell: Cell
    folder: Path

    @property
    def done(self) -> bool:
        """Whether the cell is finished; its files all appear at once."""
        return (self.folder / "scorecard.json").is_file()

    @property
    def state(self) -> str:
        """The state of the cell in words, such as "not run" or "diverged at step 1,200"."""
        if self.diverged_at is not None:
            return f"diverged at step {digits.count(self.diverged_at)}"
        if self.done:
            return "finished"
        return "failed" if (self.folder / "error.txt").is_file() else "not run"

    @functools.cached_property
    def scorecard(self) -> Mapping[str, Estimate]:
        """The estimates by metric; empty if the cell is not done."""
        rows = self._json("scorecard.json", [])
        return {
            r["metric"]: Estimate(
                _number(r["value"]), _number(r["stderr"]), Provenance.parse(r["provenance"])
            )
            for r in rows
        }

    @functools.cached_property
    def fit(self) -> Mapping[str, Any]:
        """selected_step, diverged_at, hyperparameters, parameters; empty for a reference."""
        return self._json("fit.json", {})

    @property
    def diverged_at(self) -> int | None:
        """The step at which training diverged, if it did."""
        return self.fit.get("diverged_at")

    @functools.cached_property
    def curves(self) -> Mapping[str, Float[np.ndarray, " t"]]:
        """Column name to values over gradient steps; empty for a reference."""
        path = self.folder / "curves.csv"
        if not path.is_file():
            return {}
        header, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines())
        columns = np.array(rows, dtype=float).reshape(len(rows), len(header)).T
        return dict(zip(header, columns, strict=True))

    @property
    def selecting_curve(self) -> str:
        """The hold-out curve that selected the model: the one with its minimum at that step."""
        for name in ("holdout_loss", "holdout_kde_nll"):
            finite = np.nan_to_num(self.curves[name], nan=np.inf)
            if self.curves["step"][np.argmin(finite)] == self.fit["selected_step"]:
                return name
        return "holdout_loss"

    @functools.cached_property
    def samples(self) -> Float[np.ndarray, "n d"] | None:
        """Draws from the model, data coordinates."""
        return self._array("samples.npy")

    @functools.cached_property
    def log_density(self) -> Float[np.ndarray, "ny nx"] | None:
        """log q on the picture's grid, or None if the model has no density."""
        return self._array("log_density.npy")

    @functools.cached_property
    def test_densities(self) -> "TestDensities | None":
        """log p and log q at the test points, or None if the model has no density."""
        path = self.folder / "test_densities.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            value, stderr = map(float, arrays["overlap"])
            overlap = None if math.isnan(value) else Estimate(value, stderr, EXACT)
            return TestDensities(arrays["log_p"], arrays["log_q"], overlap)

    @functools.cached_property
    def path(self) -> Float[np.ndarray, "frames n d"] | None:
        """Draws at equally spaced moments of sampling, from noise to sample, data coordinates."""
        return self._array("path.npy")

    @functools.cached_property
    def score(self) -> Float[np.ndarray, "n 2"] | None:
        """∇ log q at the midpoints of a coarse square grid of the extent of `log_density`'s."""
        return self._array("score.npy")

    @property
    def seconds(self) -> float:
        """Wall time of the fit without that of its compilation; NaN if not recorded."""
        timing = self._json("timing.json", {})
        return float(timing.get("fit", math.nan)) - self.seconds_compiling

    @property
    def seconds_compiling(self) -> float:
        """Wall time of the compilation that this fit had to wait for; 0 if not recorded."""
        return float(self._json("timing.json", {}).get("fit_compile", 0.0))

    def _json(self, name: str, default: Any) -> Any:
        path = self.folder / name
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else default

    def _array(self, name: str) -> np.ndarray | None:
        path = self.folder / name
        return np.load(path, allow_pickle=False) if path.is_file() else None


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """Everything that a study's folder holds."""

    folder: Path
    plan: Plan

    @classmethod
    def read(cls, folder: Path | str) -> "Results":
        """Open the study in `folder`.

        Raises:
            UsageError: there is no study, its plan cannot be read, or no family's cell is finished.
        """
        results = cls(Path(folder), read_plan(Path(folder)))
        if not any(files.done for files in results.cells()):
            raise UsageError(f"{folder} has no finished cell yet; run the study first.")
        return results

    @property
    def targets(self) -> tuple[str, ...]:
        """The plan's targets."""
        return self.plan.targets

    @property
    def families(self) -> tuple[str, ...]:
        """The plan's families, without the references."""
        return tuple(self.plan.families)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The plan's seeds."""
        return self.plan.seeds

    def cell(self, target: str, family: str, seed: int | None = None) -> CellFiles:
        """One cell; the first seed if none is named."""
        return self._files[Cell(target, family, self.seeds[0] if seed is None else seed)]

    def cells(self, target: str | None = None, family: str | None = None) -> list[CellFiles]:
        """Cells in the plan's order, of one target or of one family or reference if named.

        Without a name, those of all targets, and of all families but not of the references.
        """
        wanted = self.families if family is None else (family,)
        return [
            files
            for cell, files in self._files.items()
            if cell.family in wanted and target in (None, cell.target)
        ]

    def missing(self) -> list[CellFiles]:
        """Cells of the plan, references among them, that are not finished."""
        return [files for files in self._files.values() if not files.done]

    @functools.cached_property
    def _files(self) -> dict[Cell, CellFiles]:
        return {c: CellFiles(c, self.folder / "cells" / str(c)) for c in self.plan.cells()}

    @functools.cached_property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that some cell has, those that are registered first."""
        found = dict.fromkeys(m for c in self._files.values() for m in c.scorecard)
        return tuple(sorted(found, key=[*METRICS, *found].index))

    def measure(self, target: str, family: str, metric: str) -> Measure | None:
        """A metric over seeds, or None where no cell has it."""
        found = {
            c.cell.seed: c.scorecard[metric]
            for c in self.cells(target, family)
            if metric in c.scorecard
        }
        if not found:
            return None
        values, stderrs, provenances = zip(*found.values(), strict=True)
        by_seed = dict(zip(found, values, strict=True))
        if len(found) == 1:
            return Measure(values[0], stderrs[0], stderrs[0], 1, provenances[0], by_seed)
        if not all(map(math.isfinite, values)):
            mean = sum(values)  # infinite, or NaN
            return Measure(mean, math.nan, math.nan, len(found), provenances[0], by_seed)
        mean, spread = statistics.fmean(values), statistics.stdev(values)
        # never below what the test sample alone gives
        stderr = max(spread, _root_mean_square(stderrs)) / math.sqrt(len(found))
        return Measure(mean, spread, stderr, len(found), provenances[0], by_seed)

    def terms(self, target: str, family: str, metric: str) -> Float[np.ndarray, " n"] | None:
        """With one seed the terms of a metric that is a mean over the test points; else None."""
        densities = self.cell(target, family).test_densities
        if len(self.seeds) > 1 or densities is None or metric not in METRICS:
            return None
        return metrics.get(metric).terms(*densities)

    def ranked(self, target: str, metric: str) -> list[tuple[str, Measure]]:
        """The families that have a metric as an exact number, in the plan's order."""
        pairs = [(f, self.measure(target, f, metric)) for f in self.families]
        return [(f, m) for f, m in pairs if m is not None and not m.is_bound and m.value == m.value]

    def has_density(self, family: str) -> bool:
        """Whether some finished cell of the family has a density."""
        return any(
            c.log_density is not None or "kl" in c.scorecard for c in self.cells(None, family)
        )

    def entropy(self, target: str) -> Estimate:
        """H(p) of the target, nats."""
        from densitometer import targets

        return targets.get(target).entropy

    def floors(self, target: str) -> "Floors | None":
        """What the truth scores at the study's sizes; None if it has not been measured."""
        from densitometer import targets
        from densitometer.scoring.floors import known_floors

        rules = self.plan.protocol
        if target not in self._floors:
            truth = targets.get(target)
            self._floors[target] = known_floors(truth, rules.n_samples, rules.n_test)
        return self._floors[target]

    def floor(self, target: str, metric: str, of: Measure | Estimate) -> "Floor | None":
        """What the truth scores in place of a number; None if there is no such thing."""
        floors = self.floors(target)
        estimate = Estimate(of.value, of.stderr, of.provenance)
        return floors and floors.floor(metric, estimate, self.entropy(target))

    @functools.cached_property
    def _floors(self) -> "dict[str, Floors | None]":
        return {}

    def box(self, target: str) -> Float[np.ndarray, "2 d"]:
        """The target's (lower, upper) corners."""
        from densitometer import targets

        return np.array(targets.get(target).box)

    def picture_box(self, target: str) -> Float[np.ndarray, "2 2"]:
        """The box and a margin: the window of `CellFiles.log_density` and of all pictures.

        In other dimensions than two it is the window of what `plane` gives.
        """
        from densitometer.metrics.density import MARGIN

        lower, upper = self.box(target)
        margin = MARGIN * (upper - lower)
        box = np.stack([lower - margin, upper + margin])
        return box[:, :2] if box.shape[1] > 1 else np.column_stack([box, (-1.0, 1.0)])


def plane(points: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n 2"]:
    """The first two coordinates of points, for pictures; a missing second one is 0."""
    if points.shape[-1] == 1:
        return np.concatenate([points, np.zeros_like(points)], axis=-1)
    return points[..., :2]


def _number(x: float | str | None) -> float:
    return math.nan if x is None else float(x)


def _root_mean_square(values: Iterable[float]) -> float:
    return math.sqrt(statistics.fmean(v * v for v in values))
