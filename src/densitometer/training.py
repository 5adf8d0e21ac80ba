"""One loop for every family: a chunked scan, two hold-out curves, the best state by hold-out.

The batch of step t is drawn inside the compiled program from ``fold_in(key, t)``, so neither the
length of a chunk, nor a progress bar, nor stopping and going on changes one bit of the result.

The loop fits any number of seeds at once: everything in it has a first axis for them. One seed on
a core is an axis of one; on an accelerator all seeds of a study go through one program together.
"""

import csv
import dataclasses
import functools
import hashlib
import io
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, SupportsIndex

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Scalar

from densitometer.checkpoint import decode_halfway, encode_halfway
from densitometer.counts import check_seed
from densitometer.errors import UsageError
from densitometer.families.base import Family, Info
from densitometer.models import Model, Standardiser
from densitometer.numerics import pinned
from densitometer.points import STRAY, check_points, check_spread, told_far
from densitometer.randomness import key_for

__all__ = ["Fit", "fit", "fit_seeds"]

BUDGETS: Mapping[str, float] = {"smoke": 0.01, "standard": 1.0, "long": 4.0}
"""How a budget's name scales a family's `steps`."""

EVALUATIONS = 20
"""How often a fit stops to look at the hold-out set, if it has so many steps: the points of its
curves."""

CURVE_SAMPLES = 1000
"""Model samples behind each point of the curve common to all families."""

Progress = Callable[[int, int, float], None]
"""Called after each evaluation with (step, steps, hold-out loss)."""

KEEP_EVERY = 5.0
"""Seconds of a fit that may be lost."""


