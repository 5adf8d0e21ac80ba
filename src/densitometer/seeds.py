"""Functions of one seed, for several seeds at once.

Whatever a fit computes has a first axis for the seeds. One seed on a core is an axis of length one;
on an accelerator all seeds of a study go through one program.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Key

from densitometer.randomness import key_for


@eqx.filter_jit
def each(function: Callable[..., Any], axes: tuple[int | None, ...], *args: Any) -> Any:
    """A function of one seed, for all of them: arguments whose axis is 0 have one for the seeds.

    A single seed is not mapped: products of batches of one matrix are slower than of matrices.
    """
    seeds = next(jax.tree.leaves(a)[0] for a, axis in zip(args, axes, strict=True) if axis == 0)
    if len(seeds) > 1:
        return eqx.filter_vmap(function, in_axes=axes)(*args)
    first = lambda tree, axis: tree if axis is None else jax.tree.map(lambda a: a[0], tree)
    alone = function(*map(first, args, axes))
    return jax.tree.map(lambda a: a[None], alone)


def keys_for(seeds: Sequence[int], purpose: str) -> Key[Array, " s"]:
    """The key of each seed for one purpose (`randomness.key_for`)."""
    return jax.vmap(lambda seed: key_for(seed, purpose))(np.asarray(seeds, np.uint32))


def chosen(better: Bool[np.ndarray, " s"], new: Any, old: Any) -> Any:
    """For each seed the new tree where it is better, else the old one."""
    if better.all():
        return new
    if not better.any():
        return old
    return each(_either, (0, 0, 0), better, new, old)


def _either(first: Bool[Array, ""], one: Any, other: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(first, a, b), one, other)
