"""Gaussians and mixtures of them: densities, draws, and fits by expectation–maximisation.

    log q(x) = log Σⱼ wⱼ N(x; mⱼ, Lⱼ Lⱼᵀ)

Expectation–maximisation (Dempster, Laird & Rubin, 1977, doi:10.1111/j.2517-6161.1977.tb01600.x)
is written twice. `fit_mixture` runs under JAX's transformations, in float32 and for a fixed number
of iterations, as the start of a family has to. `converged` is NumPy in float64 and goes on until
little is gained, from a start of its own for each seed, so that hold-out points can choose among
fits.
"""

import math
import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar
from scipy.cluster.vq import kmeans2

RIDGE = 1e-3
"""What `converged` adds to each variance, as a share of the points' own along that axis."""


def log_normal(z: Float[Array, " d"]) -> Float[Array, ""]:
    """log N(z; 0, I), nats."""
    return -0.5 * jnp.sum(z**2) - 0.5 * len(z) * math.log(2 * math.pi)


class Mixture(eqx.Module):
    """A mixture of k Gaussians with full covariances, q(x) = Σⱼ wⱼ N(x; mⱼ, Lⱼ Lⱼᵀ)."""

    log_weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    factors: Float[Array, "k d d"]
    """Cholesky factors Lⱼ of the covariances."""

    def log_joint(self, x: Float[Array, " d"]) -> Float[Array, " k"]:
        """log wⱼ N(x; mⱼ, Lⱼ Lⱼᵀ) of each component j, nats."""

        def component(log_w: Array, mean: Array, inverse: Array) -> Array:
            log_det = jnp.sum(jnp.log(jnp.diag(inverse)))
            return log_w + log_normal(inverse @ (x - mean)) + log_det

        inverses = jnp.linalg.inv(self.factors)
        return jax.vmap(component)(self.log_weights, self.means, inverses)

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """log q(x), nats."""
        return jax.nn.logsumexp(self.log_joint(x))

    def draw(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        """One draw, mⱼ + Lⱼ n with j ~ w and n ~ N(0, I)."""
        component_key, noise_key = jax.random.split(key)
        j = jax.random.categorical(component_key, self.log_weights)
        return self.means[j] + self.factors[j] @ jax.random.normal(noise_key, self.means.shape[1:])


def fit_mixture(
    key: Key[Scalar, ""],
    data: Float[Array, "n d"],
    components: int,
    *,
    iterations: int,
    floor: float,
) -> Mixture:
    """The mixture that some iterations of expectation–maximisation reach from k-means++.

    Means start at data points drawn in proportion to their squared distance from those drawn
    before (Arthur & Vassilvitskii, 2007). The square of `floor` is added to all variances.
    """
    n, dim = data.shape

    def seed(nearest: Array, k: Array) -> tuple[Array, Array]:
        mean = data[jax.random.categorical(k, jnp.log(nearest + 1e-9))]
        distance = jnp.sum((data - mean[None]) ** 2, axis=1)
        return jnp.minimum(nearest, distance), mean

    def maximise(log_joint: Float[Array, "n k"]) -> Mixture:
        share = jax.nn.softmax(log_joint, axis=1)
        count = jnp.sum(share, axis=0) + 1e-3
        means = share.T @ data / count[:, None]
        centred = data[:, None] - means[None]
        covariances = jnp.einsum("nk,nki,nkj->kij", share, centred, centred) / count[:, None, None]
        factors = jnp.linalg.cholesky(covariances + floor**2 * jnp.eye(dim)[None])
        return Mixture(jnp.log(count / jnp.sum(count)), means, factors)

    def iterate(mixture: Mixture, _: None) -> tuple[Mixture, None]:
        return maximise(jax.vmap(mixture.log_joint)(data)), None

    _, means = jax.lax.scan(seed, jnp.ones(n), jax.random.split(key, components))
    distances = jnp.sum((data[:, None] - means[None]) ** 2, axis=2)
    start = maximise(-0.5 * distances * components)
    return jax.lax.scan(iterate, start, length=iterations)[0]


class Converged(NamedTuple):
    """A mixture of k Gaussians in float64, as `converged` returns it."""

    weights: Float[np.ndarray, " k"]
    means: Float[np.ndarray, "k d"]
    factors: Float[np.ndarray, "k d d"]
    """Cholesky factors of the covariances."""

    def log_prob(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """log q at each of the points, nats."""
        inverses = np.linalg.inv(self.factors)
        white = (points - self.means[:, None]) @ np.swapaxes(inverses, 1, 2)
        constants = np.log(self.weights) + _log_norms(inverses)
        log_joint = constants[:, None] - 0.5 * np.sum(white**2, axis=2)
        return np.logaddexp.reduce(log_joint, axis=0)

    def mixture(self) -> Mixture:
        """The mixture itself, float32."""
        arrays = np.log(self.weights), self.means, self.factors
        return Mixture(*(jnp.asarray(a, jnp.float32) for a in arrays))


def converged(
    points: Float[np.ndarray, "n d"],
    k: int,
    *,
    seed: int = 0,
    iterations: int = 500,
    tolerance: float = 1e-5,
) -> Converged:
    """The mixture of k Gaussians that expectation–maximisation reaches from k-means++, in float64.

    All happens in standardised coordinates, so that the units of an axis do not matter: each axis
    has mean 0 and variance 1 there, to which `RIDGE` is added, lest a component collapse onto a
    point. Both halves of an iteration are one matrix product with the monomials (1, x, x xᵀ): a
    Gaussian's log-density is linear in them, and so are the moments that give the next one.

    Args:
        points: what it is fitted to; they have a spread along each axis.
        k: the number of components, at most that of distinct points.
        seed: of the start.
        iterations: the most to make.
        tolerance: it stops when an iteration gains less than this, nats a point.
    """
    n, dim = points.shape
    centre, scale = points.mean(axis=0), points.std(axis=0)
    x = (points - centre) / scale
    outer = (x[:, :, None] * x[:, None, :]).reshape(n, -1)
    monomials = np.concatenate([np.ones((n, 1)), x, outer], axis=1)
    with warnings.catch_warnings(action="ignore"):  # a cluster may lose all its points
        _, labels = kmeans2(x, k, minit="++", rng=seed, iter=20)
    responsibilities = np.eye(k)[labels] * 0.9 + 0.1 / k
    log_likelihood, gain = -math.inf, math.inf
    weights, means, factors = np.full(k, 1 / k), x[:k], np.stack([np.eye(dim)] * k)
    while gain > tolerance * n and (iterations := iterations - 1) >= 0:
        moments = responsibilities.T @ monomials
        counts = moments[:, 0] + 1e-9
        weights, means = counts / n, moments[:, 1 : 1 + dim] / counts[:, None]
        covariances = (moments[:, 1 + dim :] / counts[:, None]).reshape(k, dim, dim)
        covariances -= means[:, :, None] * means[:, None, :]
        factors = np.linalg.cholesky(covariances + RIDGE * np.eye(dim))
        inverses = np.linalg.inv(factors)
        precisions = np.swapaxes(inverses, 1, 2) @ inverses
        linear = np.einsum("kij,kj->ki", precisions, means)
        constants = np.log(weights) + _log_norms(inverses) - 0.5 * np.sum(linear * means, axis=1)
        coefficients = [constants[:, None], linear, -0.5 * precisions.reshape(k, -1)]
        log_joint = monomials @ np.concatenate(coefficients, axis=1).T
        top = log_joint.max(axis=1, keepdims=True)
        joint = np.exp(log_joint - top)
        total = joint.sum(axis=1, keepdims=True)
        responsibilities = joint / total
        previous, log_likelihood = log_likelihood, float(np.sum(top + np.log(total)))
        gain = log_likelihood - previous
    return Converged(weights, centre + scale * means, scale[:, None] * factors)


def _log_norms(inverses: Float[np.ndarray, "k d d"]) -> Float[np.ndarray, " k"]:
    """log N(m; m, L Lᵀ) of each inverse of a Cholesky factor L."""
    log_dets = np.log(np.diagonal(inverses, axis1=1, axis2=2)).sum(axis=1)
    return log_dets - 0.5 * inverses.shape[1] * math.log(2 * math.pi)