class Halfway(eqx.Module):
    """A fit between two looks: all that the rest of it depends on."""

    states: Any
    best: Any
    best_value: Float[np.ndarray, " s"]
    selected: Int[np.ndarray, " s"]
    diverged: Int[np.ndarray, " s"]
    rows: Any
    """The curves so far, looks × columns × seeds; the file's header names the columns."""


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
    seed: SupportsIndex = 0,
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
        UsageError: points of the wrong shape, not finite, without spread, or such that float32
            cannot hold them; a seed that is no whole number from 0 to 2³² − 1; an unknown budget.
    """
    return fit_seeds(family, [train], [holdout], seeds=[seed], budget=budget, progress=progress)[0]


@pinned()
def fit_seeds(
    family: Family,
    trains: Sequence[Any],
    holdouts: Sequence[Any],
    *,
    seeds: Sequence[SupportsIndex],
    budget: str = "standard",
    progress: Progress | None = None,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
) -> list[Fit]:
    """Fit one family several times at once, each time with its own points and its own seed.

    What `fit` does for each, in one compiled program for all: on an accelerator little slower than
    for one, on a core no faster than one after the other. The numbers are those of `fit` but for
    the order in which sums are rounded.

    Args:
        family: what learns.
        trains: training points of each fit, as `fit` takes them, all of one shape.
        holdouts: hold-out points of each fit, all of one shape.
        seeds: the seed of each fit.
        budget: ``smoke``, ``standard`` or ``long``.
        progress: called after each evaluation, with the mean loss.
        resume: what `keep` was last given by the same fit, which then goes on from there and ends
            with the same bits as if it had never stopped.
        keep: called every few seconds with what `resume` takes.

    Raises:
        UsageError: as `fit`; `resume` is damaged or another fit's; or the points of two fits differ
            in shape, or are not one set a seed.
    """
    family = at_budget(family, budget)
    seeds = [check_seed(seed) for seed in seeds]
    points, kept_out = _stacked(trains, "train"), _stacked(holdouts, "holdout")
    if points.shape[2] != kept_out.shape[2]:
        raise UsageError(
            f"train has dimension {points.shape[2]} but holdout {kept_out.shape[2]}; "
            "give both points of the same space."
        )
    if not len(points) == len(kept_out) == len(seeds):
        raise UsageError(
            f"{len(points)} training sets, {len(kept_out)} hold-out sets and {len(seeds)} seeds do "
            "not go together; give one of each a fit."
        )
    for fit_points in points:
        check_spread(fit_points, "train")
    standardisers = [Standardiser.from_data(fit_points) for fit_points in points]
    z, z_out = (
        np.stack([s.standardise(p) for s, p in zip(standardisers, sets, strict=True)])
        for sets in (points, kept_out)
    )
    for away in np.max(np.abs(z_out), axis=2):
        if np.any(away > STRAY):
            raise UsageError(told_far(away > STRAY, away, "holdout", "train"))
    prepared = _each(_prepare, (0, 0, 0), _keys(seeds, "data"), z, z_out)
    data, kept, blurred, bandwidths = prepared
    keys = _keys(seeds, "fit")
    first = jax.vmap(jax.random.fold_in, (0, None))(keys, 0)

    states = _each(_init, (None, 0, 0), family, first, data)
    moments = evaluation_steps(family.steps)
    best, best_value = states, np.full(len(seeds), math.inf)
    selected, diverged = np.zeros(len(seeds), int), np.zeros(len(seeds), int)
    rows: list[dict[str, np.ndarray]] = []
    about = _about(family, seeds, points, kept_out)
    if resume is not None:
        blank = Halfway(states, best, best_value, selected, diverged, np.zeros((0, 0, 0)))
        header, back = decode_halfway(resume, about, functools.partial(_like, blank))
        states, best, best_value = back.states, back.best, back.best_value
        selected, diverged = back.selected, back.diverged
        rows = [dict(zip(header["curves"], look, strict=True)) for look in back.rows]
    last_kept = time.monotonic()
    seconds = {"train": 0.0, "evaluate": 0.0}
    for start, end in list(itertools.pairwise([0, *moments]))[len(rows) :]:
        began = time.perf_counter()
        advance = (family, end - start, keys, states, jnp.asarray(start), data)
        states, info = jax.block_until_ready(_each(_advance, (None, None, 0, 0, None, 0), *advance))
        stepped = time.perf_counter()
        looks = {
            "train_loss": (_loss, (family, keys, states, data[:, : kept.shape[1]])),
            "holdout_loss": (_loss, (family, keys, states, kept)),
            "holdout_kde_nll": (_kde_nll, (family, keys, states, blurred, bandwidths)),
        }
        row = {
            name: np.asarray(_each(look, (None, *[0] * (len(args) - 1)), *args), float)
            for name, (look, args) in looks.items()
        }
        row |= {f"step_{name}": np.asarray(value, float) for name, value in info.items()}
        rows.append(row)
        seconds["train"] += (stepped - began) / len(seeds)
        seconds["evaluate"] += (time.perf_counter() - stepped) / len(seeds)
        if progress is not None:
            progress(end, family.steps, float(np.mean(row["holdout_loss"])))
        sound = np.isfinite([*row.values()]).all(axis=0)
        sound &= np.asarray(_each(_finite, (0,), eqx.filter(states, eqx.is_inexact_array)))
        diverged[(diverged == 0) & ~sound] = end
        better = (diverged == 0) & (row[family.select_by] < best_value)
        best = _chosen(better, states, best)
        best_value[better], selected[better] = row[family.select_by][better], end
        if np.all(diverged > 0):
            break
        if keep is not None and time.monotonic() - last_kept >= KEEP_EVERY:
            curves = np.array([list(row.values()) for row in rows])
            halfway = Halfway(states, best, best_value, selected, diverged, curves)
            keep(encode_halfway(halfway, about | {"looks": len(rows), "curves": list(row)}))
            last_kept = time.monotonic()
    fits = []
    chosen = jax.tree.map(np.asarray, best)
    for i in range(len(seeds)):
        state = jax.device_put(jax.tree.map(lambda a, i=i: a[i], chosen))
        looks = moments.index(diverged[i]) + 1 if diverged[i] else len(rows)
        curves = {name: np.array([row[name][i] for row in rows[:looks]]) for name in rows[0]}
        fits.append(
            Fit(
                family,
                dataclasses.replace(family.model(state), standardiser=standardisers[i]),
                state,
                {"step": np.array(moments[:looks])} | curves,
                int(selected[i]),
                int(diverged[i]) or None,
                dict(seconds),
            )
        )
    return fits


def _about(
    family: Family, seeds: list[int], points: np.ndarray, kept_out: np.ndarray
) -> dict[str, Any]:
    """What tells a fit from every other."""
    data = hashlib.sha256(points.tobytes() + kept_out.tobytes()).hexdigest()
    return {
        "family": family.name,
        "hyperparameters": family.hyperparameters(),
        "seeds": seeds,
        "data": data,
    }


def _like(blank: Halfway, header: Mapping[str, Any]) -> Halfway:
    """A fit of the shapes that `header` tells."""
    shape = (header["looks"], len(header["curves"]), len(blank.selected))
    return dataclasses.replace(blank, rows=jax.ShapeDtypeStruct(shape, np.float64))


def _stacked(sets: Sequence[Any], name: str) -> np.ndarray:
    """Checked points of several fits in one array."""
    checked = [check_points(points, name) for points in sets]
    if len({points.shape for points in checked}) != 1:
        raise UsageError(f"{name} of one fit has another shape than that of another; cut them.")
    return np.stack(checked)


def _chosen(better: np.ndarray, new: Any, old: Any) -> Any:
    """For each seed the new state where it is better, else the old."""
    if better.all():
        return new
    if not better.any():
        return old
    return _each(_either, (0, 0, 0), better, new, old)


def _either(first: Bool[Array, ""], one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)


@eqx.filter_jit
def _each(function: Callable[..., Any], axes: tuple[int | None, ...], *args: Any) -> Any:
    """A function of one seed, for all of them: arguments whose axis is 0 have one for the seeds.

    One seed alone is not mapped: products of batches of one matrix are slower than of matrices.
    """
    seeds = next(jax.tree.leaves(a)[0] for a, axis in zip(args, axes, strict=True) if axis == 0)
    if len(seeds) > 1:
        return eqx.filter_vmap(function, in_axes=axes)(*args)
    first = lambda tree, axis: tree if axis is None else jax.tree.map(lambda a: a[0], tree)
    alone = function(*map(first, args, axes))
    return jax.tree.map(lambda a: a[None], alone)


def at_budget(family: Family, budget: str) -> Family:
    """The family with its steps scaled by a budget: rounded, and one at least.

    Raises:
        UsageError: there is no such budget, or `family` is none.
    """
    if not isinstance(family, Family):
        raise UsageError(f"a family is made by families.get, as in get('dsm'), not {family!r}.")
    if not isinstance(budget, str) or budget not in BUDGETS:
        raise UsageError(f"there is no budget {budget!r}; choose from {', '.join(BUDGETS)}.")
    return dataclasses.replace(family, steps=max(1, round(family.steps * BUDGETS[budget])))


def evaluation_steps(steps: int) -> list[int]:
    """The steps after which a fit of `steps` steps is evaluated, the last of them included.

    There are n = min(steps, `EVALUATIONS`), at ⌊i · steps / n⌋ for i = 1 … n, so the gaps are of
    one length or, if n does not divide `steps`, of two: each length is a program to compile.
    """
    n = min(steps, EVALUATIONS)
    return [i * steps // n for i in range(1, n + 1)]


def _keys(seeds: Sequence[int], purpose: str) -> Key[Array, " s"]:
    return jax.vmap(lambda seed: key_for(seed, purpose))(np.asarray(seeds, np.uint32))


def _prepare(
    key: Key[Scalar, ""], points: Float[Array, "n d"], kept: Float[Array, "m d"]
) -> tuple[Float[Array, "n d"], Float[Array, "m d"], Float[Array, "b d"], Float[Array, ""]]:
    """The training set in random order, the hold-out, and what the common curve needs."""
    order_key, blur_key = jax.random.split(key)
    # Whoever sorted them: a batch may be neighbours.
    data = jax.random.permutation(order_key, points)
    bandwidth = _common_bandwidth(data)
    return data, kept, _blur(blur_key, kept, bandwidth), bandwidth


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
        return family.step(step_key, state, _batch(batch_key, family.drawn, data))

    state, infos = jax.lax.scan(step, state, start + jnp.arange(steps))
    return state, jax.tree.map(jnp.mean, infos)


def _batch(key: Key[Scalar, ""], n: int, data: Float[Array, "m d"]) -> Float[Array, "b d"]:
    """n points, drawn with replacement; if there are no more than n, all, from a random one on.

    Remainders of 32 bits are even but for one part in 2³² / m, and cost a third of
    `jax.random.randint`.
    """
    if n < len(data):
        return data[jax.random.bits(key, (n,)) % np.uint32(len(data))]
    return jnp.roll(data, jax.random.bits(key) % np.uint32(len(data)), axis=0)


def _loss(family: Family, key: Key[Scalar, ""], state: Any, points: Float[Array, "m d"]) -> Scalar:
    """The family's own loss, with the same noise whenever and on whatever points it is taken."""
    keys = jax.random.split(jax.random.fold_in(key, 0), family.loss_draws)
    return jnp.mean(jax.lax.map(lambda k: family.loss(k, state, points), keys))


