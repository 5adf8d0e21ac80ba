"""The adversarial game against the values it must have for critics known in closed form."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer import training
from densitometer.families.gan import GAN, Critic, Generator

A = jnp.array([0.7, -0.2])


class LinearCritic(Critic):
    """C(x) = a·x + c: the optimal critic, log p/q, of two Gaussians that differ by a shift."""

    a: jax.Array
    c: jax.Array

    def __init__(self, a: Any, c: Any = 0.0):
        base = Critic(jax.random.key(0), 2, GAN(width=2, depth=1))
        self.mlp = base.mlp
        self.a, self.c = jnp.asarray(a), jnp.asarray(c)

    def __call__(self, x):
        return self.a @ x + self.c


@pytest.fixture
def sides():
    """Real points from N(a, I), generated ones from N(0, I): log p/q = a·x − |a|²/2."""
    real, fake = (jax.random.normal(jax.random.key(s), (20_000, 2)) for s in (0, 1))
    return real + A[None], fake


def value(objective, critic, real, fake):
    family = GAN(objective=objective)
    return float(family._value(*family._judge(critic, real, fake)))


@pytest.mark.parametrize(
    ("objective", "expected"), [("minimax", -2 * np.log(2)), ("relativistic", -np.log(2))]
)
def test_a_critic_that_cannot_tell_gives_the_value_of_the_settled_game(sides, objective, expected):
    assert value(objective, LinearCritic([0.0, 0.0]), *sides) == pytest.approx(expected, abs=1e-6)


def test_the_optimal_critic_of_the_minimax_game_reaches_the_jensen_shannon_divergence(sides):
    # max_C V = 2 JS(p, q) − 2 log 2 (Goodfellow et al., 2014), here by quadrature along a.
    t = np.linspace(-12, 12, 20_001)
    size = float(jnp.linalg.norm(A))
    p, q = (np.exp(-0.5 * (t - m) ** 2) / np.sqrt(2 * np.pi) for m in (size, 0))
    expected = np.sum(p * np.log(p / (p + q)) + q * np.log(q / (p + q))) * (t[1] - t[0])
    optimal = value("minimax", LinearCritic(A, -0.5 * A @ A), *sides)
    assert optimal == pytest.approx(expected, abs=4 * 0.5 / np.sqrt(20_000))
    for a, c in ((1.3 * A, -0.5 * A @ A), (0.7 * A, -0.5 * A @ A), (A, 0.3), (-A, 0.0)):
        assert value("minimax", LinearCritic(a, c), *sides) < optimal


def test_the_gradient_penalty_is_that_of_a_linear_critic(sides):
    loss, game = GAN()._critic_loss(LinearCritic(A), *sides, gamma=jnp.asarray(3.0))
    assert float(loss + game) == pytest.approx(3.0 * float(A @ A), rel=1e-5)  # real and generated


class QuadraticCritic(LinearCritic):
    """C(x) = c |x|² + a·x, whose gradient 2c x + a differs from point to point."""

    def __call__(self, x):
        return self.a @ x + self.c * x @ x


def test_the_gradient_penalty_of_a_part_of_the_batch_is_unbiased_on_both_sides(sides):
    """Of N(m, s² I) it is E |2c x + a|² = |2c m + a|² + 2 (2c s)², with a different s each side."""
    real, fake = sides
    a, c, batch = jnp.array([0.5, 1.0]), 0.4, 100
    family, critic = GAN(penalty_points=25), cast(Any, QuadraticCritic)(a, c)

    def penalty(x, y):
        loss, game = family._critic_loss(critic, x, y, jnp.asarray(2.0))
        return loss + game

    split = lambda points: points.reshape(-1, batch, 2)
    got = np.asarray(jax.vmap(penalty)(split(real), split(3 * fake)))
    on_real = float(jnp.sum((2 * c * A + a) ** 2)) + 2 * (2 * c) ** 2
    on_fake = float(a @ a) + 2 * (2 * c * 3) ** 2
    # γ/2 = 1 for each side
    assert abs(got.mean() - (on_real + on_fake)) < 4 * got.std() / np.sqrt(len(got))


def test_the_penalty_falls_geometrically():
    family = GAN(penalty=0.5, penalty_decay=0.04, steps=400)
    weights = [float(family._penalty_weight(jnp.asarray(t))) for t in (0, 200, 400)]
    assert weights == pytest.approx([0.5, 0.1, 0.02], rel=1e-5)


def test_the_noise_is_a_cube_fair_signs_and_a_bell_all_of_unit_variance():
    family = GAN(latent=3, signs=2)
    generator = Generator(jax.random.key(0), 2, family)
    noise = np.asarray(generator.noise(jax.random.key(1), 20_000))
    cube, signs, bell = np.split(noise, [3, 5], axis=1)
    assert bell.shape[1] == 2
    assert np.all(np.abs(noise.mean(axis=0)) < 4 / np.sqrt(20_000))
    # the variance of z² is E z⁴ − 1: 9/5 − 1 for the cube, 0 for the signs, 3 − 1 for the bell
    for part, variance in ((cube, 0.8), (signs, 0.0), (bell, 2.0)):
        excess = np.abs((part**2).mean(axis=0) - 1)
        assert np.all(excess < 4 * np.sqrt(variance / 20_000) + 1e-6)
    assert np.abs(cube).max() <= np.sqrt(3) + 1e-6
    correlations = np.corrcoef(noise.T) - np.eye(7)
    assert np.abs(correlations).max() < 5 / np.sqrt(20_000)


def test_a_generated_point_has_a_bell_of_the_learnt_width():
    """With all weights zero, x = b + spread · exp(c) ε for the last biases b and c."""
    family = GAN(spread=0.2, width=2, depth=1)
    zero = jax.tree.map(jnp.zeros_like, Generator(jax.random.key(0), 2, family))
    generator = eqx.tree_at(lambda g: g.mlp.biases[-1], zero, jnp.array([1.0, -2.0, np.log(3)]))
    points = np.asarray(family._generate(generator, jax.random.key(1), 20_000))
    assert np.all(np.abs(points.mean(axis=0) - [1, -2]) < 4 * 0.6 / np.sqrt(20_000))
    assert points.std(axis=0) == pytest.approx(0.6, rel=4 / np.sqrt(40_000))


def test_the_generator_goes_at_a_share_of_the_critics_pace():
    """Adam's first steps do not depend on the gradient's size, so the moves are as the rates."""
    data = jnp.asarray(np.random.default_rng(0).normal(size=(64, 2)), jnp.float32)

    def moves(pace):
        family = GAN(steps=100, width=8, depth=1, generator_pace=pace)
        old = family.init(jax.random.key(0), data)
        step, new = jax.jit(family.step), old
        for seed in range(2):  # the warm-up begins at a rate of zero
            new, _ = step(jax.random.key(seed), new, data)
        bias = lambda player: np.abs(np.asarray(player.mlp.biases[-1])).max()
        return bias(new.generator), bias(new.critic)

    (slow, critic), (fast, same) = moves(0.25), moves(1.0)
    assert slow == pytest.approx(0.25 * fast, rel=1e-3)
    assert critic == pytest.approx(same, rel=1e-3)


@pytest.mark.parametrize("objective", ["minimax", "relativistic"])
def test_the_generator_is_pulled_towards_what_the_critic_calls_real(objective):
    family = GAN(objective=objective, depth=1)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    real = jax.random.normal(jax.random.key(1), (256, 2))
    gradient = jax.jit(jax.grad(family._generator_loss))(
        state.generator, LinearCritic(A), jax.random.key(2), real
    )
    # The last bias shifts every generated point: descent must move it along a.
    push = -np.asarray(gradient.mlp.biases[-1])[:2]
    assert push @ np.asarray(A) / np.linalg.norm(push) / np.linalg.norm(A) > 0.999


@pytest.mark.parametrize("objective", ["minimax", "relativistic"])
def test_a_few_steps_of_both_players_move_the_samples_towards_the_data(objective):
    """Far from the data, so that a sign error in either player sends them the other way."""
    centre = np.array([2.0, -1.0])
    data = jnp.asarray(np.random.default_rng(0).normal(size=(500, 2)) + centre, jnp.float32)
    family = GAN(objective=objective, steps=200, width=16, depth=1, learning_rate=5e-3)
    state = family.init(jax.random.key(0), data)
    distance = lambda s: np.linalg.norm(
        np.mean(family._generate(s.generator, jax.random.key(1), 500), axis=0) - centre
    )
    key, start = jax.random.key(2), jnp.asarray(0)
    moved, _ = training._scan(family, 120, key, state, start, data)
    assert distance(moved) < 0.75 * distance(state)


@pytest.mark.parametrize(
    ("objective", "settled"), [("minimax", -2 * np.log(2)), ("relativistic", -np.log(2))]
)
def test_the_game_settles_at_its_value(objective, settled):
    """On a Gaussian, which the generator can match, the critic ends unable to tell."""
    rng = np.random.default_rng(0)
    train, holdout = (rng.normal(size=(n, 2)).astype(np.float32) for n in (2000, 500))
    family = GAN(objective=objective, steps=1200, width=32, penalty=1.0)
    fit = dm.fit(family, train, holdout)
    last = fit.curves["step_value"][-8:]
    assert abs(last.mean() - settled) < 0.03
    assert fit.curves["holdout_loss"][-8:].mean() == pytest.approx(-settled, abs=0.03)
