"""The VAE's bounds and marginal against a linear Gaussian one, whose marginal is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer.families.vae import Autoencoder, PlanarVAEModel, VAEModel
from densitometer.models import Standardiser

A = jnp.array([[1.0, 0.3], [-0.5, 0.8]])
SHIFT = jnp.array([0.5, -1.0])
SD = 0.4
MARGINAL = np.asarray(A @ A.T + SD**2 * jnp.eye(2), np.float64)


class Linear(Autoencoder):
    """x = A z + b + s n, whose posterior is N(Σ Aᵀ(x − b)/s², Σ) with Σ = (I + AᵀA/s²)⁻¹."""

    error: float = eqx.field(static=True)

    def __init__(self, error=0.0):
        base = Autoencoder(jax.random.key(0), 2, dm.families.get("vae", width=2, depth=1))
        for field in ("encoder", "decoder", "latent", "count", "scale", "min_sd"):
            setattr(self, field, getattr(base, field))
        self.error = error

    def encode(self, x):
        covariance = jnp.linalg.inv(jnp.eye(2) + A.T @ A / SD**2)
        mean = covariance @ A.T @ (x - SHIFT) / SD**2
        return mean + self.error, jnp.linalg.cholesky(covariance) * (1 + self.error)

    def decode(self, z):
        return A @ z + SHIFT, jnp.log(jnp.asarray(SD))


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.multivariate_normal(SHIFT, MARGINAL, 200).astype(np.float32)


def bounds(model, points, k):
    keys = jax.random.split(jax.random.key(1), len(points))
    return np.asarray(jax.vmap(lambda key, x: model.log_prob_bound(key, x, k))(keys, points))


def test_with_the_exact_posterior_every_bound_is_the_marginal(points):
    model = VAEModel(Standardiser.identity(2), Linear())
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    for k in (1, 5):
        np.testing.assert_allclose(bounds(model, points, k), exact, atol=2e-4)


def test_a_wrong_posterior_lowers_the_bound_and_more_samples_raise_it(points):
    model = VAEModel(Standardiser.identity(2), Linear(error=0.3))
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    elbo, loose, tight = (bounds(model, points, k) for k in (1, 8, 200))
    # ELBO gap = KL(q‖posterior) = ½ e²·1ᵀΣ⁻¹1 + d(½((1+e)² − 1) − log(1+e)), Σ⁻¹ = I + AᵀA/s².
    e, ones = 0.3, np.ones(2)
    precision = np.eye(2) + np.asarray(A.T @ A) / SD**2
    gap = 0.5 * e**2 * ones @ precision @ ones + 2 * (0.5 * ((1 + e) ** 2 - 1) - np.log(1 + e))
    error = (exact - elbo).std() / np.sqrt(len(points))
    assert abs((exact - elbo).mean() - gap) < 4 * error
    assert elbo.mean() + 3 * error < loose.mean() < tight.mean() < exact.mean() + 3 * error
    assert (exact - tight).mean() < 0.05


def test_the_lattice_gives_the_exact_marginal(points):
    model = PlanarVAEModel(Standardiser.identity(2), Linear(error=5.0), nodes=120)
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    np.testing.assert_allclose(jax.vmap(model.log_prob)(points), exact, atol=1e-3)


def test_samples_are_from_the_prior_with_the_decoders_noise():
    n = 4000
    x = np.asarray(VAEModel(Standardiser.identity(2), Linear()).sample(jax.random.key(0), n))
    # A reconstruction, or a sample without noise, would miss s² = 0.16 of the variance.
    np.testing.assert_allclose(np.cov(x.T), MARGINAL, atol=4 * np.sqrt(2 / n) * MARGINAL.max())
    assert np.all(np.abs(x.mean(axis=0) - SHIFT) < 4 * np.sqrt(np.diag(MARGINAL) / n))


def test_the_loss_is_minus_the_bound_in_nats(points):
    family = dm.families.get("vae", importance_samples=1)
    got = family._negative_bound(Linear(), jax.random.key(0), jnp.asarray(points))
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    assert float(got) == pytest.approx(-exact.mean(), abs=1e-3)


def test_the_lattice_is_fine_enough_for_a_trained_model():
    """Doubling the resolution moves no log-density by more than the stated accuracy."""
    spiral = dm.targets.get("spiral")
    train, holdout = (np.asarray(spiral.sample(jax.random.key(s), 500)) for s in (0, 1))
    family = dm.families.get("vae", steps=200, width=32)
    model = dm.fit(family, train, holdout).model
    finer = PlanarVAEModel(model.standardiser, model.networks, nodes=2 * model.nodes)
    x = jnp.asarray(holdout[:50])
    coarse, fine = (np.asarray(jax.vmap(m.log_prob)(x)) for m in (model, finer))
    np.testing.assert_allclose(coarse, fine, atol=5e-3)


def test_a_larger_latent_has_a_bound_but_no_density():
    family = dm.families.get("vae", latent=3, width=8)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    assert type(family.model(state)) is VAEModel
