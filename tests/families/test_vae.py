"""The VAE's bounds, gradients and marginal against linear Gaussian ones, whose laws are known."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from densitometer.blocks.nets import MLP
from densitometer.blocks.quadrature import Mixture, log_det, marginal
from densitometer.families import vae
from densitometer.families.vae import VAE, Autoencoder, Decoder, Encoder, VAEModel
from densitometer.gaussian import log_normal
from densitometer.models import Standardiser

A = jnp.array([[1.0, 0.3], [-0.5, 0.8]])
SHIFT = jnp.array([0.5, -1.0])
NOISE = jnp.array([[0.3, 0.0], [-0.2, 0.25]])
"""Cholesky factor of the decoder's covariance: correlated, so that a transposed W shows."""
COVARIANCE = NOISE @ NOISE.T
MARGINAL = np.asarray(A @ A.T + COVARIANCE, np.float64)
PRECISION = jnp.eye(2) + A.T @ jnp.linalg.inv(COVARIANCE) @ A
"""Of the posterior, whose mean is PRECISION⁻¹ Aᵀ Σ⁻¹ (x − SHIFT)."""


def affine(slope, constant):
    """A network without hidden layers."""
    mlp = MLP(jax.random.key(0), slope.shape[1], slope.shape[0], width=1, depth=0)
    return eqx.tree_at(lambda m: (m.weights[0], m.biases[0]), mlp, (slope, constant))


def encoder(error=0.0):
    """The exact posterior, or with mean and width that are wrong by so much."""
    slope = jnp.linalg.inv(PRECISION) @ A.T @ jnp.linalg.inv(COVARIANCE)
    factor = jnp.linalg.cholesky(jnp.linalg.inv(PRECISION)) * (1 + error)
    spread = jnp.append(jnp.log(jnp.diag(factor)) + 1.0, factor[1, 0])
    constant = jnp.concatenate([error - slope @ SHIFT, spread])
    return Encoder(affine(jnp.concatenate([slope, jnp.zeros((3, 2))]), constant), 2)


def decoder():
    """x = A z + SHIFT + NOISE n."""
    sd = jnp.diag(NOISE)
    spread = jnp.append(jnp.log(sd), NOISE[1, 0] / NOISE[0, 0])
    slope = jnp.concatenate([A, jnp.zeros((3, 2))])
    return Decoder(affine(slope, jnp.concatenate([SHIFT, spread])), 2, min_sd=1e-9)


def linear(error=0.0):
    return Autoencoder(encoder(error), decoder())


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    return rng.multivariate_normal(SHIFT, MARGINAL, 200).astype(np.float32)


def bounds(model, points, k):
    keys = jax.random.split(jax.random.key(1), len(points))
    bound = jax.jit(jax.vmap(lambda key, x: model.log_prob_bound(key, x, k)))
    return np.asarray(bound(keys, points))


def test_with_the_exact_posterior_every_bound_is_the_marginal(points):
    model = VAEModel(Standardiser.identity(2), linear())
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    for k in (1, 5):
        np.testing.assert_allclose(bounds(model, points, k), exact, atol=2e-4)


def test_a_wrong_posterior_lowers_the_bound_and_more_samples_raise_it(points):
    model = VAEModel(Standardiser.identity(2), linear(error=0.3))
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    elbo, loose, tight = (bounds(model, points, k) for k in (1, 8, 200))
    # ELBO gap = KL(q‖posterior) = ½ e²·1ᵀΣ⁻¹1 + d(½((1+e)² − 1) − log(1+e)).
    e, ones = 0.3, np.ones(2)
    gap = 0.5 * e**2 * ones @ np.asarray(PRECISION) @ ones
    gap += 2 * (0.5 * ((1 + e) ** 2 - 1) - np.log(1 + e))
    error = (exact - elbo).std() / np.sqrt(len(points))
    assert abs((exact - elbo).mean() - gap) < 4 * error
    assert elbo.mean() + 3 * error < loose.mean() < tight.mean() < exact.mean() + 3 * error
    assert (exact - tight).mean() < 0.05


def test_the_encoders_gradient_has_no_variance_where_it_is_exact(points):
    gradient = jax.jit(vae.gradient, static_argnums=3)
    for k in (1, 5):
        bound, ascent = gradient(linear(), jax.random.key(2), jnp.asarray(points), k)
        wrong = gradient(linear(error=0.3), jax.random.key(2), jnp.asarray(points), k)[1]
        largest = lambda tree: max(float(jnp.max(jnp.abs(a))) for a in jax.tree.leaves(tree))
        assert largest(ascent.encoder) < 1e-4 < 1e-1 < largest(wrong.encoder)
        exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL).mean()
        assert float(bound) == pytest.approx(exact, abs=1e-3)