def _kde_nll(
    family: Family,
    key: Key[Scalar, ""],
    state: Any,
    blurred: Float[Array, "b d"],
    bandwidth: Scalar,
) -> Scalar:
    """How far the hold-out points are from the model's samples, both blurred alike."""
    samples = family.model(state).sample(jax.random.fold_in(key, 0), CURVE_SAMPLES)
    return -_kde_log_likelihood(samples, blurred, bandwidth)


def _kde_log_likelihood(
    samples: Float[Array, "s d"], points: Float[Array, "m d"], bandwidth: Scalar
) -> Scalar:
    """Mean log-density of `points` under Gaussian bumps of width `bandwidth` on `samples`."""
    d2 = jnp.sum((points[:, None, :] - samples[None, :, :]) ** 2, axis=-1)
    n, dim = samples.shape
    bumps = jax.nn.logsumexp(-0.5 * d2 / bandwidth**2, axis=1)
    return jnp.mean(bumps) - jnp.log(n) - 0.5 * dim * jnp.log(2 * math.pi * bandwidth**2)


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


def _finite(state: Any) -> Bool[Array, ""]:
    """Whether all numbers of a state are finite: 0 · x is 0 then, else NaN."""
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state)])
    return jnp.sum(0.0 * flat) == 0  # a quarter of the time to compile that `isfinite` needs
