"""The Gaussian density, which targets, families and baselines share."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float


def log_normal(z: Float[Array, " d"]) -> Float[Array, ""]:
    """log N(z; 0, I), nats."""
    return -0.5 * jnp.sum(z**2) - 0.5 * len(z) * math.log(2 * math.pi)
