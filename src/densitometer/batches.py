"""Functions of one point, applied to any batch of points.

Inside, one point goes in and one comes out: a formula is written for x of shape ``(d,)``. Outside,
the public methods of targets and models take a batch ``(*n, d)`` too. It is computed `CHUNK` points
at a time, so that the memory a program works on stays in a core's cache.
"""

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from densitometer.points import check_batch

CHUNK = 500
"""Points evaluated at once: the activations of a standard network for so many points stay in a
core's cache."""

Batch = Float[Array, "*n d"] | Float[np.ndarray, "*n d"]
"""One point, ``(d,)``, or any batch of points, ``(*n, d)``."""

Method = TypeVar("Method", bound=Callable[..., Any])
"""A method of an object and one point."""


def pointwise(owner: str) -> Callable[[Method], Method]:
    """Let a method of one point take any batch: ``(*n, d)`` gives ``(*n)`` or ``(*n, d)``.

    The method's object has a `dim`, d. For one point the method is called as it stands.

    Args:
        owner: what the object is called in messages, as in ``model.log_prob``.

    Raises:
        UsageError: on a call with anything but real numbers of shape ``(d,)`` or ``(*n, d)``.
    """

    def decorate(method: Method) -> Method:
        @functools.wraps(method)
        def of_any_batch(self: Any, x: Any) -> Any:
            x = check_batch(x, self.dim, f"{owner}.{method.__name__}")
            if x.ndim == 1:
                return method(self, x)
            # Whoever differentiates or compiles decides what is computed at once.
            at_once = isinstance(x, Tracer)
            one, points = eqx.Partial(method, self), x.reshape(-1, self.dim)
            values = jax.vmap(one)(points) if at_once else batched(one, points)
            return values.reshape(x.shape[:-1] + values.shape[1:])

        return cast(Method, of_any_batch)

    return decorate


def batched(function: Callable[[Any], Float[Array, "..."]], points: Any) -> Float[Array, "n ..."]:
    """Apply any function of one point to many points, `CHUNK` at a time.

    `points` is an array of n points, or a pytree of arrays whose first axes are all n. One compiled
    program serves all n from `CHUNK` on: the last chunk is filled up with the first points.
    """
    n = jax.tree.leaves(points)[0].shape[0]
    chunk = min(n, CHUNK)
    starts = range(0, n, chunk) if n else [0]
    rows = [np.arange(start, start + chunk) % n for start in starts]
    values = [_at_once(function, jax.tree.map(lambda a, r=r: a[r], points)) for r in rows]
    return jnp.concatenate(values)[:n]


@eqx.filter_jit
def _at_once(function: Callable[[Any], Array], points: Any) -> Array:
    return jax.vmap(function)(points)
