"""The mean that hides behind noise, against its definition; and that fitting it changes nothing."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import densitometer as dm
from densitometer.blocks.denoising import posterior_mean, stratified_uniforms

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dim", [1, 2, 7])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.03), (0.7, 0.7), (0.05, 1.0), (0.0, 1.0)])
def test_the_posterior_mean_is_bayes_rule_over_the_points(dim, a, b):
    points = RNG.normal(size=(300, dim)).astype(np.float32)
    z = (a * points[:50] + b * RNG.normal(size=(50, dim))).astype(np.float32)
    far = np.full((1, dim), 30.0, np.float32)  # where every likelihood underflows
    z = np.concatenate([z, far])
    squares = np.sum((z[:, None].astype(float) - a * points[None]) ** 2, axis=2)
    exact = softmax(-squares / (2 * b**2), axis=1) @ points.astype(float)
    args = jnp.asarray(z), jnp.float32(a), jnp.float32(b), jnp.asarray(points)
    got = jax.vmap(posterior_mean, (0, None, None, None))(*args)
    # Expanded squares: float32's rounding of z·x / b², 6e-8 · 10 / b², times a step between points.
    np.testing.assert_allclose(got[:-1], exact[:-1], atol=1e-5 + 3e-6 / b**2 * 0.1)
    np.testing.assert_allclose(got[-1], exact[-1], atol=2e-3)


def test_the_posterior_mean_over_many_points_is_that_of_their_law():
    n, a, b = 200_000, 0.8, 0.6
    points = RNG.normal(size=(n, 2)).astype(np.float32)
    for z in ([0.0, 0.0], [0.5, -0.5], [-1.0, 0.3]):
        got = posterior_mean(jnp.asarray(z), jnp.float32(a), jnp.float32(b), jnp.asarray(points))
        exact = a * np.asarray(z) / (a**2 + b**2)  # for x₀ ~ N(0, I)
        weights = np.exp(-np.sum((z - a * points) ** 2, axis=1) / (2 * b**2))
        effective = weights.sum() ** 2 / np.sum(weights**2)
        spread = b / np.sqrt(a**2 + b**2)  # sd of x₀ given z
        assert np.all(np.abs(got - exact) < 4 * spread / np.sqrt(effective))


def test_stratified_uniforms_are_even_as_a_whole_and_uniform_in_each_place():
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda k: stratified_uniforms(k, 5))(keys))
    np.testing.assert_allclose(np.diff(np.sort(drawn, axis=1), axis=1), 0.2, atol=1e-6)
    for place in drawn.T:
        share = np.histogram(place, bins=10, range=(0, 1))[0] / len(keys)
        assert np.all(np.abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(keys)))


LOSSES = {"dsm": "_denoising_loss", "ddpm": "_noise_loss", "cnf": "_matching_loss"}


@pytest.mark.parametrize("name", LOSSES)
def test_means_over_the_points_leave_the_gradient_as_it_is_and_less_random(name):
    family = dm.families.get(name, width=4, depth=1, batch_size=64)
    points = jnp.asarray(RNG.normal(size=(64, 2)) * [1.0, 0.3], jnp.float32)
    network = cast(Any, family.init(jax.random.key(0), points)).network
    # Loud enough that it is wrong, so that there is a gradient.
    network = eqx.tree_at(lambda n: n.mlp.weights[-1], network, network.mlp.weights[-1] * 30)
    loss = getattr(family, LOSSES[name])

    @jax.jit
    def gradients(keys, points, behind):
        def flat(key):
            gradient = jax.grad(loss)(network, key, points, behind)
            return jnp.concatenate([g.ravel() for g in jax.tree.leaves(gradient)])

        return jax.lax.map(flat, keys, batch_size=64)

    keys = jax.random.split(jax.random.key(1), 4096)
    plain = np.asarray(gradients(keys, points, None), float)
    means = np.asarray(gradients(keys, points, points), float)
    apart = means - plain  # of the same points and noises
    error = apart.std(axis=0) / np.sqrt(len(keys))
    scale = np.abs(plain.mean(axis=0)).max()
    assert np.all(np.abs(apart.mean(axis=0)) < 5 * error + 1e-4 * scale)
    assert np.trace(np.cov(means.T)) < 0.8 * np.trace(np.cov(plain.T))


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_sees_as_many_points_as_its_targets_are_means_over(name):
    assert dm.families.get(name, batch_size=8, posterior_points=100).points_per_step == 100
    with pytest.raises(
        dm.UsageError, match="posterior_points must be 0 or at least batch_size = 200, not 100"
    ):
        dm.families.get(name, batch_size=200, posterior_points=100)
    assert dm.families.get(name, batch_size=8, posterior_points=0).points_per_step == 8