def gradients(networks, batch, k, n):
    """n draws of the family's gradient and of the plain one of the same bound, a row a draw."""

    def plain(networks, key):
        keys = jax.random.split(key, len(batch))
        return jnp.mean(jax.vmap(lambda i, x: networks.bound(i, x, k))(keys, batch))

    flat = lambda tree: jnp.concatenate([a.ravel() for a in jax.tree.leaves(tree)])

    @jax.jit
    def draw(key):
        ours = vae.gradient(networks, key, batch, k)[1]
        theirs = jax.grad(plain)(networks, key)
        return [flat(part) for g in (ours, theirs) for part in (g.encoder, g.decoder)]

    keys = jax.random.split(jax.random.key(5), n)
    return [np.asarray(a, np.float64) for a in jax.lax.map(draw, keys, batch_size=1000)]


def test_the_gradient_is_that_of_the_bound_in_expectation_and_steadier_for_the_encoder():
    batch, k, n = jnp.array([[0.3, -1.0], [1.2, 0.7]]), 8, 10_000
    drawn = gradients(linear(error=0.3), batch, k, n)
    for ours, plain in zip(drawn[:2], drawn[2:], strict=True):
        error = np.sqrt((ours.var(axis=0) + plain.var(axis=0)) / n)
        assert np.abs((ours.mean(axis=0) - plain.mean(axis=0)) / error).max() < 4.5
        # The test has power: the gradient is many errors away from zero.
        assert np.median(np.abs(plain.mean(axis=0)) / error) > 5
    noise_to_signal = lambda g: np.sqrt(g.var(axis=0).sum()) / np.linalg.norm(g.mean(axis=0))
    assert 1.5 * noise_to_signal(drawn[0]) < noise_to_signal(drawn[2])


def test_the_marginal_of_a_linear_decoder_is_gaussian(points):
    got = jax.vmap(marginal(decoder()).log_prob)(points)
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    np.testing.assert_allclose(got, exact, atol=5e-3)
    assert abs(np.mean(got - exact)) < 3e-4


class Bent(Decoder):
    """Two arcs with a leap between them, and a noise that turns and swells."""

    def __call__(self, z):
        leap = jnp.where(z[0] > 0.5, 3.0, 0.0) + 2 * jnp.tanh(4 * (z[0] + 0.6))
        mean = jnp.stack([leap + 0.3 * z[0], jnp.sin(2 * z[1]) + 0.5 * z[0] ** 2])
        below = 0.8 * jnp.sin(z[1])
        regression = jnp.eye(2) - vae._below_diagonal(below[None], 2)
        return mean, regression / jnp.stack([0.1 + 0.02 * z[1] ** 2, 0.15 * jnp.exp(0.3 * z[0])])[
            :, None
        ]


def brute_force(decoder, points, nodes):
    """log ∫ N(z) p(x | z) dz by the midpoint rule on [−5, 5]²."""
    h = 10 / nodes
    axis = -5 + h * (jnp.arange(nodes, dtype=float) + 0.5)

    def term(x, z):
        return log_normal(z) + decoder.log_likelihood(x, z)

    def row(total, first):
        z = jnp.stack([jnp.full_like(axis, first), axis], axis=1)
        terms = jax.vmap(lambda x: jax.vmap(functools.partial(term, x))(z))(points)
        return jnp.logaddexp(total, jax.nn.logsumexp(terms, axis=1)), None

    total, _ = jax.lax.scan(row, jnp.full(len(points), -jnp.inf), axis)
    return total + 2 * jnp.log(h)


def test_the_marginal_of_a_bent_decoder_is_the_integral():
    bent = Bent(decoder().mlp, 2, min_sd=1e-9)
    model = VAEModel(Standardiser.identity(2), Autoencoder(encoder(), bent))
    points = model.sample(jax.random.key(6), 25)
    exact = np.asarray(jax.jit(lambda x: brute_force(bent, x, 800))(points))
    error = lambda *size: np.asarray(jax.vmap(marginal(bent, *size).log_prob)(points)) - exact
    adaptive = error()
    assert np.abs(adaptive).max() < 5e-3
    assert abs(adaptive.mean()) < 2e-4
    # Halving the cells where it matters is what makes it so: even ones do worse.
    assert np.abs(error(64, 1, 1)).std() > 3 * np.abs(adaptive).std()


