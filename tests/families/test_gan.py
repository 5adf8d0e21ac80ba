"""The adversarial game against the values it must have for critics known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer.families.gan import Critic

A = jnp.array([0.7, -0.2])


class LinearCritic(Critic):
    """C(x) = a·x + c: the optimal critic, log p/q, of two Gaussians that differ by a shift."""

    a: jax.Array
    c: jax.Array

    def __init__(self, a, c=0.0):
        base = Critic(jax.random.key(0), 2, dm.families.get("gan", width=2, depth=1))
        for field in ("mlp", "count", "scale"):
            setattr(self, field, getattr(base, field))
        self.a, self.c = jnp.asarray(a), jnp.asarray(c)

    def __call__(self, x):
        return self.a @ x + self.c


@pytest.fixture
def sides():
    """Real points from N(a, I), generated ones from N(0, I): log p/q = a·x − |a|²/2."""
    real, fake = (jax.random.normal(jax.random.key(s), (20_000, 2)) for s in (0, 1))
    return real + A[None], fake


def value(objective, critic, real, fake):
    family = dm.families.get("gan", objective=objective)
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
    family = dm.families.get("gan", penalty=3.0)
    loss, game = family._critic_loss(LinearCritic(A), *sides)
    assert float(loss + game) == pytest.approx(3.0 * float(A @ A), rel=1e-5)  # real and generated


@pytest.mark.parametrize("objective", ["minimax", "relativistic"])
def test_the_generator_is_pulled_towards_what_the_critic_calls_real(objective):
    family = dm.families.get("gan", objective=objective)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    real = jax.random.normal(jax.random.key(1), (256, 2))
    gradient = jax.grad(family._generator_loss)(
        state.generator, LinearCritic(A), jax.random.key(2), real
    )
    # The last bias shifts every generated point: descent must move it along a.
    push = -np.asarray(gradient.biases[-1])
    assert push @ np.asarray(A) / np.linalg.norm(push) / np.linalg.norm(A) > 0.999


@pytest.mark.parametrize(
    ("objective", "settled"), [("minimax", -2 * np.log(2)), ("relativistic", -np.log(2))]
)
def test_the_game_settles_at_its_value(objective, settled):
    """On a Gaussian, which the generator can match, the critic ends unable to tell."""
    rng = np.random.default_rng(0)
    train, holdout = (rng.normal(size=(n, 2)).astype(np.float32) for n in (2000, 500))
    family = dm.families.get("gan", objective=objective, steps=1200, width=32, penalty=1.0)
    fit = dm.fit(family, train, holdout)
    last = fit.curves["step_value"][-8:]
    assert abs(last.mean() - settled) < 0.03
    assert fit.curves["holdout_loss"][-8:].mean() == pytest.approx(-settled, abs=0.03)
