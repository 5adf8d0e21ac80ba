"""One loop for every family: a chunked scan, two hold-out curves, the best state by hold-out.

The batch of step t is drawn inside the compiled program from ``fold_in(key, t)``, so neither the
length of a chunk, nor a progress bar, nor stopping and going on changes one bit of the result.

The loop fits any number of seeds at once: everything in it has a first axis for them. One seed on
a core is an axis of one; on an accelerator all seeds of a study go through one program together.

What does not change in it is a `Setup`, what changes is a `Run`: `prepare` makes the one, `begin`
the other; then `advance`, `evaluate` and `select` take turns, and `finish` makes fits of the run.
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

from densitometer.checkpoint import decode_run, encode_run
from densitometer.counts import check_count, check_seed
from densitometer.domains import Domain, PositiveOrZero
from densitometer.errors import UsageError
from densitometer.families.base import Family, Info
from densitometer.models import Model, Standardiser
from densitometer.numerics import pinned
from densitometer.points import STRAY, check_points, check_spread, told_far
from densitometer.randomness import key_for

__all__ = ["Fit", "fit", "fit_seeds"]

BUDGETS: Mapping[str, float] = {"smoke": 0.01, "standard": 1.0, "long": 4.0}
"""How a budget's name scales a family's `steps`."""

CURVE_SAMPLES = 1000
"""Model samples behind each point of the curve common to all families."""

Progress = Callable[[int, int, float], None]
"""Called after each evaluation with (step, steps, hold-out loss)."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is the same from the first step to the last: arrays have a first axis for the seeds."""

    family: Family
    """The family, with the `steps` that the budget gave it."""
    moments: list[int]
    """The steps after which it is evaluated."""
    identity: dict[str, Any]
    """What distinguishes these fits from all others, JSON-able: a checkpoint must agree with it."""
    standardisers: Sequence[Standardiser]
    """Of each seed's training points."""
    keys: Key[Array, " s"]
    """Of initialisation, batches and noise."""
    data: Float[Array, "s n d"]
    """Training points, standardised and in random order."""
    holdout: Float[Array, "s m d"]
    """Hold-out points, standardised."""
    blurred: Float[Array, "s b d"]
    """The hold-out points of the common curve: each twice, moved by noise as wide as its kernel."""
    bandwidths: Float[Array, " s"]
    """The kernel's width."""


class Run(eqx.Module):
    """A fit between two evaluations: all that the rest of it depends on, and so its checkpoint.

    Everything but `columns` has an axis for the seeds, the first but in `rows`.
    """

    states: Any
    """The states that the next step begins with."""
    best: Any
    """The states selected so far."""
    best_value: Float[np.ndarray, " s"]
    """Their value on the hold-out curve that the family names; ∞ before the first evaluation."""
    selected: Int[np.ndarray, " s"]
    """The steps after which they were reached."""
    diverged: Int[np.ndarray, " s"]
    """The steps at whose evaluation a loss or parameter was not finite; 0 where all are."""
    rows: Float[np.ndarray, "e c s"]
    """The curves so far: evaluations × columns × seeds."""
    columns: tuple[str, ...] = eqx.field(static=True)
    """The names of the curves; none before the first evaluation."""


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
    """The step of the selected state: the minimum of the hold-out curve that the family names."""
    diverged_at: int | None
    """The step at whose evaluation a loss or parameter was not finite, or None."""
    seconds: dict[str, float] = dataclasses.field(compare=False)
    """What the steps took (``train``) and what the evaluations took (``evaluate``), each with the
    compilation of its program where there was none yet."""

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
    evaluations: SupportsIndex = 20,
    progress: Progress | None = None,
) -> Fit:
    """Train a family on points and select its best state by hold-out.

    Args:
        family: what learns.
        train: training points, an array of shape (n, d) in data coordinates; they also set the
            standardisation.
        holdout: points, of shape (m, d), that select the state; they never reach a gradient.
        seed: of initialisation, batches and noise.
        budget: ``smoke``, ``standard`` or ``long``; scales ``family.steps``.
        evaluations: how often the fit is evaluated: the points of its curves, of which one is
            selected. After every step if there are fewer steps.
        progress: called after each evaluation.

    Raises:
        UsageError: points of the wrong shape, not finite, without spread, or such that float32
            cannot hold them; a seed that is no whole number from 0 to 2³² − 1; evaluations that are
            no whole number from 1 on; an unknown budget.
    """
    [fitted] = fit_seeds(
        family,
        [train],
        [holdout],
        seeds=[seed],
        budget=budget,
        evaluations=evaluations,
        progress=progress,
    )
    return fitted


