"""The loop that fits all families: a chunked scan, hold-out curves, and the best state by hold-out.

The batch of step t is drawn inside the compiled program from ``fold_in(key, t)``, so neither the
length of a chunk, nor a progress bar, nor an interruption changes one bit of the result.

The loop fits any number of seeds at once: everything in it has a first axis for them (`seeds`).

What is constant during a fit is a `Setup`, what changes is a `Run`. `prepare` makes the one and
`begin` the other; then `advance`, `evaluate` and `select` take turns, and `finish` makes fits of
the run.
"""

import csv
import dataclasses
import functools
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
from densitometer.curves import kde_nll, over, own_loss
from densitometer.domains import Domain, PositiveOrZero
from densitometer.families.base import Family, Info
from densitometer.models import Model
from densitometer.numerics import pinned
from densitometer.preparation import Setup, at_budget, prepare
from densitometer.seeds import chosen, each

__all__ = ["Fit", "fit", "fit_seeds"]

Progress = Callable[[int, int, float], None]
"""Called after each evaluation with (step, steps, hold-out loss)."""


class Run(eqx.Module):
    """The state of a fit between two evaluations: all that the rest depends on, so its checkpoint.

    Everything but `columns` has an axis for the seeds: the first, and in `rows` the last.
    """

    states: Any
    """The states before the next step."""
    best: Any
    """The states selected so far."""
    best_value: Float[np.ndarray, " s"]
    """Their value on the hold-out curve `Family.select_by`; ∞ before the first evaluation."""
    selected: Int[np.ndarray, " s"]
    """The steps after which they were reached."""
    diverged: Int[np.ndarray, " s"]
    """The steps at whose evaluation a loss or a parameter was not finite; 0 where there is none."""
    rows: Float[np.ndarray, "e c s"]
    """The curves so far: evaluations × columns × seeds."""
    columns: tuple[str, ...] = eqx.field(static=True)
    """The names of the curves; empty before the first evaluation."""


@dataclasses.dataclass(frozen=True)
class Fit:
    """A family fitted to points: its model, and how training went."""

    family: Family
    """The family, with the `steps` that the budget gives it."""
    model: Model
    """The model of the selected state, in data coordinates."""
    state: Any
    """The selected state."""
    curves: dict[str, np.ndarray]
    """Columns over evaluations: ``step``, ``train_loss`` and ``holdout_loss`` (the family's own,
    less `Family.least_loss`),
    ``holdout_kde_nll`` (nats, the same measure for all families: `curves`), and for each field of
    the family's info its mean over the steps since the last evaluation (``step_loss``)."""
    selected_step: int
    """The step of the selected state: the minimum of the hold-out curve `Family.select_by`."""
    diverged_at: int | None
    """The step at whose evaluation a loss or a parameter was not finite, or None."""
    seconds: dict[str, float] = dataclasses.field(compare=False)
    """Wall time of the steps (``train``) and of the evaluations (``evaluate``), each with the
    compilation of its program if it was not compiled before."""

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
    """Train a family on points and select the state with the lowest hold-out loss.

    Args:
        family: the family, with its hyper-parameters.
        train: training points, an array of shape (n, d) in data coordinates; they also determine
            the standardisation.
        holdout: points, of shape (m, d), that select the state; they never reach a gradient.
        seed: the seed of initialisation, batches and noise.
        budget: ``smoke``, ``standard`` or ``long``; scales ``family.steps``.
        evaluations: the number of evaluations, which are the points of the curves and the states
            to select from; one after every step if there are fewer steps.
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

    As `fit` does for each, in one compiled program for all: on an accelerator little slower than
    for one, on a core no faster than one after the other. The numbers are those of `fit` up to the
    order in which sums are rounded.

    Args:
        family: the family, with its hyper-parameters.
        trains: training points of each fit, as `fit` takes them, all of one shape.
        holdouts: hold-out points of each fit, all of one shape.
        seeds: the seed of each fit.
        budget: ``smoke``, ``standard`` or ``long``.
        evaluations: the number of evaluations, as `fit` takes it.
        progress: called after each evaluation, with the mean loss.
        resume: a checkpoint that `keep` was given by the same fits, which then continue from there
            and end with the same bits as if they had never stopped.
        keep: called with a checkpoint after some evaluations.
        keep_every: least number of seconds between two checkpoints.

    Raises:
        UsageError: as `fit`; `resume` is damaged or of another fit; `keep_every` is no number of at
            least 0; or the points of two fits differ in shape, or are not one set a seed.
    """
    keep_every = Domain.of(PositiveOrZero).checked(keep_every, "keep_every")
    setup = prepare(at_budget(family, budget), trains, holdouts, seeds, evaluations)
    run = begin(setup)
    if resume is not None:
        run = decode_run(resume, setup.identity, functools.partial(_like, run))
    seconds, checkpoint_at = {"train": 0.0, "evaluate": 0.0}, time.monotonic()
    for start, end in list(itertools.pairwise([0, *setup.evaluation_steps]))[len(run.rows) :]:
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
        if keep is not None and time.monotonic() - checkpoint_at >= keep_every:
            keep(encode_run(run, setup.identity | _shape(run)))
            checkpoint_at = time.monotonic()
    return finish(setup, run, seconds)


