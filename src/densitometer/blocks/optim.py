"""The optimiser and the moving average of parameters, which all families share."""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import optax

T = TypeVar("T")

Optimiser = Any
"""An `optax.GradientTransformation`, whose annotations know arrays but not modules."""


def adam(
    learning_rate: float,
    steps: int,
    *,
    weight_decay: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    clip: float = 1.0,
    final: float = 0.0,
) -> Optimiser:
    """AdamW with a short warm-up, a cosine decay and gradient clipping.

    The rate rises linearly over the first 2 % of `steps` to `learning_rate` and falls along a
    cosine to ``final`` times that; gradients are clipped to the global norm `clip`. Source:
    Loshchilov & Hutter (2019, arXiv:1711.05101).
    """
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=learning_rate,
        warmup_steps=max(1, steps // 50),
        decay_steps=max(2, steps),
        end_value=final * learning_rate,
    )
    descent = optax.chain(
        optax.clip_by_global_norm(clip),
        optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay),
    )
    return optax.flatten(descent)  # one long vector compiles faster and runs no slower


def descend(
    optimiser: Optimiser, gradient: T, state: optax.OptState, parameters: T
) -> tuple[T, optax.OptState]:
    """One step of an optimiser: the new parameters and the optimiser's new state."""
    # Optax mixes its integer step count with floats, which strict promotion would refuse.
    with jax.numpy_dtype_promotion("standard"):
        updates, state = optimiser.update(gradient, state, parameters)
    return jax.tree.map(jnp.add, parameters, updates), state


def average(old: T, new: T, window: float) -> T:
    """One step of the exponential moving average of parameters over a window of steps.

    old + (new − old) / window. A window that is a share of the training forgets the initial
    parameters at every budget; one below one step counts as one step, which is no average. Source:
    Polyak & Juditsky (1992, doi:10.1137/0330046).
    """
    return jax.tree.map(lambda a, b: a + (b - a) / max(window, 1.0), old, new)