def test_the_marginal_is_as_accurate_as_it_says_where_it_is_worst():
    """Among draws and points beside them, by how far a coarse one is from it."""
    bent = Bent(decoder().mlp, 2, min_sd=1e-9)
    draws = VAEModel(Standardiser.identity(2), Autoencoder(encoder(), bent)).sample(
        jax.random.key(6), 400
    )
    beside = draws + 0.7 * jax.random.normal(jax.random.key(7), draws.shape)
    points = jnp.concatenate([draws, beside])

    def log_density(*size):
        mixture = marginal(bent, *size)
        return np.asarray(jax.lax.map(mixture.log_prob, points, batch_size=100))

    fine, coarse = log_density(), log_density(64, 1, 1)
    worst = np.argsort(np.where(fine > -8, np.abs(fine - coarse), 0.0))[-40:]
    exact = np.asarray(jax.jit(lambda x: brute_force(bent, x, 800))(points[worst]))
    error = np.abs(fine[worst] - exact)
    assert np.sum(exact < -5) > 10
    assert error.max() < 0.1
    assert error[exact > -5].max() < 0.05
    assert np.abs(coarse[worst] - exact).max() > 0.3


def test_the_marginal_integrates_to_one_however_coarse():
    for size in ((64, 1, 1), (64, 12, 1024)):
        mixture = marginal(Bent(decoder().mlp, 2, min_sd=1e-9), *size)
        weights = np.exp(mixture.log_scales - jax.vmap(log_det)(mixture.whiteners))
        assert len(weights) == size[0] ** 2 + size[1] * size[2]
        assert np.all(weights > 0)
        assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_a_mixture_in_three_dimensions():
    rng = np.random.default_rng(7)
    means, factors = rng.normal(size=(4, 3)), np.tril(rng.normal(size=(4, 3, 3))) + 2 * np.eye(3)
    factors = np.tril(np.abs(factors))
    x, parts = rng.normal(size=3), []
    for mean, factor in zip(means, factors, strict=True):
        parts.append(toy.gaussian_log_prob(x[None], mean, np.linalg.inv(factor.T @ factor))[0])
    log_scales = np.log(0.25) + np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
    arrays = (jnp.asarray(a, jnp.float32) for a in (means, factors, log_scales))
    got = Mixture(*arrays).log_prob(jnp.asarray(x, jnp.float32))
    assert float(got) == pytest.approx(np.log(0.25 * np.exp(parts).sum()), abs=1e-4)


def test_samples_are_from_the_prior_with_the_decoders_noise():
    n = 60_000  # enough to tell Σ = N Nᵀ from Nᵀ N, which differ by 0.04
    x = np.asarray(VAEModel(Standardiser.identity(2), linear()).sample(jax.random.key(0), n))
    variances = np.diag(MARGINAL)
    error = np.sqrt((np.outer(variances, variances) + MARGINAL**2) / n)
    # A reconstruction, or a sample without noise, would miss about 0.1 of each variance.
    assert np.all(np.abs(np.cov(x.T) - MARGINAL) < 4 * error)
    assert np.all(np.abs(x.mean(axis=0) - SHIFT) < 4 * np.sqrt(np.diag(MARGINAL) / n))


def test_the_loss_is_minus_the_bound_in_nats(points):
    family = VAE(importance_samples=1)
    state = vae.VAEState(linear(), linear(), ())
    got = family.loss(jax.random.key(0), state, jnp.asarray(points))
    exact = toy.gaussian_log_prob(points, np.asarray(SHIFT), MARGINAL)
    assert float(got) == pytest.approx(-exact.mean(), abs=1e-3)


def test_untrained_networks_have_a_finite_gradient():
    family, data = VAE(), jax.random.normal(jax.random.key(8), (128, 2))

    @jax.jit
    def largest(key):
        networks = family.init(key, data).networks
        bound, ascent = vae.gradient(networks, key, data, 8)
        return jnp.stack([jnp.abs(bound), *(jnp.max(jnp.abs(a)) for a in jax.tree.leaves(ascent))])

    found = jax.lax.map(largest, jax.random.split(jax.random.key(9), 100))
    assert np.all(np.asarray(found) < 1e7)


def test_the_noise_has_a_floor():
    steep = affine(jnp.zeros((5, 2)), jnp.full(5, -40.0))
    _, whitener = Decoder(steep, 2, min_sd=0.1)(jnp.zeros(2))
    np.testing.assert_allclose(jnp.diag(whitener), 10.0, rtol=1e-5)


def test_the_sum_of_the_marginal_is_no_parameter():
    assert vae.PlanarVAEModel.derived == ("standardiser", "marginal")


def test_a_larger_latent_has_a_bound_but_no_density():
    family = VAE(latent=3, width=8)
    state = family.init(jax.random.key(0), jnp.zeros((3, 2)))
    assert type(family.model(state)) is VAEModel