def begin(setup: Setup) -> Run:
    """The run before its first step."""
    keys = jax.vmap(jax.random.fold_in, (0, None))(setup.keys, 0)
    states = each(_init, (None, 0, 0), setup.family, keys, setup.data)
    s = len(keys)
    never = np.zeros(s, int)
    return Run(states, states, np.full(s, math.inf), never, never, np.zeros((0, 0, s)), ())


def advance(setup: Setup, run: Run, start: int, end: int) -> tuple[Run, dict[str, np.ndarray]]:
    """The run after the steps from `start` to `end`, and the means of their infos, by column."""
    args = (setup.family, end - start, setup.keys, run.states, jnp.asarray(start), setup.data)
    states, info = jax.block_until_ready(each(_scan, (None, None, 0, 0, None, 0), *args))
    columns = {name: np.asarray(value, float) for name, value in info.columns().items()}
    return dataclasses.replace(run, states=states), columns


def evaluate(setup: Setup, run: Run) -> dict[str, np.ndarray]:
    """The losses of the states, by column: the family's own on both sets, and the common one.

    The family's own are means over all points, less what no state can be rid of.
    """
    family, states = setup.family, run.states
    loss = lambda keys, points: each(own_loss, (None, 0, 0, 0), family, keys, states, points)
    n, m = setup.data.shape[1], setup.holdout.shape[1]
    args = (family, setup.keys, states, setup.blurred, setup.bandwidths)
    common = each(kde_nll, (None, 0, 0, 0, 0), *args)
    return {
        "train_loss": over(loss, setup.loss_keys, setup.data, m) - setup.least_train,
        "holdout_loss": over(loss, setup.loss_keys, setup.holdout, n) - setup.least_holdout,
        "holdout_kde_nll": np.asarray(common, float),
    }


def select(setup: Setup, run: Run, step: int, row: Mapping[str, np.ndarray]) -> Run:
    """The run with one more row of its curves and, for each seed, the better of best and new state.

    A seed of which a number is not finite has diverged, and no later state of it is selected.
    """
    finite = np.isfinite([*row.values()]).all(axis=0)
    finite &= np.asarray(each(_finite, (0,), eqx.filter(run.states, eqx.is_inexact_array)))
    diverged = np.where((run.diverged == 0) & ~finite, step, run.diverged)
    value = row[setup.family.select_by]
    better = (diverged == 0) & (value < run.best_value)
    return Run(
        states=run.states,
        best=chosen(better, run.states, run.best),
        best_value=np.where(better, value, run.best_value),
        selected=np.where(better, step, run.selected),
        diverged=diverged,
        rows=np.array([*run.rows, [*row.values()]]),
        columns=tuple(row),
    )


def finish(setup: Setup, run: Run, seconds: Mapping[str, float]) -> list[Fit]:
    """The fit of each seed: its selected state, and its curves until it diverged, if it did."""
    fits = []
    best = jax.tree.map(np.asarray, run.best)
    for i, standardiser in enumerate(setup.standardisers):
        state = jax.device_put(jax.tree.map(lambda a, i=i: a[i], best))
        diverged_at = int(run.diverged[i]) or None
        n = setup.evaluation_steps.index(diverged_at) + 1 if diverged_at else len(run.rows)
        curves = zip(run.columns, map(np.array, run.rows[:n, :, i].T), strict=True)
        fits.append(
            Fit(
                setup.family,
                dataclasses.replace(setup.family.model(state), standardiser=standardiser),
                state,
                {"step": np.array(setup.evaluation_steps[:n]), **dict(curves)},
                int(run.selected[i]),
                diverged_at,
                dict(seconds),
            )
        )
    return fits


def _shape(run: Run) -> dict[str, Any]:
    """What the header of a checkpoint has to say of its shapes, for `_like`."""
    return {"rows": len(run.rows), "columns": run.columns}


def _like(run: Run, header: Mapping[str, Any]) -> Run:
    """A run whose curves have the shapes of a checkpoint's `header`, and its states `run`'s."""
    shape = (header["rows"], len(header["columns"]), len(run.selected))
    rows = np.broadcast_to(0.0, shape)  # which takes no memory, whatever the shape
    return dataclasses.replace(run, rows=rows, columns=tuple(header["columns"]))


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
    """The state after `steps` steps from `start` on, and the mean of their infos."""

    def step(state: Any, t: Array) -> tuple[Any, Info]:
        batch_key, step_key = jax.random.split(jax.random.fold_in(key, t + 1))
        return family.step(step_key, state, _batch(batch_key, family.points_per_step, data))

    state, infos = jax.lax.scan(step, state, start + jnp.arange(steps))
    return state, jax.tree.map(jnp.mean, infos)


def _batch(key: Key[Scalar, ""], n: int, data: Float[Array, "m d"]) -> Float[Array, "b d"]:
    """n points, drawn with replacement; if there are no more than n, all, from a random one on.

    Remainders of 32 bits are uniform to one part in 2³² / m, in a third of the time of
    `jax.random.randint`.
    """
    if n < len(data):
        return data[jax.random.bits(key, (n,)) % np.uint32(len(data))]
    return jnp.roll(data, jax.random.bits(key) % np.uint32(len(data)), axis=0)


def _finite(state: Any) -> Bool[Array, ""]:
    """Whether all numbers of a state are finite: 0 · x is 0 if x is finite, else NaN."""
    flat = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(state)])
    return jnp.sum(0.0 * flat) == 0  # a quarter of the time to compile that `isfinite` needs