@pinned()
def fit_seeds(
    family: Family,
    trains: Sequence[Any],
    holdouts: Sequence[Any],
    *,
    seeds: Sequence[SupportsIndex],
    budget: str = "standard",
    evaluations: SupportsIndex = 20,
    progress: Progress | None = None,
    resume: bytes | None = None,
    keep: Callable[[bytes], None] | None = None,
    keep_every: float = 5.0,
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
        evaluations: how often the fits are evaluated, as `fit` takes it.
        progress: called after each evaluation, with the mean loss.
        resume: the checkpoint that `keep` was last given by the same fits, which then go on from
            there and end with the same bits as if they had never stopped.
        keep: called with a checkpoint after an evaluation, for whoever wants to `resume` from it.
        keep_every: seconds between two checkpoints at least: what may be lost.

    Raises:
        UsageError: as `fit`; `resume` is damaged or another fit's; `keep_every` is no such number;
            or the points of two fits differ in shape, or are not one set a seed.
    """
    keep_every = Domain.of(PositiveOrZero).checked(keep_every, "keep_every")
    setup = prepare(at_budget(family, budget), trains, holdouts, seeds, evaluations)
    run = begin(setup)
    if resume is not None:
        run = decode_run(resume, setup.identity, functools.partial(_like, run))
    seconds, kept_at = {"train": 0.0, "evaluate": 0.0}, time.monotonic()
    for start, end in list(itertools.pairwise([0, *setup.moments]))[len(run.rows) :]:
        began = time.perf_counter()
        run, info = advance(setup, run, start, end)
        stepped = time.perf_counter()
        row = evaluate(setup, run) | info
        seconds["train"] += (stepped - began) / len(seeds)
        seconds["evaluate"] += (time.perf_counter() - stepped) / len(seeds)
        if progress is not None:
            progress(end, setup.family.steps, float(np.mean(row["holdout_loss"])))
        run = select(setup, run, end, row)
        if np.all(run.diverged > 0):
            break
        if keep is not None and time.monotonic() - kept_at >= keep_every:
            keep(encode_run(run, setup.identity | _shape(run)))
            kept_at = time.monotonic()
    return finish(setup, run, seconds)


def prepare(
    family: Family,
    trains: Sequence[Any],
    holdouts: Sequence[Any],
    seeds: Sequence[SupportsIndex],
    evaluations: SupportsIndex,
) -> Setup:
    """What fits need before their first step: checked, standardised, stacked points, and keys.

    Raises:
        UsageError: as `fit_seeds`.
    """
    moments = evaluation_steps(family.steps, check_count(evaluations, "evaluations"))
    seeds = [check_seed(seed) for seed in seeds]
    train, holdout = _stacked(trains, "train"), _stacked(holdouts, "holdout")
    if train.shape[2] != holdout.shape[2]:
        raise UsageError(
            f"train has dimension {train.shape[2]} but holdout {holdout.shape[2]}; "
            "give both points of the same space."
        )
    if not len(train) == len(holdout) == len(seeds):
        raise UsageError(
            f"{len(train)} training sets, {len(holdout)} hold-out sets and {len(seeds)} seeds do "
            "not go together; give one of each a fit."
        )
    for points in train:
        check_spread(points, "train")
    standardisers = [Standardiser.from_data(points) for points in train]
    z, z_out = (
        np.stack([s.standardise(p) for s, p in zip(standardisers, sets, strict=True)])
        for sets in (train, holdout)
    )
    for away in np.max(np.abs(z_out), axis=2):
        if np.any(away > STRAY):
            raise UsageError(told_far(away > STRAY, away, "holdout", "train"))
    identity = {
        "family": family.name,
        "hyperparameters": family.hyperparameters(),
        "evaluations": len(moments),
        "seeds": seeds,
        "data": hashlib.sha256(train.tobytes() + holdout.tobytes()).hexdigest(),
    }
    arrays = _each(_arrange, (0, 0, 0), _keys(seeds, "data"), z, z_out)
    return Setup(family, moments, identity, standardisers, _keys(seeds, "fit"), *arrays)


def begin(setup: Setup) -> Run:
    """The run before its first step."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(setup.keys, 0)
    states = _each(_init, (None, 0, 0), setup.family, keys, setup.data)
    s = len(keys)
    never = np.zeros(s, int)
    return Run(states, states, np.full(s, math.inf), never, never, np.zeros((0, 0, s)), ())


def advance(setup: Setup, run: Run, start: int, end: int) -> tuple[Run, dict[str, np.ndarray]]:
    """The run after the steps from `start` to `end`, and each seed's mean of what they report."""
    args = (setup.family, end - start, setup.keys, run.states, jnp.asarray(start), setup.data)
    states, info = jax.block_until_ready(_each(_scan, (None, None, 0, 0, None, 0), *args))
    columns = {name: np.asarray(value, float) for name, value in info.columns().items()}
    return dataclasses.replace(run, states=states), columns


def evaluate(setup: Setup, run: Run) -> dict[str, np.ndarray]:
    """The losses of each seed's state: the family's own on both sets, and the one common to all."""
    family, keys, states = setup.family, setup.keys, run.states
    some = setup.data[:, : setup.holdout.shape[1]]
    curves = {
        "train_loss": (_loss, (family, keys, states, some)),
        "holdout_loss": (_loss, (family, keys, states, setup.holdout)),
        "holdout_kde_nll": (_kde_nll, (family, keys, states, setup.blurred, setup.bandwidths)),
    }
    return {
        name: np.asarray(_each(curve, (None, *[0] * (len(args) - 1)), *args), float)
        for name, (curve, args) in curves.items()
    }


def select(setup: Setup, run: Run, step: int, row: Mapping[str, np.ndarray]) -> Run:
    """The run with one more row of its curves and, for each seed, the better of best and new state.

    A seed of which a number is not finite has diverged, and selects nothing any more.
    """
    sound = np.isfinite([*row.values()]).all(axis=0)
    sound &= np.asarray(_each(_finite, (0,), eqx.filter(run.states, eqx.is_inexact_array)))
    diverged = np.where((run.diverged == 0) & ~sound, step, run.diverged)
    value = row[setup.family.select_by]
    better = (diverged == 0) & (value < run.best_value)
    return Run(
        states=run.states,
        best=_chosen(better, run.states, run.best),
        best_value=np.where(better, value, run.best_value),
        selected=np.where(better, step, run.selected),
        diverged=diverged,
        rows=np.array([*run.rows, [*row.values()]]),
        columns=tuple(row),
    )


def finish(setup: Setup, run: Run, seconds: Mapping[str, float]) -> list[Fit]:
    """The fit of each seed: its selected state, and its curves up to where it diverged."""
    fits = []
    chosen = jax.tree.map(np.asarray, run.best)
    for i, standardiser in enumerate(setup.standardisers):
        state = jax.device_put(jax.tree.map(lambda a, i=i: a[i], chosen))
        diverged_at = int(run.diverged[i]) or None
        n = setup.moments.index(diverged_at) + 1 if diverged_at else len(run.rows)
        curves = zip(run.columns, map(np.array, run.rows[:n, :, i].T), strict=True)
        fits.append(
            Fit(
                setup.family,
                dataclasses.replace(setup.family.model(state), standardiser=standardiser),
                state,
                {"step": np.array(setup.moments[:n]), **dict(curves)},
                int(run.selected[i]),
                diverged_at,
                dict(seconds),
            )
        )
    return fits


def _shape(run: Run) -> dict[str, Any]:
    """What a checkpoint has to say so that `_like` can tell its shapes."""
    return {"rows": len(run.rows), "columns": run.columns}


def _like(run: Run, header: Mapping[str, Any]) -> Run:
    """A run of the shapes that a checkpoint's `header` tells, with the states' shapes of `run`."""
    shape = (header["rows"], len(header["columns"]), len(run.selected))
    rows = np.broadcast_to(0.0, shape)  # which takes no memory, whatever the shape
    return dataclasses.replace(run, rows=rows, columns=tuple(header["columns"]))


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


def evaluation_steps(steps: int, evaluations: int) -> list[int]:
    """The steps after which a fit of `steps` steps is evaluated, the last of them included.

    There are n = min(steps, evaluations), at ⌊i · steps / n⌋ for i = 1 … n, so the gaps are of one
    length or, if n does not divide `steps`, of two: each length is a program to compile.
    """
    n = min(steps, evaluations)
    return [i * steps // n for i in range(1, n + 1)]


def _keys(seeds: Sequence[int], purpose: str) -> Key[Array, " s"]:
    return jax.vmap(lambda seed: key_for(seed, purpose))(np.asarray(seeds, np.uint32))


def _arrange(
    key: Key[Scalar, ""], points: Float[Array, "n d"], holdout: Float[Array, "m d"]
) -> tuple[Float[Array, "n d"], Float[Array, "m d"], Float[Array, "b d"], Float[Array, ""]]:
    """The training set in random order, the hold-out, and what the common curve needs."""
    order_key, blur_key = jax.random.split(key)
    # Whoever sorted them: a batch may be neighbours.
    data = jax.random.permutation(order_key, points)
    bandwidth = _common_bandwidth(data)
    return data, holdout, _blur(blur_key, holdout, bandwidth), bandwidth


@eqx.filter_jit
def _init(family: Family, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> Any:
    return family.init(key, data)


@eqx.filter_jit
def _scan(
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
        return family.step(step_key, state, _batch(batch_key, family.points_per_step, data))

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
