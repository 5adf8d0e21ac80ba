"""The numbers of one model against one target: which metrics apply, run, labelled."""

import dataclasses
import functools
import itertools
import json
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from densitometer import targets
from densitometer.errors import UsageError
from densitometer.estimates import Estimate
from densitometer.metrics import METRICS, density, kde, laws, modes, overlap, support
from densitometer.metrics.density import Grid
from densitometer.models import HasBound, HasDensity, HasDiagnostics, HasScore, Model, batched
from densitometer.points import check_points
from densitometer.randomness import key_for
from densitometer.targets.base import Target

N_TEST = 10_000
"""Fresh true points behind `kl` and every other mean over the truth."""

N_SAMPLES = 2_000
"""Model samples behind every metric on samples; as many true ones stand beside them."""

N_SCORES = 2_000
"""Fresh true points at which scores are compared."""

N_DIAGNOSTICS = 500
"""Draws behind what a model tells of its own sampler."""

GRID = 128
"""Cells a side of the grid for masses and maps of densities."""

TRUTH_GRID = 400
"""Cells a side of the finer grid on which the truth's density is smoothed."""

BOUND_SAMPLES = 64
"""k of the reported importance-weighted bound, or samples that steady a bound which k does not
tighten."""


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
    """The rows of one model, or of a few side by side, against one target.

    Printed, it is a table. `samples` and `log_density` (the model's, on a grid over the target's
    box; None if it has none) are kept for pictures and do not go into the JSON.
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
        for (target, _), rows in itertools.groupby(self.rows, key=lambda r: (r.target, r.family)):
            card = {r.metric: Estimate(r.value, r.stderr, r.provenance) for r in rows}
            entropy = targets.get(target).entropy if target in targets.TARGETS else None
            found += [why for _, why in laws.broken(card, entropy)]
        return found

    def __str__(self) -> str:
        lines = []
        for family, rows in itertools.groupby(self.rows, key=lambda row: row.family):
            rows = list(rows)
            lines += [f"{family} on {rows[0].target}, seed {rows[0].seed}", ""]
            lines.append(f"{'metric':<24}{'value':>12}{'± stderr':>12}   provenance")
            lines += [
                f"{row.metric:<24}{row.value:>12.4f}{row.stderr:>12.4f}   {row.provenance}"
                for row in rows
            ]
            lines.append("")
        lines += [f"IMPOSSIBLE: {sentence}" for sentence in self.impossible()]
        return "\n".join(lines).rstrip()


def score(
    model: Model,
    target: Target,
    seed: int = 0,
    *,
    family: str = "model",
    n_test: int = N_TEST,
    n_samples: int = N_SAMPLES,
    n_grid: int = GRID,
) -> Scorecard:
    """The scorecard of a model.

    Args:
        model: what is judged.
        target: the truth.
        seed: of the fresh true points and of the model's samples.
        family: the name that the rows bear.
        n_test: fresh true points.
        n_samples: samples drawn from the model.
        n_grid: cells a side of the grid for the mass and the map of the density.

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
    grid, log_density = Grid.over(target.box, n_grid, density.MARGIN), None
    log_q_test = None
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    if isinstance(model, HasDensity):
        log_q = lambda points: np.asarray(batched(model.log_prob, jnp.asarray(points)))
        log_density = log_q(grid.points).reshape(n_grid, n_grid)
        provenance = model.density_provenance
        total = None
        if provenance != "exact":
            total = density.mass(log_q, grid, log_density, provenance)
            provenance = f"{provenance[:-1]}, mass={total.value:.4f})"
        log_p_test = np.asarray(batched(target.log_prob, jnp.asarray(test)))
        log_q_test = log_q(test)
        for compared in (
            density.kl,
            density.jensen_shannon,
            density.total_variation,
            density.hellinger,
            density.bhattacharyya_exact,
        ):
            estimates[compared.__name__] = compared(log_p_test, log_q_test, provenance)
        estimates["nll"] = density.nll(log_q_test, provenance)
        if target.smooth:
            log_p_own = np.asarray(batched(target.log_prob, jnp.asarray(samples)))
            estimates["reverse_kl"] = density.reverse_kl(log_p_own, log_q(samples), provenance)
        if total is not None:
            estimates["mass"] = total
    if isinstance(model, HasScore) and target.smooth:
        points = jnp.asarray(test[:N_SCORES])
        score_p, score_q = (np.asarray(batched(law.score, points)) for law in (target, model))
        estimates["fisher_divergence"] = density.fisher_divergence(score_p, score_q, "exact")
    if isinstance(model, HasBound):
        key, k = key_for(seed, "bound"), BOUND_SAMPLES
        once = 1 if model.bound_tightens else k
        elbo = _bounds(model, key, test, once)
        estimates["nll_elbo"] = density.nll_elbo(elbo)
        if log_q_test is not None:
            estimates["bound_gap"] = density.bound_gap(elbo, log_q_test)
        if model.bound_tightens:
            estimates["nll_importance"] = density.nll_importance(_bounds(model, key, test, k), k)
    if log_density is not None:
        widths = overlap.BANDWIDTH * np.std(test, axis=0, dtype=np.float64)
        estimates["self_bhattacharyya"] = overlap.self_bhattacharyya(
            samples, grid, log_density, widths
        )
    if isinstance(model, HasDiagnostics):
        told = model.diagnostics(key_for(seed, "diagnostics"), N_DIAGNOSTICS)
        estimates |= {name: METRICS[name](np.asarray(v)) for name, v in told.items()}
    rows = _rows(estimates, target, family, seed)
    rows += _judge_samples(samples, target=target, seed=seed, family=family, n_test=n_test)
    return Scorecard(rows, samples, log_density)


