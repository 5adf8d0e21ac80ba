"""The sampler and the normaliser of energies against laws known in closed form."""

import abc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from densitometer.blocks import energies
from densitometer.blocks.energies import (
    Energy,
    EnergyModel,
    NetworkEnergy,
    energy_model,
    log_normaliser,
)
from densitometer.models import HasDensity, Standardiser

CENTRES = np.array([[-2.0, 0.0], [1.5, 1.0]])
WEIGHTS = np.array([0.8, 0.2])
SD = np.array([0.1, 0.25])
OFFSET = 3.0


class Exact(Energy):
    """An energy given whole."""

    dim: int = 2

    @abc.abstractmethod
    def whole(self, z: jax.Array) -> jax.Array: ...

    def tilt(self, z):
        return self.whole(z) - jnp.sum(z**2) / (2 * energies.SPREAD**2)


class Mixture(Exact):
    """−log of two far Gaussians of unequal weight and width, plus a constant: no chain crosses."""

    def whole(self, z):
        centres, variances = (jnp.asarray(a, jnp.float32) for a in (CENTRES, SD**2))
        squares = jnp.sum((z[None] - centres) ** 2, axis=1) / variances
        constants = jnp.asarray(np.log(WEIGHTS / (2 * np.pi * SD**2)), jnp.float32)
        return OFFSET - jax.nn.logsumexp(constants - squares / 2)


class Gaussian(Exact):
    """−log of N(mean, sd² I), but for its normaliser, plus a constant."""

    mean: float = 0.0
    sd: float = 0.3

    def whole(self, z):
        return jnp.sum((z - self.mean) ** 2) / (2 * self.sd**2) + OFFSET


@pytest.fixture(scope="module")
def population():
    return energies.anneal(jax.random.key(0), Mixture(), 4000)


def test_modes_that_no_chain_connects_get_their_shares(population):
    points = population.end
    share = float(jnp.mean(points[:, 0] < 0))
    # Resampling adds to the binomial error; twice it is measured over keys, hence 6 for 3 errors.
    assert abs(share - WEIGHTS[0]) < 6 * np.sqrt(WEIGHTS.prod() / len(points))


@pytest.mark.parametrize("mode", [0, 1])
def test_each_mode_has_its_shape(population, mode):
    points = np.asarray(population.end)
    mine = points[(points[:, 0] < 0) == (mode == 0)]
    white = (mine - CENTRES[mode]) / SD[mode]
    for axis in range(2):
        assert stats.kstest(white[:, axis], "norm").pvalue > 1e-3
    assert stats.kstest(np.sum(white**2, axis=1), "chi2", args=(2,)).pvalue > 1e-3


def test_moves_are_accepted_about_as_often_as_is_best(population):
    assert 0.4 < float(jnp.mean(population.accepted[-1])) < 0.8


def test_a_line_of_ancestors_ends_in_a_point_and_stays_in_its_mode(population):
    levels = energies.LEVELS + energies.SETTLING
    lines = np.asarray(energies.ancestry(population, levels + 1))
    np.testing.assert_array_equal(lines[-1], population.end)
    # At β = (3/4)², where no move crosses, everyone is in the mode of those who come from it: of
    # lines that mix up the indices a third would be in the other.
    late = lines[3 * energies.LEVELS // 4 :, :, 0] < 0
    assert np.all(late == late[-1])
    # The Gaussian draws from which all descend: as wide as the start, before any level.
    start = np.asarray(jax.random.normal(jax.random.split(jax.random.key(0))[0], lines[0].shape))
    drawn = {tuple(row) for row in (energies.SPREAD * start).tolist()}
    assert {tuple(row) for row in lines[0].tolist()} <= drawn


def test_langevin_leaves_the_law_unchanged_even_with_long_steps():
    """Metropolis makes any step exact: unadjusted, these would inflate the variance by a half."""
    key, n = jax.random.key(1), 4000

    start = 0.3 * jax.random.normal(key, (n, 2))
    step = jnp.asarray(0.5 * 0.09)
    start = energies.Walkers.at(Gaussian(), start)
    end, accepted = energies.langevin(jax.random.key(2), Gaussian(), start, 1.0, step, 50)
    assert 0.3 < float(jnp.mean(accepted)) < 0.95
    variance = np.asarray(end.points).var(axis=0)
    np.testing.assert_allclose(variance, 0.09, rtol=4 * np.sqrt(2 / n))


@pytest.mark.parametrize("dim", [1, 2])
def test_the_normaliser_is_the_integral(dim):
    exact = dim * np.log(0.2 * np.sqrt(2 * np.pi)) - OFFSET
    assert float(log_normaliser(Gaussian(dim, mean=1.0, sd=0.2))) == pytest.approx(exact, abs=1e-4)


def test_beyond_the_plane_there_are_samples_but_no_density():
    key = jax.random.key(0)
    networks = [NetworkEnergy(key, d, width=8, depth=1, count=0, scale=1.0) for d in (2, 3)]
    assert isinstance(energy_model(networks[0]), HasDensity)
    assert type(energy_model(networks[1])) is EnergyModel
    assert energy_model(networks[1]).sample(key, 5).shape == (5, 3)


def test_scores_and_energies_belong_together():
    network = NetworkEnergy(jax.random.key(0), 2, width=8, depth=1, count=2, scale=0.5)
    model = EnergyModel(Standardiser(jnp.array([1.0, 2.0]), jnp.array([2.0, 0.5])), network)
    x, h = jnp.array([0.3, 1.7]), 1e-2
    slopes = [(model.energy(x + h * e) - model.energy(x - h * e)) / (2 * h) for e in jnp.eye(2)]
    np.testing.assert_allclose(model.score(x), -jnp.stack(slopes), rtol=2e-3, atol=2e-3)
