"""Denoising score matching against what is known in closed form for Gaussian data."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from densitometer.families.dsm import DSM, Denoiser, DiffusionModel, LangevinModel
from densitometer.models import HasDensity, Standardiser

MEAN = jnp.array([0.5, -1.0])
COVARIANCE = jnp.array([[1.0, 0.6], [0.6, 0.5]])
EIGENVALUES, AXES = map(jnp.asarray, np.linalg.eigh(COVARIANCE))


class ExactDenoiser(Denoiser):
    """F for data N(m, C): D(x, σ) = m + C (C + σ²)⁻¹ (x − m), and F = (D − cos τ u) / sin τ."""

    sign: float = eqx.field(static=True, default=1.0)

    def __call__(self, u, log_sigma, drop=None):
        tau = jnp.arctan(jnp.exp(log_sigma))
        x = u / jnp.cos(tau)
        shrink = EIGENVALUES / (EIGENVALUES + jnp.exp(2 * log_sigma))
        denoised = MEAN + AXES @ (shrink * (AXES.T @ (x - MEAN)))
        return self.sign * (denoised - jnp.cos(tau) * u) / jnp.sin(tau)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, 2000), jnp.float32)


def losses(family, network, data, draws=20):
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.lax.map(lambda k: family._denoising_loss(network, k, data), keys))


def test_the_loss_of_the_exact_denoiser_is_the_posterior_variance(data):
    family = DSM()
    # F's target is x₀ sin τ − n cos τ = (x₀ − cos τ u)/sin τ, so the least loss at σ is
    # tr Cov(x₀ | x) / (d sin²τ) with Cov(x₀ | x) = (C⁻¹ + σ⁻²)⁻¹.
    sigma = np.exp(np.linspace(np.log(family.sigma_min), np.log(family.sigma_max), 4001))
    eigenvalues = np.linalg.eigvalsh(np.asarray(COVARIANCE, np.float64))
    variance = sum(1 / (1 / e + sigma**-2) for e in eigenvalues) / 2
    density = np.sqrt(sigma / (1 + sigma**2))  # √(sin τ cos τ) in log σ
    expected = np.average(variance * (1 + sigma**2) / sigma**2, weights=density)
    got = losses(family, ExactDenoiser(), data)
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(len(got)) + 1e-3


def test_the_exact_denoiser_is_the_minimum_and_its_negative_is_not(data):
    family = DSM()
    exact = losses(family, ExactDenoiser(), data).mean()
    for change in (0.1, -0.1, 0.5):

        class Changed(ExactDenoiser):
            def __call__(self, u, log_sigma, drop=None, change=change):
                return (1 + change) * super().__call__(u, log_sigma)

        assert losses(family, Changed(), data).mean() > exact + 1e-3
    assert losses(family, ExactDenoiser(sign=-1.0), data).mean() > exact + 1


@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_the_score_of_a_denoiser_is_that_of_the_noisy_law(sigma):
    x = jnp.asarray(toy.gaussian(0, 50))
    got = jax.vmap(lambda p: ExactDenoiser().score(p, jnp.log(sigma)))(x)
    noisy = COVARIANCE + sigma**2 * jnp.eye(2)
    exact = -jnp.linalg.solve(noisy, (x - MEAN[None]).T).T
    np.testing.assert_allclose(got, exact, rtol=2e-3, atol=2e-3 / sigma)


@pytest.fixture
def model():
    return DiffusionModel(
        Standardiser.identity(2), ExactDenoiser(), math.log(0.05), math.log(1000.0), "ode"
    )


def test_the_ode_gives_the_exact_log_density(model):
    x = np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, 100).astype(np.float32)
    x = np.concatenate([x, x * 3])  # tails too
    noisy = np.asarray(COVARIANCE) + 0.05**2 * np.eye(2)
    exact = toy.gaussian_log_prob(x, np.asarray(MEAN), noisy)
    # The start, N(0, I), misses the mean of u, m cos τ, by 1e-3: |u| · 1e-3 nats.
    np.testing.assert_allclose(jax.vmap(model.log_prob)(x), exact, rtol=1e-3, atol=5e-3)


@pytest.mark.parametrize("sampler", ["ode", "langevin"])
def test_both_samplers_give_the_law_back(model, sampler):
    n = 4000
    model = DiffusionModel(
        model.standardiser, model.denoiser, model.log_sigma_min, model.log_sigma_max, sampler
    )
    x = np.asarray(model.sample(jax.random.key(0), n))
    sd = np.sqrt(np.diag(COVARIANCE))
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < 4 * sd / np.sqrt(n) + 0.03)
    # Langevin's step of σ²/10 inflates the variance a little.
    slack = 0.03 if sampler == "ode" else 0.08
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=4 * np.sqrt(2 / n) + slack)


def test_single_noise_langevin_gives_the_noisy_law():
    model = LangevinModel(Standardiser.identity(2), ExactDenoiser(), math.log(0.5))
    n = 4000
    x = np.asarray(model.sample(jax.random.key(0), n))
    noisy = np.asarray(COVARIANCE) + 0.25 * np.eye(2)
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < 4 * np.sqrt(np.diag(noisy) / n))
    np.testing.assert_allclose(np.cov(x.T), noisy, atol=4 * np.sqrt(2 / n) * 1.25 + 0.05)


def test_single_noise_mode_trains_at_that_noise_and_has_no_density():
    family = DSM(sigma=0.1, width=8)
    assert np.allclose(family._noise_levels(jax.random.key(0), 5), np.log(0.1))
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    assert type(family.model(state)) is LangevinModel


def test_noise_levels_are_half_way_between_even_in_log_sigma_and_even_in_tau():
    family = DSM()
    keys = jax.random.split(jax.random.key(0), 400)
    levels = np.asarray(jax.vmap(lambda k: family._noise_levels(k, 7))(keys))
    grid = np.linspace(np.log(family.sigma_min), np.log(family.sigma_max), 20_001)
    tau = np.arctan(np.exp(grid))
    cumulated = np.cumsum(np.sqrt(np.sin(tau) * np.cos(tau)))
    unit = np.asarray(np.interp(levels, grid, cumulated / cumulated[-1]), np.float64)
    # every row has one level in each seventh, up to a shift; every place sees all levels
    gaps = np.diff(np.sort(unit, axis=1), axis=1)
    np.testing.assert_allclose(gaps, 1 / 7, atol=1e-3)
    assert abs(unit[:, 0].mean() - 0.5) < 4 / np.sqrt(12 * 400)


def test_sampling_in_a_network_of_random_weights_matches_its_density():
    """∫ q = 1 for any network at all: the divergence is exact, not that of a trained one."""
    family = DSM(width=16, sigma_min=0.3)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    mlp = state.averaged.mlp
    louder = eqx.tree_at(lambda s: s.averaged.mlp.weights[-1], state, mlp.weights[-1] * 3)
    model = family.model(louder)
    assert isinstance(model, HasDensity)
    axis = jnp.linspace(-10, 10, 81)
    points = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.lax.map(model.log_prob, points, batch_size=1000), np.float64))
    assert density.sum() * 0.25**2 == pytest.approx(1, abs=2e-3)
