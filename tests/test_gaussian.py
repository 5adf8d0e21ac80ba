"""Gaussians and their mixtures against SciPy, and against the mixtures that points come from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from densitometer.gaussian import RIDGE, Mixture, converged, fit_mixture, log_normal

WEIGHTS = np.array([0.5, 0.3, 0.2])
MEANS = np.array([[-1.5, 0.0], [1.0, 1.0], [0.8, -1.2]])
FACTORS = np.array([[[0.3, 0], [0.2, 0.1]], [[0.5, 0], [0, 0.2]], [[0.2, 0], [-0.1, 0.3]]])
COVARIANCES = FACTORS @ np.swapaxes(FACTORS, 1, 2)


@pytest.fixture(scope="module")
def mixture():
    return Mixture(*(jnp.asarray(a, jnp.float32) for a in (np.log(WEIGHTS), MEANS, FACTORS)))


def draws(n):
    rng = np.random.default_rng(0)
    which = rng.choice(3, n, p=WEIGHTS)
    return MEANS[which] + np.einsum("nij,nj->ni", FACTORS[which], rng.standard_normal((n, 2)))


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_a_standard_gaussian_is_scipys(dim):
    z = np.linspace(-2, 3, dim).astype(np.float32)
    assert float(log_normal(jnp.asarray(z))) == pytest.approx(
        multivariate_normal(np.zeros(dim)).logpdf(z), rel=1e-6
    )


def test_a_mixture_is_the_sum_of_its_components(mixture):
    x = np.random.default_rng(1).normal(size=(50, 2)).astype(np.float32)
    joint = np.stack(
        [
            np.log(w) + multivariate_normal(m, c).logpdf(x)
            for w, m, c in zip(WEIGHTS, MEANS, COVARIANCES, strict=True)
        ],
        axis=1,
    )
    got = jax.vmap(mixture.log_joint)(jnp.asarray(x))
    np.testing.assert_allclose(got, joint, rtol=1e-4, atol=1e-4)
    log_prob = jax.vmap(mixture.log_prob)(jnp.asarray(x))
    np.testing.assert_allclose(log_prob, np.logaddexp.reduce(joint, axis=1), rtol=1e-4, atol=1e-4)


def test_the_draws_of_a_mixture_follow_it(mixture):
    n = 20_000
    x = np.asarray(jax.vmap(mixture.draw)(jax.random.split(jax.random.key(0), n)))
    mean = WEIGHTS @ MEANS
    between = MEANS - mean
    covariance = np.einsum("k,kij->ij", WEIGHTS, COVARIANCES)
    covariance += np.einsum("k,ki,kj->ij", WEIGHTS, between, between)
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4 * sd / np.sqrt(n))
    assert np.all(np.abs(np.cov(x.T) - covariance) < 4 * np.outer(sd, sd) * np.sqrt(2 / n))


def quickly(data):
    x = jnp.asarray(data, jnp.float32)
    return fit_mixture(jax.random.key(0), x, 3, iterations=100, floor=0.03)


@pytest.mark.parametrize("fit", [quickly, lambda data: converged(data, 3).mixture()])
def test_expectation_maximisation_finds_a_mixture(fit):
    n = 4000
    found = fit(draws(n))
    order = [int(np.argmin(np.sum((np.asarray(found.means) - m) ** 2, axis=1))) for m in MEANS]
    assert sorted(order) == [0, 1, 2]
    counts = n * WEIGHTS
    error = np.sqrt(WEIGHTS * (1 - WEIGHTS) / n)
    assert np.all(np.abs(np.exp(found.log_weights)[order] - WEIGHTS) < 4 * error)
    got = found.factors[jnp.asarray(order)]
    got = np.asarray(got @ jnp.swapaxes(got, 1, 2))
    for k in range(3):
        sd = np.sqrt(np.diag(COVARIANCES[k]))
        assert np.all(np.abs(found.means[order[k]] - MEANS[k]) < 4 * sd / np.sqrt(counts[k]))
        scale = np.outer(sd, sd) * np.sqrt(2 / counts[k])
        assert np.all(np.abs(got[k] - COVARIANCES[k]) < 4 * scale + 0.03**2)


def test_a_converged_mixture_is_the_sum_of_its_components():
    data = 100 + draws(500)
    found = converged(data, 2)
    covariances = found.factors @ np.swapaxes(found.factors, 1, 2)
    components = zip(found.weights, found.means, covariances, strict=True)
    density = sum(w * multivariate_normal(m, c).pdf(data) for w, m, c in components)
    np.testing.assert_allclose(found.log_prob(data), np.log(density), rtol=1e-9, atol=1e-9)
    in_float32 = jax.vmap(found.mixture().log_prob)(jnp.asarray(data, jnp.float32))
    np.testing.assert_allclose(in_float32, np.log(density), atol=2e-3)


def test_the_units_of_an_axis_change_the_density_by_the_jacobian_alone():
    data, units, origin = draws(600), np.array([1e6, 1e-3]), np.array([3e6, -2.0])
    there = units * data + origin
    expected = converged(data, 3).log_prob(data) - np.log(units).sum()
    np.testing.assert_allclose(converged(there, 3).log_prob(there), expected, atol=1e-6)


def test_a_component_on_repeated_points_has_the_variance_of_the_ridge():
    data = np.concatenate([draws(300), np.full((100, 2), 8.0)])
    found = converged(data, 2)
    alone = int(np.argmax(found.means[:, 0]))
    covariance = found.factors[alone] @ found.factors[alone].T
    np.testing.assert_allclose(covariance, np.diag(RIDGE * data.var(axis=0)), atol=1e-6)


def test_each_seed_is_a_start_of_its_own():
    data = draws(300)
    first, again, other = (converged(data, 7, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.means, again.means)
    assert not np.allclose(np.sort(first.means[:, 0]), np.sort(other.means[:, 0]), atol=1e-3)
