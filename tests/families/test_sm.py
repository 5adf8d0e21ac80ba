"""Implicit score matching against what is known in closed form."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densitometer.blocks.energies import NetworkEnergy
from densitometer.families import sm
from densitometer.families.sm import SM, NetworkScore, ScoreField, ScoreModel
from densitometer.models import HasDensity, HasEnergy, HasScore, Standardiser

MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])
N = 20_000


class Gaussian(ScoreField):
    """A multiple of the score of N(mean, C)."""

    mean: jax.Array
    precision: jax.Array
    factor: float = 1.0
    dim: int = 2

    def __call__(self, z):
        return -self.factor * (self.precision @ (z - self.mean))


def gaussian(factor=1.0, shift=0.0, covariance=COVARIANCE):
    mean, precision = MEAN + shift, np.linalg.inv(covariance)
    mean, precision = (jnp.asarray(a, jnp.float32) for a in (mean, precision))
    return Gaussian(mean=mean, precision=precision, factor=factor)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, N), jnp.float32)


def losses(model, points, family=None):
    """J, point by point, over the directions of a family (by default the axes)."""
    family = family or SM()
    directions = family._directions(jax.random.key(5), *points.shape)
    return np.asarray(jax.vmap(lambda z, v: sm.implicit_loss(model, z, v))(points, directions))


def test_the_loss_of_the_exact_score_is_minus_half_its_square(data):
    got = losses(gaussian(), data)
    expected = -0.5 * np.trace(np.linalg.inv(COVARIANCE))
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(N)


@pytest.mark.parametrize("factor", [-1.0, 0.5, 2.0])
def test_each_term_has_its_sign_and_its_half(data, factor):
    """J(c s) = c²/2 E‖s‖² + c E div s = (c²/2 − c) tr C⁻¹: only the right terms give all of it."""
    got = losses(gaussian(factor), data)
    expected = (factor**2 / 2 - factor) * np.trace(np.linalg.inv(COVARIANCE))
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(N)


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_the_exact_score_is_the_minimum_in_mean_and_covariance(data, shift):
    """By half the squared distance of the scores, ½ E‖s − ∇ log p‖², and by no other amount."""
    best = losses(gaussian(), data)
    moved = losses(gaussian(shift=shift), data) - best
    distance = 0.5 * np.sum(np.linalg.solve(COVARIANCE, [shift, shift]) ** 2)
    assert abs(moved.mean() - distance) < 4 * moved.std() / np.sqrt(N)
    wider = COVARIANCE + shift * np.eye(2) / 4
    gap = np.linalg.inv(wider) - np.linalg.inv(COVARIANCE)
    changed = losses(gaussian(covariance=wider), data) - best
    distance = 0.5 * np.trace(gap @ COVARIANCE @ gap)
    assert abs(changed.mean() - distance) < 4 * changed.std() / np.sqrt(N)


@pytest.mark.parametrize("score", ["energy", "vector"])
def test_the_derivatives_of_a_network_are_those_of_autodiff(score):
    """In three dimensions and for random directions, with weights that make all terms matter."""
    key = jax.random.key(0)
    if score == "energy":
        network = NetworkEnergy(key, 3, width=8, depth=3, count=4, scale=0.3)
    else:
        network = NetworkScore(key, 3, SM(width=8, fourier_count=4))
    loud = lambda w: 10 * w
    network = eqx.tree_at(lambda n: n.mlp.weights[-1], network, replace_fn=loud)
    field = network if score == "vector" else lambda z: -jax.grad(network)(z)
    directions = jax.random.normal(jax.random.key(1), (5, 3))

    @jax.jit
    def both(z):
        jacobian = jax.jacfwd(field)(z)
        slopes, curvature = sm.slopes(network, z, directions)
        got = (slopes, curvature, sm.implicit_loss(network, z, math.sqrt(3) * jnp.eye(3)))
        expected = (
            directions @ field(z),
            jnp.trace(directions @ jacobian @ directions.T),
            0.5 * jnp.sum(field(z) ** 2) + jnp.trace(jacobian),
        )
        return got, expected

    for z in jax.random.normal(jax.random.key(2), (4, 3)):
        for got, expected in zip(*both(z), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("slices", [1, 4])
def test_sliced_is_exact_in_expectation(data, slices):
    # Scores off their optimum, or else E ½(v·s)² and E vᵀ∇s v would not be told apart.
    model = gaussian(0.7)
    sliced = losses(model, data, SM(slices=slices))
    gap = sliced - losses(model, data)
    assert gap.std() > 0.1
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(N)


def test_the_weight_of_the_noise_bounds_the_loss(data):
    """σ² J of the exact score at noise σ is −σ²/2 tr (C + σ²)⁻¹, at least −d/2."""
    family, sigma = SM(), 0.5
    noisy = COVARIANCE + sigma**2 * np.eye(2)
    got = family._loss(
        gaussian(covariance=noisy), jax.random.key(0), data, jnp.asarray(sigma, jnp.float32)
    )
    expected = -0.5 * sigma**2 * np.trace(np.linalg.inv(noisy))
    assert -1 < expected < 0
    assert abs(float(got) - expected) < 4 * sigma**2 * losses(gaussian(), data).std() / np.sqrt(N)


def test_noise_sinks_from_first_to_last_or_stays():
    family = SM(steps=100, noise_start=0.9, noise=0.1)
    levels = np.asarray(jax.vmap(family._noise)(jnp.arange(101)))
    assert levels[0] == pytest.approx(0.9)
    assert levels[-1] == pytest.approx(0.1)
    assert np.all(np.diff(levels) < 0)
    fixed = SM(noise_start=0.1, noise=0.1)
    assert float(fixed._noise(jnp.asarray(7))) == pytest.approx(0.1)


class TwoModes(ScoreField):
    """The score of w N(−m, I) + (1 − w) N(m, I) with m = (separation, 0) / 2."""

    weight: float
    separation: float
    dim: int = 2

    def log_density(self, z):
        m = jnp.array([self.separation / 2, 0.0])
        squares = jnp.stack([jnp.sum((z + m) ** 2), jnp.sum((z - m) ** 2)])
        return jax.nn.logsumexp(jnp.log(jnp.array([self.weight, 1 - self.weight])) - squares / 2)

    def __call__(self, z):
        return jax.grad(self.log_density)(z)


def fisher_and_kl(separation):
    """½ E‖s − ∇ log p‖² and KL of the model with weights ½ when the truth has 0.9 and 0.1."""
    rng = np.random.default_rng(1)
    side = np.where(rng.random(N) < 0.9, -1, 1)
    points = rng.standard_normal((N, 2)) + side[:, None] * [separation / 2, 0]
    points = jnp.asarray(points, jnp.float32)
    truth, model = (TwoModes(weight=w, separation=separation) for w in (0.9, 0.5))
    excess = losses(model, points) - losses(truth, points)
    kl = jax.vmap(lambda z: truth.log_density(z) - model.log_density(z))(points)
    return excess.mean(), excess.std() / np.sqrt(N), float(kl.mean())


def test_the_weights_of_far_modes_are_not_seen():
    """J cannot tell 50 % from 90 %, though KL is 0.9 log 1.8 + 0.1 log 0.2 = 0.37 nats."""
    excess, _, kl = fisher_and_kl(separation=12.0)
    assert kl == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), abs=0.02)
    assert abs(excess) < 1e-4


def test_the_weights_of_near_modes_are_seen():
    excess, error, _ = fisher_and_kl(separation=2.0)
    assert excess > 10 * error
    assert excess > 0.1


def test_langevin_of_an_exact_score_gives_the_law_back():
    n, small = 4000, COVARIANCE * 0.1
    score = gaussian(covariance=small)
    model = ScoreModel(Standardiser.identity(2), score, epsilon=0.003)
    x = np.asarray(model.sample(jax.random.key(0), n))
    # A step of ε turns precision P into P (1 − εP/2), so covariance C into (P − εP²/2)⁻¹.
    precision = np.linalg.inv(small)
    settled = np.linalg.inv(precision - 0.0015 * precision @ precision)
    sd = np.sqrt(np.diag(settled))
    assert np.all(np.abs(x.mean(axis=0) - MEAN) < 4 * sd / np.sqrt(n))
    error = np.sqrt((np.outer(sd, sd) ** 2 + settled**2) / n)
    assert np.all(np.abs(np.cov(x.T) - settled) < 4 * error)
    assert np.all(np.abs(settled - small) < 0.2 * np.outer(sd, sd))  # and that is nearly the law


def test_both_modes_promise_what_they_have():
    points = jnp.zeros((3, 2))
    energy = SM(width=8)
    model = energy.model(energy.init(jax.random.key(0), points))
    assert isinstance(model, HasDensity)
    assert isinstance(model, HasEnergy)
    vector = SM(width=8, score="vector")
    state = vector.init(jax.random.key(0), points)
    model = vector.model(state)
    assert isinstance(model, HasScore)
    assert not isinstance(model, HasDensity | HasEnergy)
    z = jnp.asarray(MEAN, jnp.float32)
    np.testing.assert_allclose(model.score(z), state.averaged(z), rtol=1e-5)


@pytest.mark.parametrize("score", ["energy", "vector"])
def test_slices_learn_a_gaussian_in_three_dimensions(score):
    """Steps of the family itself, no `fit`: the regression on the exact score has slope 1."""
    rng = np.random.default_rng(2)
    mixing = np.array([[1.0, 0.5, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 0.6]])
    points = jnp.asarray(rng.standard_normal((1000, 3)) @ mixing + 0.2, jnp.float32)
    family = SM(
        steps=800,
        learning_rate=1e-2,
        batch_size=128,
        width=16,
        depth=1,
        fourier_count=0,
        noise=0.3,
        score=score,
        slices=1,
    )

    def step(state, key):
        batch = points[jax.random.randint(key, (family.batch_size,), 0, len(points))]
        return family.step(key, state, batch)[0], None

    state = family.init(jax.random.key(0), points)
    keys = jax.random.split(jax.random.key(1), family.steps)
    state, _ = jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)
    network = state.averaged
    field = network if score == "vector" else lambda z: -jax.grad(network)(z)
    got = np.asarray(jax.vmap(field)(points))
    noisy = mixing.T @ mixing + family.noise**2 * np.eye(3)
    exact = -np.linalg.solve(noisy, (np.asarray(points) - 0.2).T).T
    assert 0.85 < np.sum(got * exact) / np.sum(exact**2) < 1.15
    assert np.mean((got - exact) ** 2) < 0.15 * np.mean(exact**2)