def score_samples(
    samples: Any, target: Target, seed: int = 0, *, family: str = "samples", n_test: int = N_TEST
) -> Scorecard:
    """The scorecard of samples made by anything: the metrics that need no density.

    Below them stand the rows of ``truth``: the same metrics of as many fresh true samples, which is
    what a perfect sampler would score.

    Raises:
        UsageError: samples of the wrong shape, too few, with NaN or without spread.
    """
    samples = _check_samples(samples, target)
    truth = np.asarray(target.sample(key_for(seed, "samples"), len(samples)))
    judge = functools.partial(_judge_samples, target=target, seed=seed, n_test=n_test)
    return Scorecard(judge(samples, family=family) + judge(truth, family="truth"), samples)


def _check_samples(samples: Any, target: Target) -> np.ndarray:
    samples = check_points(samples, "samples", minimum=100)
    if samples.shape[1] != target.dim:
        raise UsageError(
            f"samples must have shape (n, {target.dim}) for {target.name}, got {samples.shape}."
        )
    if np.linalg.matrix_rank(np.cov(samples.astype(np.float64).T)) < target.dim:
        raise UsageError(
            "samples have no spread along some direction; they are no density's draws."
        )
    return samples


def _judge_samples(
    samples: np.ndarray, *, target: Target, seed: int, family: str, n_test: int
) -> tuple[Row, ...]:
    """The metrics that need nothing but samples."""
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(samples)))
    estimates = {
        "bhattacharyya": overlap.bhattacharyya(samples, *_truth_grid(target)),
        "off_support": support.off_support(log_p, target.hdr_log_density),
        "kde_log_likelihood": kde.kde_log_likelihood(samples, test),
        "kde_cv_log_likelihood": kde.kde_cv_log_likelihood(samples, test),
    }
    if target.smooth:
        estimates["log_true_density"] = density.log_true_density(log_p, target.entropy)
    if target.modes is not None:
        estimates["mode_weights"] = modes.mode_weights(samples, *target.modes)
    return _rows(estimates, target, family, seed)


@functools.cache
def _truth_grid(target: Target) -> tuple[Grid, np.ndarray]:
    grid = Grid.over(target.box, TRUTH_GRID, 3 * density.MARGIN)
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(grid.points)))
    return grid, log_p.reshape(TRUTH_GRID, TRUTH_GRID)


def _bounds(model: HasBound, key: jax.Array, points: np.ndarray, k: int) -> np.ndarray:
    keys = jax.random.split(key, len(points))
    return np.asarray(
        batched(lambda pair: model.log_prob_bound(pair[0], pair[1], k), (keys, jnp.asarray(points)))
    )


def _rows(
    estimates: dict[str, Estimate], target: Target, family: str, seed: int
) -> tuple[Row, ...]:
    return tuple(Row(target.name, family, seed, metric, *e) for metric, e in estimates.items())


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
