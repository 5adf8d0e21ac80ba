"""The losses on a fit's curves: a family's own, and one that is the same measure for all families.

The common one is the cross-entropy, in nats, of hold-out points and model samples that are both
blurred by one kernel N(0, h² I), that is of p ∗ N(0, h² I) relative to a kernel density estimate of
q ∗ N(0, h² I). Without the blur of the hold-out points its minimum would be at a q narrower than p;
with it, the best q is p.

A family's own loss may be mostly noise of its regression targets, of which no network can be rid.
What the best of all functions of the noisy point would lose, for a point that may come from any of
the training or hold-out points, is subtracted (`Family.least_loss`). A network that has seen
neither set then has the same expected excess on both, so that a gap between the curves is
overfitting.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.families.base import Family

CURVE_SAMPLES = 1000
"""Model samples behind each point of the common curve."""


def groups_of_draws(draws: int, n: int, m: int) -> tuple[int, int]:
    """Into how many groups of how many draws a loss is cut, on n points and on m others.

    Together they are `draws`, or a few more; there are no more groups than the larger set has
    pieces of the size of the smaller.
    """
    size = -(-draws // min(-(-max(n, m) // min(n, m)), draws))
    return -(-draws // size), size


def pieces(n: int, other: int, groups: int) -> Iterator[tuple[slice, int]]:
    """Of n points and of so many groups of draws, those that go together into one evaluation.

    No piece has more points than the smaller set, of n or of `other` points. The smaller one meets
    all groups; of the larger one each piece meets one group after another. So both curves are
    means over about as many terms, and one program serves them.
    """
    size = min(n, other)
    for i, start in enumerate(range(0, n, size) if n > size else [0] * groups):
        yield slice(start, min(start + size, n)), i % groups


def own_loss(
    family: Family, keys: Key[Array, " k"], state: Any, points: Float[Array, "m d"]
) -> Scalar:
    """The family's own loss, for the random numbers of each key."""
    return jnp.mean(jax.lax.map(lambda k: family.loss(k, state, points), keys))


def least_loss(
    family: Family,
    keys: Key[Array, " k"],
    points: Float[Array, "m d"],
    candidates: Float[Array, "n d"],
) -> Scalar:
    """What of `own_loss` no state can be rid of, for the same random numbers."""
    return jnp.mean(jax.lax.map(lambda k: family.least_loss(k, points, candidates), keys))


def over(
    loss: Callable[[Key[Array, "s k"], Float[Array, "s p d"]], Float[Array, " s"]],
    keys: Key[Array, "s g k"],
    points: Float[Array, "s n d"],
    other: int,
) -> Float[np.ndarray, " s"]:
    """The mean of a loss over all points of each seed, by `pieces`."""
    cut = list(pieces(points.shape[1], other, keys.shape[1]))
    losses = [np.asarray(loss(keys[:, g], points[:, piece]), float) for piece, g in cut]
    return np.average(losses, axis=0, weights=[p.stop - p.start for p, _ in cut])


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
