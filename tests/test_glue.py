"""What stands between the formulas: coordinates, selection, clocks, the ends of walks."""

import dataclasses
import math
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer.blocks import chains
from densitometer.blocks.nets import Dropout
from densitometer.blocks.optim import descend
from densitometer.estimates import Estimate, Provenance
from densitometer.families import ddpm, dsm
from densitometer.families.gan import GAN
from densitometer.gaussian import log_normal
from densitometer.metrics import density, faults, modes, two_sample
from densitometer.metrics.grids import Grid, GridDensity
from densitometer.models import HasBound, Standardiser
from densitometer.scoring import consistency

# --- coordinates


class Bounded(HasBound):
    """A bound that is exact: that of a standard Gaussian in standardised coordinates."""

    standardiser: Standardiser

    def _sample(self, key):
        return jax.random.normal(key, (self.dim,))

    def _log_prob_bound(self, key, z, k):
        return log_normal(z)


def test_a_bound_is_in_data_coordinates():
    scale = np.array([0.5, 3.0])
    model = Bounded(
        Standardiser(jnp.asarray(toy.MEAN, jnp.float32), jnp.asarray(scale, jnp.float32))
    )
    x = jnp.array([2.0, 0.7])
    want = toy.gaussian_log_prob(np.asarray(x)[None], toy.MEAN, np.diag(scale**2))[0]
    assert float(model.log_prob_bound(jax.random.key(0), x)) == pytest.approx(want, abs=1e-5)


# --- training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opposed(toy.MeanFamily):
    """Its own loss falls for ever, while its samples walk past the data and away."""

    name: ClassVar[str] = "opposed"
    select_by: ClassVar[Literal["holdout_loss", "holdout_kde_nll"]] = "holdout_kde_nll"

    def step(self, key, state, batch):
        state = dataclasses.replace(
            state, mean=state.mean + 0.05, count=state.count + jnp.ones_like(state.count)
        )
        return state, toy.MeanInfo(jnp.asarray(0.0))

    def loss(self, key, state, batch):
        return -state.count.astype(jnp.float32)

    def model(self, state):
        identity = Standardiser.identity(state.mean.shape[0])
        return toy.Shifted(identity, state.mean - 2.0)


def test_the_state_is_chosen_by_the_curve_that_the_family_names():
    x, y = toy.gaussian(0, 300), toy.gaussian(1, 100)
    fit = dm.fit(Opposed(steps=80), x, y)
    curve, own = fit.curves["holdout_kde_nll"], fit.curves["holdout_loss"]
    best = int(np.argmin(curve))
    assert best < int(np.argmin(own)) == len(own) - 1
    assert fit.selected_step == fit.curves["step"][best]


def test_the_generator_plays_the_new_critic_and_the_clock_goes_on():
    family = GAN(width=4, depth=1, steps=10, batch_size=64)
    key, batch = jax.random.key(3), jax.random.normal(jax.random.key(4), (64, 2))
    before, _ = family.step(key, family.init(jax.random.key(5), batch), batch)  # at rate 0
    state, _ = family.step(key, before, batch)
    assert int(state.time) == 2
    optimiser = family._optimiser(family.generator_pace)

    def played(critic):
        gradient = jax.grad(family._generator_loss)(
            before.generator, critic, jax.random.split(key)[1], batch
        )
        new, _ = descend(optimiser, gradient, before.generator_optimiser, before.generator)
        return np.asarray(new.mlp.weights[0])

    got = np.asarray(state.generator.mlp.weights[0])
    np.testing.assert_allclose(got, played(state.critic), atol=1e-6)
    assert np.abs(got - played(before.critic)).max() > 1e-5


def test_the_penalty_of_a_step_is_that_of_its_time():
    """At the last step γ is a fiftieth of what it was, so the critic's loss is another."""
    family = GAN(width=4, depth=1, steps=10, batch_size=64, penalty=100.0)
    batch = jax.random.normal(jax.random.key(4), (64, 2))
    state = family.init(jax.random.key(5), batch)
    late = dataclasses.replace(state, time=jnp.asarray(10))
    losses = [family.step(jax.random.key(0), s, batch)[1].loss for s in (state, late)]
    values = [family.step(jax.random.key(0), s, batch)[1].value for s in (state, late)]
    early, end = (float(loss + value) for loss, value in zip(losses, values, strict=True))
    assert end == pytest.approx(family.penalty_decay * early, rel=1e-3)


def test_dropout_keeps_the_mean():
    drop = Dropout(0.4, jax.random.key(0))
    x = jnp.full(10_000, 3.0)
    kept = np.asarray(drop(x, 0))
    assert set(np.unique(kept)) == {0.0, np.float32(3.0 / 0.6)}
    assert kept.mean() == pytest.approx(3.0, abs=4 * 5.0 * math.sqrt(0.24 / 10_000))


# --- walks


