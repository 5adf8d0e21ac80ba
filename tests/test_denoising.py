"""The mean that hides behind noise, against its definition; and that fitting it changes nothing."""

import importlib
import math
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

import densitometer as dm
from densitometer.blocks import chains
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


def denoised(name, family, network, sigma, y):
    """D(y, σ) by the code, with the network's own σ or its time t for n / t = σ."""
    if name == "dsm":
        return network.denoise(y, jnp.log(sigma))
    if name == "ddpm":
        return network.denoise(y * jnp.cos(jnp.arctan(sigma)), jnp.arctan(sigma))
    a = 1 - family.sigma_min
    t = 1 / (sigma + a)
    n, z = 1 - a * t, t * y
    # v = x₁ − a x₀ and z = t x₁ + n x₀, so x₁ = n v + a z.
    return n * network(z, t) + a * z


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sigma", [0.05, 0.7, 4.0])
def test_the_dictionary_to_the_textbook_is_that_of_the_code(name, sigma):
    """D = c_skip y + c_out F(c_in y; c_noise), and the loss is E λ ‖D − x₀‖² / d."""
    family = dm.families.get(name, width=8, depth=1)
    tau, y = math.atan(sigma), jnp.array([0.8, -0.3])
    network = cast(Any, family.init(jax.random.key(0), jnp.zeros((3, 2)))).network
    network = eqx.tree_at(lambda n: n.mlp.weights[-1], network, network.mlp.weights[-1] * 30)
    n = sigma / (sigma + 1 - getattr(family, "sigma_min", 0.0))  # of the flow
    s = math.log(n) / math.log(getattr(family, "sigma_min", 0.5))
    c_noise = s if name == "cnf" else math.log(sigma) / 4
    c_out = -math.sin(tau) if name == "ddpm" else math.sin(tau)
    free = network.mlp(math.cos(tau) * y, t=jnp.asarray(c_noise))
    expected = math.cos(tau) ** 2 * y + c_out * free
    got = denoised(name, family, network, jnp.asarray(sigma), y)
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "weight"),
    [
        ("dsm", lambda tau, n: 1 / jnp.sin(tau) ** 2),
        ("ddpm", lambda tau, n: 1 / jnp.sin(tau) ** 2),
        ("cnf", lambda tau, n: 1 / n**2),
    ],
)
def test_the_weight_of_the_loss_is_that_of_the_dictionary(name, weight, monkeypatch):
    """At one noise level, λ times the error of a denoiser whose every answer is known."""
    family: Any = dm.families.get(name, width=4, depth=1, batch_size=64)
    module = importlib.import_module(f"densitometer.families.{name}")
    uniform = jnp.full(64, 0.4)
    for place in (module, chains):
        monkeypatch.setattr(place, "stratified_uniforms", lambda key, n: uniform, raising=False)
    points = jnp.asarray(RNG.normal(size=(64, 2)), jnp.float32)
    key = jax.random.key(3)
    network = cast(Any, family.init(jax.random.key(0), points)).network
    noise = jax.random.normal(jax.random.split(key)[1], points.shape)
    if name == "dsm":
        tau = jnp.arctan(jnp.exp(family._noise_levels(key, 64)[0]))
        n, t = jnp.sin(tau), jnp.cos(tau)
    elif name == "ddpm":
        schedule = chains.Schedule(family.timesteps, family.offset)
        index = schedule.draw(key, 1, schedule.flow_probabilities)[0]
        tau = jnp.asarray(schedule.angles, jnp.float32)[index]
        n, t = jnp.sin(tau), jnp.cos(tau)
    else:
        n = family.sigma_min ** (1 - jnp.sqrt(0.4))
        t = (1 - n) / (1 - family.sigma_min)
        tau = jnp.arctan2(n, t)
    y = (t * points + n * noise) / t
    sigma = jnp.tan(tau)
    found = jax.vmap(lambda at: denoised(name, family, network, sigma, at))(y)
    expected = weight(tau, n) * jnp.mean((found - points) ** 2)
    got = getattr(family, LOSSES[name])(network, key, points)
    assert float(got) == pytest.approx(float(expected), rel=2e-3)
