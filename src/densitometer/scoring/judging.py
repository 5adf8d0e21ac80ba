"""Which metrics apply to what is judged, and what they say."""

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics import METRICS, density, faults, kde, modes, overlap, support, two_sample
from densitometer.metrics.grids import Grid, GridLaw
from densitometer.metrics.order import in_random_order
from densitometer.models import HasBound, HasDensity, HasDiagnostics, HasScore, Model, batched
from densitometer.numerics import pinned
from densitometer.randomness import key_for
from densitometer.targets.base import Target

N_TEST = 10_000
"""Fresh true points behind `kl` and every other mean over the truth."""

N_SAMPLES = 2_000
"""Model samples behind every metric on samples; as many true ones stand beside them."""

N_SCORES = 2_000
"""Fresh true points at which scores are compared."""

GRID = 128
"""Cells a side of the grid for masses and maps of densities."""

TRUTH_GRID = 400
"""Cells a side of the finer grid on which the truth's density is smoothed."""

BOUND_SAMPLES = 64
"""k of the reported importance-weighted bound, or samples that steady a bound which k does not
tighten."""

N_COMPARED = 2_000
"""Samples at most, chosen at random, for metrics whose cost grows with the square of how many."""


class Judgement(NamedTuple):
    """The estimates of a model by metric; its samples, and its log-density on a grid if any."""

    estimates: dict[str, Estimate]
    samples: Float[np.ndarray, "n d"]
    log_density: Float[np.ndarray, "ny nx"] | None


@pinned()
def judge(
    model: Model, target: Target, seed: int, *, n_test: int, n_samples: int, n_grid: int
) -> Judgement:
    """Every metric that applies to a model: those of its density, of its score, of its samples."""
    target = _same(target)
    samples = np.asarray(model.sample(key_for(seed, "samples"), n_samples))
    estimates: dict[str, Estimate] = {}
    grid, log_density = Grid.over(target.box, n_grid, density.MARGIN), None
    log_q_test = None
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    if isinstance(model, HasDensity):
        log_q = lambda points: np.asarray(batched(model.log_prob, jnp.asarray(points)))
        log_density = grid.evaluate(log_q)
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
        own = GridLaw.of(grid, log_density, widths=on_grid(target).widths)
        estimates["self_bhattacharyya"] = overlap.self_bhattacharyya(samples, own)
    if isinstance(model, HasDiagnostics):
        told = model.diagnostics(key_for(seed, "diagnostics"), n_samples)
        estimates |= {name: METRICS[name](np.asarray(v)) for name, v in told.items()}
    estimates |= judge_samples(samples, target, seed, n_test=n_test)
    return Judgement(estimates, samples, log_density)


@pinned()
def judge_samples(
    samples: Float[np.ndarray, "n d"], target: Target, seed: int, *, n_test: int
) -> dict[str, Estimate]:
    """The metrics that need nothing but samples, whose order says nothing."""
    target = _same(target)
    test = np.asarray(target.sample(key_for(seed, "test"), n_test))
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(samples)))
    truth = on_grid(target)
    own = in_random_order(np.asarray(samples))[:N_COMPARED]
    estimates = {
        "bhattacharyya": overlap.bhattacharyya(samples, truth),
        "off_support": support.off_support(log_p, target.hdr_log_density),
        "duplicates": support.duplicates(samples),
        "kde_log_likelihood": kde.kde_log_likelihood(own, test),
        "kde_cv_log_likelihood": kde.kde_cv_log_likelihood(own, test),
        "shift": faults.shift(samples, truth),
        "blur": faults.blur(samples, truth),
        "leak": faults.leak(samples, truth, target.box),
    }
    if not truth.is_flat:
        estimates["temperature"] = faults.temperature(samples, truth)
    if target.smooth:
        estimates["log_true_density"] = density.log_true_density(log_p, target.entropy)
    if target.modes is not None:
        estimates["mode_weights"] = modes.mode_weights(samples, *target.modes)
    true = np.asarray(target.sample(key_for(seed, "comparison"), len(own)))
    estimates["mmd2"] = two_sample.mmd2(own, true, truth.sds)
    for compared in (
        two_sample.energy_distance,
        two_sample.sliced_w2,
        two_sample.w2,
        two_sample.c2st,
        two_sample.precision,
        two_sample.recall,
    ):
        estimates[compared.__name__] = compared(own, true)
    return estimates


@functools.cache
def _same(target: Target) -> Target:
    """One object for all equal laws: compiled programs are remembered by object."""
    return target


@functools.cache
def on_grid(target: Target) -> GridLaw:
    """The truth on a fine grid."""
    grid = Grid.over(target.box, TRUTH_GRID, 3 * density.MARGIN)
    log_p = np.asarray(batched(target.log_prob, jnp.asarray(grid.points)))
    return GridLaw.of(grid, log_p.reshape(TRUTH_GRID, TRUTH_GRID))


def _bounds(model: HasBound, key: jax.Array, points: np.ndarray, k: int) -> np.ndarray:
    keys = jax.random.split(key, len(points))
    return np.asarray(batched(eqx.Partial(_bound, model, k), (keys, jnp.asarray(points))))


def _bound(model: HasBound, k: int, pair: tuple[jax.Array, jax.Array]) -> jax.Array:
    return model.log_prob_bound(*pair, k)