class Standard(ddpm.NoisePredictor):
    """The exact predictor of noise where the data are N(0, I): so is every noisy law."""

    def __call__(self, x, angle, drop=None):
        return jnp.sin(angle) * x


def test_ddim_ends_in_the_data_with_the_least_noise_not_in_their_mean():
    """Each step changes nothing, and the last divides by cos τ₁; the mean would be x cos τ₁."""
    angles = np.array([1.4, 1.0, 0.6])
    start = jnp.array([0.8, -1.1])
    states = np.asarray(chains.ddim(jax.random.key(0), Standard(), start, angles))
    kept = np.prod(np.cos(np.diff(angles)))
    np.testing.assert_allclose(states[-2], kept * start, rtol=1e-5)
    np.testing.assert_allclose(states[-1], states[-2] / math.cos(angles[-1]), rtol=1e-5)


class Nothing(dsm.Denoiser):
    """The exact denoiser of data that are all at 0."""

    def __call__(self, u, log_sigma, drop=None):
        return -u * jnp.exp(-log_sigma)


def test_langevin_moves_by_a_tenth_of_the_variance():
    """Of N(0, σ²) it makes the variance σ² / (1 − ε / 2σ²), 5.3 % too large for ε = σ²/10."""
    n, sigma = 20_000, 0.7
    walk = lambda key: dsm.annealed_langevin(
        key, Nothing(), jnp.zeros(1), jnp.log(jnp.array([sigma])), 60
    )[0, 0]
    ends = np.asarray(jax.vmap(walk)(jax.random.split(jax.random.key(0), n))) / sigma
    assert ends.var() == pytest.approx(1 / (1 - 0.05), rel=4 * math.sqrt(2 / n) / 2)


# --- statistics


def test_the_error_of_mode_weights_is_that_of_multinomial_shares():
    """Var ½ Σ ± ŵ = (Σ s² q − (Σ s q)²) / n with s = ±½, for shares q far from the true ones."""
    centres, weights = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]), np.array([0.2, 0.35, 0.45])
    samples = centres[np.repeat([0, 1, 2], [500, 300, 200])]
    found = modes.ModeWeights.of(samples, centres, weights)
    assert found.value == pytest.approx((0.3 + 0.05 + 0.25) / 2)
    # of a thousand draws
    assert found.stderr == pytest.approx(math.sqrt(0.25 / 1000), rel=4 / math.sqrt(2000))


@pytest.mark.parametrize("covered", [two_sample.Precision.of, two_sample.Recall.of])
def test_the_error_of_coverage_is_of_the_size_of_its_scatter(covered):
    rng = np.random.default_rng(0)
    found = [covered(1.3 * rng.normal(size=(400, 2)), rng.normal(size=(400, 2))) for _ in range(40)]
    scatter = np.std([estimate.value for estimate in found], ddof=1)
    stated = np.mean([estimate.stderr for estimate in found])
    # the standard error of a standard deviation of 40 is 11 % of it
    assert 0.7 < stated / scatter < 1.5


def test_a_density_may_be_a_thousandth_off_and_no_more():
    flagged = lambda mass: list(
        consistency.violations({"mass": Estimate(mass, 1e-5, Provenance.parse("ode"))}, None)
    )
    assert not flagged(1.0009)
    assert not flagged(0.9991)
    assert flagged(1.002)
    assert flagged(0.998)


def on_grid(log_density, half=20.0):
    """A truth on forty cells a side, from its log-density at (x, y)."""
    grid = Grid.over(((-half,) * 2, (half,) * 2), 40, 0.0)
    return GridDensity.of(grid, log_density(*np.meshgrid(grid.x, grid.y)))


def test_no_temperature_is_below_0():
    """Of a small plateau in a wide plain ever colder samples would be, to first order."""
    truth = on_grid(lambda x, y: np.where(np.hypot(x, y) < 2.5, 2.0, 0.0))
    assert faults.Temperature.of(np.zeros((10, 2)), truth).value == 0.0


def test_a_shift_and_its_error_are_in_standard_deviations_of_the_truth():
    truth = on_grid(lambda x, y: -(x**2 + y**2) / (2 * 3.0**2))
    samples = 3 * np.random.default_rng(0).normal(size=(400, 2))
    found = faults.Shift.of(samples - samples.mean(axis=0) + np.array([100.0, 0.0]), truth)
    assert found.value == pytest.approx(100 / 3, rel=1e-3)
    assert found.stderr == pytest.approx(samples[:, 0].std(ddof=1) / 3 / 20, rel=1e-3)


@pytest.mark.parametrize("metric", [density.TotalVariation, density.BhattacharyyaExact])
def test_an_infinite_density_is_compared_with_nothing(metric):
    log_p, log_q = np.zeros(3), np.array([0.0, np.inf, 0.0])
    assert math.isnan(metric.of(log_p, log_q, Provenance("ode")).value)
    assert metric.of(log_p, np.array([0.0, -np.inf, 0.0]), Provenance("ode")).value > 0
