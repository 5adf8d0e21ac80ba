"""The losses on a fit's curves: a family's own, and one that is the same measure for all families.

The common one is the cross-entropy, in nats, of hold-out points and model samples that are both
blurred by one kernel N(0, h² I), that is of p ∗ N(0, h² I) relative to a kernel density estimate of
q ∗ N(0, h² I). Without the blur of the hold-out points its minimum would be at a q narrower than p;
with it, the best q is p.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from densitometer.families.base import Family

CURVE_SAMPLES = 1000
"""Model samples behind each point of the common curve."""


def own_loss(
    family: Family, key: Key[Scalar, ""], state: Any, points: Float[Array, "m d"]
) -> Scalar:
    """The family's own loss, with the same random numbers for all states and sets of points."""
    keys = jax.random.split(jax.random.fold_in(key, 0), family.loss_draws)
    return jnp.mean(jax.lax.map(lambda k: family.loss(k, state, points), keys))


def kde_nll(
    family: Family,
    key: Key[Scalar, ""],
    state: Any,
    blurred: Float[Array, "b d"],
    bandwidth: Scalar,
) -> Scalar:
    """The common loss: −log-likelihood of blurred points under a KDE of model samples, nats."""
    samples = family.model(state).sample(jax.random.fold_in(key, 0), CURVE_SAMPLES)
    return -kde_log_likelihood(samples, blurred, bandwidth)


def kde_log_likelihood(
    samples: Float[Array, "s d"], points: Float[Array, "m d"], bandwidth: Scalar
) -> Scalar:
    """The mean log-density of `points`, nats, under Gaussians of width `bandwidth` on `samples`."""
    d2 = jnp.sum((points[:, None, :] - samples[None, :, :]) ** 2, axis=-1)
    n, dim = samples.shape
    log_sums = jax.nn.logsumexp(-0.5 * d2 / bandwidth**2, axis=1)
    return jnp.mean(log_sums) - jnp.log(n) - 0.5 * dim * jnp.log(2 * math.pi * bandwidth**2)


def common_bandwidth(data: Float[Array, "n d"]) -> Scalar:
    """h of the common loss: the best for one half of the training set under the other.

    It depends on the data alone, so it is the same for all families.
    """
    half = min(CURVE_SAMPLES, len(data) // 2)
    one, other = data[:half], data[half : 2 * half]
    candidates = jnp.geomspace(0.02, 1.0, 24)
    return candidates[
        jnp.argmax(jax.lax.map(lambda h: kde_log_likelihood(one, other, h), candidates))
    ]


def blur(key: Key[Scalar, ""], points: Float[Array, "m d"], h: Scalar) -> Float[Array, "b d"]:
    """Each point twice, moved by h n and by −h n with n ~ N(0, I): draws from p ∗ N(0, h² I)."""
    noise = h * jax.random.normal(key, points.shape)
    return jnp.concatenate([points + noise, points - noise])
