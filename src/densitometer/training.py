"""One loop for every family: a chunked scan, two hold-out curves, the best state by hold-out.

The batch of step t is drawn inside the compiled program from ``fold_in(key, t)``, so neither the
length of a chunk, nor a progress bar, nor stopping and going on changes one bit of the result.
"""

import csv
import dataclasses
import io
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.errors import UsageError
from densitometer.families.base import Family, Info
from densitometer.models import Model, Standardiser
from densitometer.points import check_points
from densitometer.randomness import key_for

BUDGETS: Mapping[str, float] = {"smoke": 0.01, "standard": 1.0, "long": 4.0}
"""How a budget's name scales a family's `steps`."""

EVALUATIONS = 25
"""How often a fit stops to look at the hold-out set: the points of its curves."""

CURVE_SAMPLES = 1000
"""Model samples behind each point of the curve common to all families."""

CURVES = ("train_loss", "holdout_loss", "holdout_kde_nll")
"""What is evaluated for every family: its own loss on both sets, and the measure common to all."""

Progress = Callable[[int, int, float], None]
"""Called after each evaluation with (step, steps, hold-out loss)."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """What `fit` returns."""

    family: Family
    """The family, with the `steps` that the budget gave it."""
    model: Model
    """The model of the selected state, in data coordinates."""
    state: Any
    """The selected state."""
    curves: dict[str, np.ndarray]
    """Columns over evaluations: ``step``, ``train_loss``, ``holdout_loss`` (the family's own),
    ``holdout_kde_nll`` (nats, the same measure for all families: the cross-entropy of hold-out and
    samples, both blurred by one kernel), and the infos of its steps."""
    selected_step: int
    """The step whose state was kept: the minimum of the hold-out curve that the family names."""
    diverged_at: int | None
    """The step at whose evaluation a loss or parameter was not finite, or None."""
    seconds: dict[str, float] = dataclasses.field(compare=False)
    """What the steps took (``train``) and what looking at the curves took (``evaluate``), each with
    the compilation of its program where there was none yet."""

    def curves_csv(self) -> str:
        """The curves as CSV text; floats survive the round trip exactly."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.curves)
        writer.writerows(zip(*(c.tolist() for c in self.curves.values()), strict=True))
        return text.getvalue()


def fit(
    family: Family,
    train: Any,
    holdout: Any,
    *,
    seed: int = 0,
    budget: str = "standard",
    progress: Progress | None = None,
) -> Fit:
    """Train a family on points and keep its best state by hold-out.

    Args:
        family: what learns.
        train: training points, an array of shape (n, d) in data coordinates; they also set the
            standardisation.
        holdout: points, of shape (m, d), that choose the state that is kept; they never reach a
            gradient.
        seed: of initialisation, batches and noise.
        budget: ``smoke``, ``standard`` or ``long``; scales ``family.steps``.
        progress: called after each evaluation.

    Raises:
        UsageError: points of the wrong shape, not finite, or without spread; an unknown budget.
    """
    points, kept = check_points(train, "train"), check_points(holdout, "holdout")
    if points.shape[1] != kept.shape[1]:
        raise UsageError(
            f"train has dimension {points.shape[1]} but holdout {kept.shape[1]}; "
            "give both points of the same space."
        )
    if not np.all(np.std(points, axis=0) > 0):
        raise UsageError(
            "train has no spread along some axis; give points of a law with a density."
        )
    family = at_budget(family, budget)
    standardiser = Standardiser.from_data(jnp.asarray(points))
    data = standardiser.forward(jnp.asarray(points))
    kept_out = standardiser.forward(jnp.asarray(kept))
    bandwidth = _common_bandwidth(data)
    blurred = _blur(key_for(seed, "blur"), kept_out, bandwidth)

    key = key_for(seed, "fit")
    state = _init(family, jax.random.fold_in(key, 0), data)
    chunk = family.steps // EVALUATIONS
    best, best_value, selected, diverged = state, math.inf, 0, None
    rows: list[dict[str, float | int]] = []
    seconds = {"train": 0.0, "evaluate": 0.0}
    for start in range(0, family.steps, chunk):
        began = time.perf_counter()
        advanced = _advance(family, chunk, key, state, jnp.asarray(start), data)
        state, info = jax.block_until_ready(advanced)
        stepped = time.perf_counter()
        looked = _evaluate(family, key, state, data, kept_out, blurred, bandwidth)
        row = {"step": start + chunk}
        row |= {name: float(looked[name]) for name in CURVES}
        row |= {f"step_{name}": float(value) for name, value in info.items()}
        rows.append(row)
        seconds["train"] += stepped - began
        seconds["evaluate"] += time.perf_counter() - stepped
        if progress is not None:
            progress(start + chunk, family.steps, row["holdout_loss"])
        if not _finite(state, row):
            diverged = start + chunk
            break
        if row[family.select_by] < best_value:
            best, best_value, selected = state, row[family.select_by], start + chunk
    model = dataclasses.replace(family.model(best), standardiser=standardiser)
    curves = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    curves["step"] = curves["step"].astype(int)
    return Fit(family, model, best, curves, selected, diverged, seconds)


def at_budget(family: Family, budget: str) -> Family:
    """The family with its steps scaled by a budget, a multiple of `EVALUATIONS`.

    Raises:
        UsageError: there is no such budget.
    """
    if budget not in BUDGETS:
        raise UsageError(f"there is no budget '{budget}'; choose from {', '.join(BUDGETS)}.")
    chunk = max(1, round(family.steps * BUDGETS[budget] / EVALUATIONS))
    return dataclasses.replace(family, steps=chunk * EVALUATIONS)


@eqx.filter_jit
def _init(family: Family, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> Any:
    return family.init(key, data)


@eqx.filter_jit
def _advance(
    family: Family,
    steps: int,
    key: Key[Scalar, ""],
    state: Any,
    start: Array,
    data: Float[Array, "n d"],
) -> tuple[Any, Info]:
    """`steps` steps from `start` on; the state after them and the mean of their infos."""

    def step(state: Any, t: Array) -> tuple[Any, Info]:
        batch_key, step_key = jax.random.split(jax.random.fold_in(key, t + 1))
        rows = jax.random.randint(batch_key, (family.batch_size,), 0, len(data))
        return family.step(step_key, state, data[rows])

    state, infos = jax.lax.scan(step, state, start + jnp.arange(steps))
    return state, jax.tree.map(jnp.mean, infos)


@eqx.filter_jit
def _evaluate(
    family: Family,
    key: Key[Scalar, ""],
    state: Any,
    data: Float[Array, "n d"],
    holdout: Float[Array, "m d"],
    blurred: Float[Array, "b d"],
    bandwidth: Scalar,
) -> Info:
    """A row of the curves. `train_loss` is on as many points as `holdout_loss`, same noise."""
    keys = jax.random.split(jax.random.fold_in(key, 0), family.loss_draws)
    loss = lambda batch: jnp.mean(jax.lax.map(lambda k: family.loss(k, state, batch), keys))
    samples = family.model(state).sample(keys[0], CURVE_SAMPLES)
    return {
        "train_loss": loss(data[: len(holdout)]),
        "holdout_loss": loss(holdout),
        "holdout_kde_nll": -_kde_log_likelihood(samples, blurred, bandwidth),
    }


def _kde_log_likelihood(
    samples: Float[Array, "s d"], points: Float[Array, "m d"], bandwidth: Scalar
) -> Scalar:
    """Mean log-density of `points` under Gaussian bumps of width `bandwidth` on `samples`."""
    d2 = jnp.sum((points[:, None, :] - samples[None, :, :]) ** 2, axis=-1)
    n, dim = samples.shape
    bumps = jax.nn.logsumexp(-0.5 * d2 / bandwidth**2, axis=1)
    return jnp.mean(bumps) - jnp.log(n) - 0.5 * dim * jnp.log(2 * math.pi * bandwidth**2)


@jax.jit
def _common_bandwidth(data: Float[Array, "n d"]) -> Scalar:
    """The bandwidth of the common curve: the best for one half of the training set under the other.

    It depends on the data alone, so it is the same for all families.
    """
    half = min(CURVE_SAMPLES, len(data) // 2)
    one, other = data[:half], data[half : 2 * half]
    candidates = jnp.geomspace(0.02, 1.0, 24)
    return candidates[
        jnp.argmax(jax.lax.map(lambda h: _kde_log_likelihood(one, other, h), candidates))
    ]


def _blur(key: Key[Scalar, ""], points: Float[Array, "m d"], h: Scalar) -> Float[Array, "b d"]:
    """Each point twice, moved by h n and by −h n with n ~ N(0, I): draws from p ∗ N(0, h² I).

    A kernel density estimate is as wide as q ∗ N(0, h² I), so under points of p itself the best q
    would be narrower than p. With both laws blurred alike the best q is p.
    """
    noise = h * jax.random.normal(key, points.shape)
    return jnp.concatenate([points + noise, points - noise])


def _finite(state: Any, row: Mapping[str, float | int]) -> bool:
    arrays = jax.tree.leaves(eqx.filter(state, eqx.is_inexact_array))
    return all(map(math.isfinite, row.values())) and all(
        bool(jnp.all(jnp.isfinite(a))) for a in arrays
    )
