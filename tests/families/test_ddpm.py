"""Denoising diffusion against what is known in closed form for Gaussian data."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from densitometer.blocks.chains import Schedule, ancestral
from densitometer.families.ddpm import DDPM, DDPMModel, NoisePredictor, bound_rest, bound_term
from densitometer.models import Standardiser, batched

MEAN = jnp.array([0.5, -1.0])
COVARIANCE = jnp.array([[1.0, 0.6], [0.6, 0.5]])
EIGENVALUES, AXES = map(jnp.asarray, np.linalg.eigh(COVARIANCE))
SCHEDULE = Schedule(1000, 0.025)


class ExactPredictor(NoisePredictor):
    """For data N(m, C), x ~ N(cos τ m, K = cos² τ C + sin² τ), and ε̂ = sin τ K⁻¹ (x − cos τ m)."""

    factor: jax.Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def __call__(self, x, angle, drop=None):
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        white = (AXES.T @ (x - cos * MEAN)) / (cos**2 * EIGENVALUES + sin**2)
        return self.factor * sin * (AXES @ white)


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, 4000), jnp.float32)


def model(sampler="ddim", sample_steps=50, schedule=SCHEDULE):
    identity = Standardiser.identity(2)
    return DDPMModel(identity, ExactPredictor(), schedule, sampler, sample_steps)


def noise_variance(schedule):
    """tr Cov(ε | x_t) = tr(I − sin² τ K⁻¹) at each t."""
    eigenvalues = np.linalg.eigvalsh(np.asarray(COVARIANCE, np.float64))
    cos2 = np.cos(schedule.angles) ** 2
    return sum(cos2 * e / (cos2 * e + 1 - cos2) for e in eigenvalues)


@eqx.filter_jit
def losses(family, network, data, draws=20):
    keys = jax.random.split(jax.random.key(0), draws)
    return jax.lax.map(lambda k: family._noise_loss(network, k, data), keys)


def test_the_schedule_is_a_cosine_and_its_weights_are_those_of_the_chain():
    """w_t and the constant against the KL of the two Gaussians that they stand for."""
    kept = np.cos(SCHEDULE.angles) ** 2
    t, offset = np.arange(1000), 0.025 / (math.pi / 2)
    cosine = np.cos(math.pi / 2 * (offset + (1 - 2 * offset) * t / 999)) ** 2
    np.testing.assert_allclose(kept, cosine)
    np.testing.assert_allclose(SCHEDULE.sigmas**2, (1 - kept) / kept)
    alpha = kept[1:] / kept[:-1]
    beta = 1 - alpha
    posterior = (1 - kept[:-1]) / (1 - kept[1:]) * beta  # β̃_t of Ho et al.
    # q's mean has x₀ times √ᾱ_{t−1} β_t / (1 − ᾱ_t), and x̂₀ − x₀ = σ_t (ε − ε̂).
    pull = np.sqrt(kept[:-1]) * beta / (1 - kept[1:]) * SCHEDULE.sigmas[1:]
    np.testing.assert_allclose(SCHEDULE.weights[1:], 0.5 * pull**2 / beta, rtol=1e-6)
    assert SCHEDULE.weights[0] == pytest.approx(0.5 * SCHEDULE.sigmas[0] ** 2 / (1 - kept[0]))
    divergence = 0.5 * (posterior / beta - 1 - np.log(posterior / beta))
    last = 0.5 * np.log(2 * np.pi * (1 - kept[0]))
    assert SCHEDULE.constant == pytest.approx(divergence.sum() + last)
    assert SCHEDULE.probabilities.sum() == pytest.approx(1)


def test_steps_are_drawn_by_their_probabilities():
    schedule = Schedule(20, 0.05)
    p = schedule.probabilities
    keys = jax.random.split(jax.random.key(0), 4000)
    drawn = np.asarray(jax.vmap(lambda k: schedule.draw(k, 5, p))(keys)).ravel()
    share = np.bincount(drawn, minlength=20) / drawn.size
    assert np.all(np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 4000) / np.sqrt(5) + 1e-9)


@pytest.mark.parametrize("steps", [1, 2, 7, 50, 400, 1000, 5000])
def test_a_walk_visits_as_many_different_steps_as_asked_from_last_to_first(steps):
    walk = SCHEDULE.walk(steps)
    assert len(walk) == min(steps, 1000)
    assert np.all(np.diff(walk) < 0)
    assert walk[-1] == 0
    assert walk[0] == 999 or steps == 1


@pytest.mark.parametrize("weighting", ["flow", "bound", "simple"])
def test_the_loss_of_the_exact_predictor_is_the_posterior_variance(data, weighting):
    family = DDPM(weighting=weighting)
    schedule = Schedule(family.timesteps, family.offset)
    cos2 = np.cos(schedule.angles) ** 2
    expected = {
        "flow": np.average(noise_variance(schedule) / cos2, weights=schedule.flow_probabilities),
        "bound": np.average(noise_variance(schedule) / cos2, weights=schedule.probabilities),
        "simple": np.mean(noise_variance(schedule)),
    }[weighting] / 2
    got = np.asarray(losses(family, ExactPredictor(), data))
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(len(got)) + 2e-3


@pytest.mark.parametrize("weighting", ["flow", "simple"])
def test_the_exact_predictor_is_the_minimum_and_its_negative_is_not(data, weighting):
    family = DDPM(weighting=weighting)
    exact = losses(family, ExactPredictor(), data).mean()
    for factor in (0.9, 1.1):
        assert losses(family, ExactPredictor(jnp.asarray(factor)), data).mean() > exact + 1e-3
    assert losses(family, ExactPredictor(jnp.asarray(-1.0)), data).mean() > exact + 1


def test_the_bound_is_its_closed_form_just_below_the_likelihood(data):
    """E of the bound: −E KL(q(x_T | x₀) ‖ N(0, I)) − Σ w_t tr Cov(ε | x_t) − d · constant."""
    schedule = Schedule(300, 0.05)
    exact = model(schedule=schedule)
    cos2 = np.cos(schedule.angles[-1]) ** 2
    second = np.asarray(jnp.sum(data**2, axis=1), np.float64)
    prior = 0.5 * cos2 * second.mean() + 0.5 * 2 * (-cos2 - np.log(1 - cos2))
    noise = np.sum(schedule.weights * noise_variance(schedule))
    expected = -prior - noise - 2 * schedule.constant
    keys = jax.random.split(jax.random.key(1), len(data))
    got = np.asarray(batched(lambda a: exact.log_prob_bound(a[0], a[1], 4), (keys, data)))
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(len(got))
    # Below E log p, by what the chain loses: 0.006 nats.
    log_p = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.asarray(COVARIANCE, np.float64))[1]
    assert log_p - 0.01 < expected < log_p


def test_the_sum_over_all_steps_is_what_its_draws_estimate(data):
    schedule = Schedule(40, 0.05)
    exact = model(schedule=schedule)
    x, indices = data[0], jnp.arange(40)
    noises = jax.random.normal(jax.random.key(0), (2000, 2))
    terms = lambda n: jnp.sum(
        jax.vmap(lambda i: bound_term(exact.predictor, schedule, x, i, n))(indices)
    )
    total = np.asarray(batched(terms, noises))
    keys = jax.random.split(jax.random.key(2), 4000)
    drawn = np.asarray(batched(lambda k: exact.log_prob_bound(k, x, 1), keys))
    expected = float(bound_rest(schedule, x)) - total.mean()
    error = np.hypot(total.std() / np.sqrt(2000), drawn.std() / np.sqrt(4000))
    assert abs(drawn.mean() - expected) < 4 * error


def test_the_flow_gives_the_exact_log_density():
    x = np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, 100).astype(np.float32)
    x = np.concatenate([x, x * 3])  # tails too
    # x_T ~ N(cos τ_T m, ·) is taken for N(0, I), so the offset must be small to make this exact.
    flow = model(schedule=Schedule(1000, 0.001))
    noisy = np.asarray(COVARIANCE) + 1e-6 * np.eye(2)
    exact = toy.gaussian_log_prob(x, np.asarray(MEAN), noisy)
    np.testing.assert_allclose(batched(flow.log_prob, jnp.asarray(x)), exact, rtol=2e-3, atol=5e-3)


def test_the_score_is_that_of_the_law_with_the_smallest_noise():
    x = jnp.asarray(toy.gaussian(0, 50))
    got = batched(model().score, x)
    noisy = COVARIANCE + math.tan(0.025) ** 2 * jnp.eye(2)
    exact = -jnp.linalg.solve(noisy, (x - MEAN[None]).T).T
    np.testing.assert_allclose(got, exact, rtol=2e-3, atol=1e-2)


@pytest.mark.parametrize(
    ("sampler", "steps"),
    [("ancestral", 1000), ("ancestral", 100), ("ddim", 1000), ("ddim", 50), ("flow", 1)],
)
def test_samplers_give_the_law_back(sampler, steps):
    n = 4000
    x = np.asarray(model(sampler, steps).sample(jax.random.key(0), n))
    sd = np.sqrt(np.diag(COVARIANCE))
    slack = 0.01 if steps == 1000 else 0.05
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < 4 * sd / np.sqrt(n) + slack)
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=4 * np.sqrt(2 / n) + slack)


def test_ddim_is_the_flow_and_the_chain_is_not(data):
    """From one start, many DDIM steps lead where the ODE leads; the chain leads elsewhere."""
    start = model("ddim", 1000).path(jax.random.key(0), 20, 2)
    other = model("ancestral", 1000).path(jax.random.key(0), 20, 2)
    np.testing.assert_array_equal(start[0], other[0])
    # For a Gaussian the flow is affine: it takes the law of x_T to that of x₁.
    cos, sin = math.cos(SCHEDULE.angles[-1]), math.sin(SCHEDULE.angles[-1])
    first, last = math.tan(0.025) ** 2, cos**2 * EIGENVALUES + sin**2
    white = ((start[0] - cos * MEAN[None]) @ AXES) / jnp.sqrt(last)[None]
    exact = MEAN[None] + (white * jnp.sqrt(EIGENVALUES + first)[None]) @ AXES.T
    np.testing.assert_allclose(start[1], exact, atol=0.02)
    assert np.abs(other[1] - exact).mean() > 0.3


def test_sampling_in_a_network_of_random_weights_matches_its_density():
    """∫ q = 1 for any network at all: the divergence is exact, not that of a trained one."""
    family = DDPM(width=16, offset=0.3)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    mlp = state.averaged.mlp
    louder = eqx.tree_at(lambda s: s.averaged.mlp.weights[-1], state, mlp.weights[-1] * 3)
    axis = jnp.linspace(-10, 10, 81)
    points = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    log_q = family.model(louder).log_prob
    density = np.exp(np.asarray(batched(log_q, points), np.float64))
    assert density.sum() * 0.25**2 == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("offset", np.linspace(1e-4, 0.78, 40))
def test_the_chain_ends_in_numbers_whatever_the_offset(offset):
    """Its last share of noise is 0 times a root of 0, which rounding can make negative."""
    angles = Schedule(20, float(offset)).angles[::-1]
    states = ancestral(jax.random.key(0), ExactPredictor(), jnp.ones(2), angles)
    assert np.all(np.isfinite(states))
