"""The numbers of one model against one target: which metrics apply, run, labelled."""

import dataclasses
import functools
import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densitometer.errors import UsageError
from densitometer.estimates import Estimate
from densitometer.metrics import density, kde, overlap, support
from densitometer.metrics.density import Grid
from densitometer.models import HasBound, HasDensity, Model, batched
from densitometer.points import check_points
from densitometer.randomness import key_for
from densitometer.targets.base import Target

N_TEST = 10_000
"""Fresh true points behind `kl` and every other mean over the truth."""

N_SAMPLES = 2_000
"""Model samples behind every metric on samples; as many true ones stand beside them."""

GRID = 160
"""Cells a side of the grid for masses and maps of densities."""

TRUTH_GRID = 400
"""Cells a side of the finer grid on which the truth's density is smoothed."""

MARGIN = 0.05
"""How far that grid reaches beyond the target's box on each side, in units of the box's side."""

IMPORTANCE_SAMPLES = 64
"""k of the reported importance-weighted bound."""

MASS_TOLERANCE = 1e-3
"""How far from 1 a density may integrate before the scorecard calls it wrong."""


class Row(NamedTuple):
    """One number: the columns of ``results.csv``."""

    target: str
    family: str
    seed: int
    metric: str
    value: float
    stderr: float
    provenance: str


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """The rows of one model against one target, and what they were computed from.

    Printed, it is a table. `samples` and `log_density` (the model's, on the grid of `density_grid`;
    None if it has none) are kept for pictures and do not go into the JSON.
    """

    rows: tuple[Row, ...]
    samples: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)
    log_density: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)

    def __getitem__(self, metric: str) -> Estimate:
        """The estimate of one metric.

        Raises:
            KeyError: it is not on this scorecard.
        """
        for row in self.rows:
            if row.metric == metric:
                return Estimate(row.value, row.stderr, row.provenance)
        raise KeyError(metric)

    def to_json(self) -> str:
        """A JSON list of objects with the columns of ``results.csv``.

        A value that is not finite becomes null, since JSON has no infinity.
        """
        rows = [{k: _finite_or_none(v) for k, v in row._asdict().items()} for row in self.rows]
        return json.dumps(rows, indent=1, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> "Scorecard":
        """The scorecard that `to_json` wrote; null becomes NaN."""
        entries: list[dict[str, Any]] = json.loads(text)
        for entry in entries:
            entry |= {k: math.nan for k, v in entry.items() if v is None}
        return cls(tuple(Row(**entry) for entry in entries))

    def impossible(self) -> list[str]:
        """Sentences about values that no correct computation gives; empty if all is well."""
        found = []
        for row in self.rows:
            if row.metric == "kl" and row.value < -3 * row.stderr:
                found.append(
                    f"kl = {row.value:.4f} ± {row.stderr:.4f} is negative beyond its error"
                )
            if row.metric == "mass" and abs(row.value - 1) > MASS_TOLERANCE + 3 * row.stderr:
                found.append(f"the density integrates to {row.value:.4f}, not to 1")
        return found

    def __str__(self) -> str:
        head = self.rows[0]
        lines = [f"{head.family} on {head.target}, seed {head.seed}", ""]
        lines.append(f"{'metric':<24}{'value':>12}{'± stderr':>12}   provenance")
        for row in self.rows:
            lines.append(
                f"{row.metric:<24}{row.value:>12.4f}{row.stderr:>12.4f}   {row.provenance}"
            )
        lines += [f"IMPOSSIBLE: {sentence}" for sentence in self.impossible()]
        return "\n".join(lines)


def density_grid(target: Target) -> Grid:
    """The grid on which masses are computed and densities drawn."""
    return Grid.over(target.box, GRID, MARGIN)


def score(
    model: Model,
    target: Target,
    seed: int = 0,
    *,
    family: str = "model",
    n_test: int = N_TEST,
    n_samples: int = N_SAMPLES,
) -> Scorecard:
    """The scorecard of a model.

    Args:
        model: what is judged.
        target: the truth.
        seed: of the fresh true points and of the model's samples.
        family: the name that the rows bear.
        n_test: fresh true points.
        n_samples: samples drawn from the model.

    Raises:
        UsageError: model and target live in spaces of different dimension.
    """
    if model.dim != target.dim:
        raise UsageError(
            f"the model's points have dimension {model.dim}, those of {target.name} {target.dim}; "
            "score a model of the same space."
        )
    samples = np.asarray(model.sample(key_for(seed, "samples"), n_samples))
    estimates: dict[str, Estimate] = {}
    log_density = None
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    if isinstance(model, HasDensity):
        grid = density_grid(target)
        log_q = lambda points: np.asarray(batched(model.log_prob, jnp.asarray(points)))
        log_density = log_q(grid.points).reshape(GRID, GRID)
        provenance = model.density_provenance
        total = None
        if provenance != "exact":
            total = density.mass(log_q, grid, log_density, provenance)
            provenance = f"{provenance[:-1]}, mass={total.value:.4f})"
        log_p_test, log_q_test = (
            np.asarray(batched(target.log_prob, jnp.asarray(test))),
            log_q(test),
        )
        estimates["kl"] = density.kl(log_p_test, log_q_test, provenance)
        estimates["nll"] = density.nll(log_q_test, provenance)
        if total is not None:
            estimates["mass"] = total
    if isinstance(model, HasBound):
        for k, metric in ((1, "nll_elbo"), (IMPORTANCE_SAMPLES, "nll_importance")):
            bounds = _bounds(model, key_for(seed, "bound"), jnp.asarray(test), k)
            estimates[metric] = (
                density.nll_elbo(bounds) if k == 1 else density.nll_importance(bounds, k)
            )
    if log_density is not None:
        estimates["self_bhattacharyya"] = overlap.self_bhattacharyya(
            samples, density_grid(target), log_density, overlap.BANDWIDTH * np.std(test, axis=0)
        )
    rows = _rows(estimates, target, family, seed)
    from_samples = score_samples(samples, target, seed, family=family, n_test=n_test)
    return Scorecard(rows + from_samples.rows, samples, log_density)


def score_samples(
    samples: Any, target: Target, seed: int = 0, *, family: str = "samples", n_test: int = N_TEST
) -> Scorecard:
    """The scorecard of samples made by anything: the metrics that need no density.

    Raises:
        UsageError: samples of the wrong shape, too few, with NaN or without spread.
    """
    samples = check_points(samples, "samples", minimum=100)
    if samples.shape[1] != target.dim:
        raise UsageError(
            f"samples must have shape (n, {target.dim}) for {target.name}, got {samples.shape}."
        )
    if np.linalg.matrix_rank(np.cov(samples.astype(np.float64).T)) < target.dim:
        raise UsageError(
            "samples have no spread along some direction; they are no density's draws."
        )
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(samples)))
    estimates = {
        "bhattacharyya": overlap.bhattacharyya(samples, *_truth_grid(target)),
        "off_support": support.off_support(log_p, target.hdr_log_density),
        "kde_log_likelihood": kde.kde_log_likelihood(samples, test),
        "kde_cv_log_likelihood": kde.kde_cv_log_likelihood(samples, test),
    }
    return Scorecard(_rows(estimates, target, family, seed), samples)


@functools.cache
def _truth_grid(target: Target) -> tuple[Grid, np.ndarray]:
    grid = Grid.over(target.box, TRUTH_GRID, 3 * MARGIN)
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(grid.points)))
    return grid, log_p.reshape(TRUTH_GRID, TRUTH_GRID)


def _bounds(model: HasBound, key: jax.Array, points: jax.Array, k: int) -> np.ndarray:
    keys = jax.random.split(key, len(points))
    return np.asarray(
        batched(lambda pair: model.log_prob_bound(pair[0], pair[1], k), (keys, points))
    )


def _rows(
    estimates: dict[str, Estimate], target: Target, family: str, seed: int
) -> tuple[Row, ...]:
    return tuple(Row(target.name, family, seed, metric, *e) for metric, e in estimates.items())


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
