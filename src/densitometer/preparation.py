"""Preparation of a fit: its steps, and its points checked, standardised and in random order."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, SupportsIndex

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.counts import check_count, check_seed
from densitometer.curves import blur, common_bandwidth, groups_of_draws, least_loss, over
from densitometer.errors import UsageError
from densitometer.families.base import Family
from densitometer.models import Standardiser
from densitometer.points import STRAY, check_points, check_spread, stray_sentence
from densitometer.seeds import each, keys_for

BUDGETS: Mapping[str, float] = {"smoke": 0.01, "standard": 1.0, "long": 4.0}
"""The factor by which each budget scales a family's `steps`."""

MOST_CANDIDATES = 20_000
"""Points from which a noisy point is thought to come at most: of more, the cost is felt."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What is the same from the first step to the last: arrays have a first axis for the seeds."""

    family: Family
    """The family, with the `steps` that the budget gives it."""
    evaluation_steps: list[int]
    """The steps after which the fit is evaluated."""
    identity: dict[str, Any]
    """What distinguishes these fits from all others, JSON-able: a checkpoint must agree with it."""
    standardisers: Sequence[Standardiser]
    """Of each seed's training points."""
    keys: Key[Array, " s"]
    """For initialisation, batches and noise."""
    data: Float[Array, "s n d"]
    """Training points, standardised and in random order."""
    holdout: Float[Array, "s m d"]
    """Hold-out points, standardised."""
    blurred: Float[Array, "s b d"]
    """The hold-out points of the common curve, blurred by its kernel."""
    bandwidths: Float[Array, " s"]
    """The width of that kernel."""
    loss_keys: Key[Array, "s g k"]
    """Of the draws behind the family's own curves, in groups; the same for all states."""
    least_train: Float[np.ndarray, " s"]
    """What of the loss on the training points no state can be rid of (`Family.least_loss`)."""
    least_holdout: Float[np.ndarray, " s"]
    """The same on the hold-out points."""


def prepare(
    family: Family,
    trains: Sequence[Any],
    holdouts: Sequence[Any],
    seeds: Sequence[SupportsIndex],
    evaluations: SupportsIndex,
) -> Setup:
    """The setup of fits to these points.

    Raises:
        UsageError: as `training.fit_seeds`.
    """
    evaluated = evaluation_steps(family.steps, check_count(evaluations, "evaluations"))
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
            raise UsageError(stray_sentence(away > STRAY, away, "holdout", "train"))
    identity = {
        "family": family.name,
        "hyperparameters": family.hyperparameters(),
        "evaluations": len(evaluated),
        "seeds": seeds,
        "data": hashlib.sha256(train.tobytes() + holdout.tobytes()).hexdigest(),
    }
    keys = keys_for(seeds, "fit")
    data, held_out, *rest = each(_arrange, (0, 0, 0), keys_for(seeds, "data"), z, z_out)
    arrays = [data, held_out, *rest, *_least_losses(family, keys, data, held_out)]
    return Setup(family, evaluated, identity, standardisers, keys, *arrays)


def at_budget(family: Family, budget: str) -> Family:
    """The family with its steps scaled by a budget: rounded, and at least one.

    Raises:
        UsageError: there is no such budget, or `family` is not a family.
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


def _stacked(sets: Sequence[Any], name: str) -> np.ndarray:
    """Checked points of several fits in one array."""
    checked = [check_points(points, name) for points in sets]
    if len({points.shape for points in checked}) != 1:
        raise UsageError(f"{name} of one fit has another shape than that of another; cut them.")
    return np.stack(checked)


def _least_losses(
    family: Family,
    keys: Key[Array, " s"],
    data: Float[Array, "s n d"],
    holdout: Float[Array, "s m d"],
) -> tuple[Key[Array, "s g k"], Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """The keys of a family's own curves, and what of its loss on either set no state can be rid of.

    A noisy point may come from any point of both sets. Where they are too many to ask, or the
    family knows of no such loss, it is 0.
    """
    n, m, nothing = data.shape[1], holdout.shape[1], np.zeros(len(keys))
    shape = groups_of_draws(family.loss_draws, n, m)
    draws = jax.vmap(lambda k: jax.random.split(jax.random.fold_in(k, 0), shape))(keys)
    if n + m > MOST_CANDIDATES or type(family).least_loss is Family.least_loss:
        return draws, nothing, nothing
    candidates = jnp.concatenate([data, holdout], axis=1)
    loss = lambda k, points: each(least_loss, (None, 0, 0, 0), family, k, points, candidates)
    return draws, over(loss, draws, data, m), over(loss, draws, holdout, n)


def _arrange(
    key: Key[Scalar, ""], points: Float[Array, "n d"], holdout: Float[Array, "m d"]
) -> tuple[Float[Array, "n d"], Float[Array, "m d"], Float[Array, "b d"], Float[Array, ""]]:
    """The training set in random order, the hold-out set, and what the common curve needs."""
    order_key, blur_key = jax.random.split(key)
    # A batch may be neighbouring points, which whoever made them may have sorted.
    data = jax.random.permutation(order_key, points)
    bandwidth = common_bandwidth(data)
    return data, holdout, blur(blur_key, holdout, bandwidth), bandwidth
