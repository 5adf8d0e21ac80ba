"""The continuous normalising flow against affine flows and Gaussian data, known in closed form."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer.blocks import odes
from densitometer.families import cnf
from densitometer.families.cnf import CNF, FlowModel, Velocity, negative_log_likelihood
from densitometer.models import Standardiser

MEAN = jnp.array([0.5, -1.0])
COVARIANCE = jnp.array([[1.0, 0.6], [0.6, 0.5]])
EIGENVALUES, AXES = map(jnp.asarray, np.linalg.eigh(COVARIANCE))

FAMILY = CNF(width=16, depth=2)
A = 1 - FAMILY.sigma_min


class Affine(Velocity):
    """v = M z + b carries N(0, I) to N(c, S): c = M⁻¹ (e^M − I) b, S = e^M (e^M)ᵀ."""

    matrix: jax.Array
    shift: jax.Array

    def __call__(self, z, t):
        return self.matrix @ z + self.shift

    def law(self):
        grown = jax.scipy.linalg.expm(self.matrix)
        mean = jnp.linalg.solve(self.matrix, (grown - jnp.eye(2)) @ self.shift)
        return mean, grown @ grown.T


AFFINE = Affine(jnp.array([[0.3, 0.9], [-0.4, -0.6]]), jnp.array([1.0, -0.5]))


class Optimal(Velocity):
    """E[x₁ − a x₀ | x_t] for x₁ ~ N(m, C): m + (t C − a n I) (t² C + n² I)⁻¹ (z − t m).

    Here n = 1 − a t. In the axes of C the matrix is a factor for each eigenvalue c.
    """

    factor: float = 1.0

    def __call__(self, z, t):
        noise = 1 - A * t
        slope = (t * EIGENVALUES - A * noise) / (t**2 * EIGENVALUES + noise**2)
        return self.factor * (MEAN + AXES @ (slope * (AXES.T @ (z - t * MEAN))))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, 4000), jnp.float32)


def model(velocity):
    return FlowModel(Standardiser.identity(2), velocity, FAMILY.sigma_min)


def test_the_density_of_an_affine_flow_is_the_gaussian_it_makes():
    mean, covariance = map(np.asarray, AFFINE.law())
    x = np.random.default_rng(1).multivariate_normal(mean, covariance, 100).astype(np.float32)
    x = np.concatenate([x, mean + 3 * (x - mean)])  # tails too
    exact = toy.gaussian_log_prob(x, mean, covariance)
    got = jax.vmap(model(AFFINE).log_prob)(jnp.asarray(x))
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-3)


def test_the_samples_of_an_affine_flow_are_of_the_gaussian_it_makes():
    mean, covariance = map(np.asarray, AFFINE.law())
    n = 4000
    x = np.asarray(model(AFFINE).sample(jax.random.key(0), n))
    assert np.all(np.abs(x.mean(axis=0) - mean) < 4 * np.sqrt(np.diag(covariance) / n))
    error = np.sqrt((np.outer(*[np.diag(covariance)] * 2) + covariance**2) / n)
    assert np.all(np.abs(np.cov(x.T) - covariance) < 4 * error)


def test_the_gradient_of_the_likelihood_is_that_of_the_closed_form(data):
    batch = data[:200]

    def exact(velocity):
        mean, covariance = velocity.law()
        white = jnp.linalg.solve(jnp.linalg.cholesky(covariance), (batch - mean[None]).T)
        log_det = jnp.linalg.slogdet(2 * jnp.pi * covariance)[1]
        return 0.5 * jnp.mean(jnp.sum(white**2, axis=0)) + 0.5 * log_det

    value, gradient = eqx.filter_value_and_grad(exact)(AFFINE)
    gradient_of = jax.jit(jax.value_and_grad(negative_log_likelihood), static_argnums=2)
    got, got_gradient = gradient_of(AFFINE, batch, FAMILY.tolerance)
    assert float(got) == pytest.approx(float(value), rel=1e-2)
    for one, other in zip(jax.tree.leaves(got_gradient), jax.tree.leaves(gradient), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-2 * float(jnp.max(jnp.abs(other))))


def matching_losses(velocity, data, draws=20):
    keys = jax.random.split(jax.random.key(0), draws)
    return np.asarray(jax.lax.map(lambda k: FAMILY._matching_loss(velocity, k, data), keys))


def test_the_matching_loss_of_the_optimal_velocity_is_the_variance_that_is_left(data):
    # Var(x₁ − a x₀ | x_t) = c + a² − (t c − a n)² / (t² c + n²) = c / (t² c + n²), as n + a t = 1.
    # The clock s has density ∝ S − s, so (1 − s / S)² is uniform.
    uniform = (np.arange(4000) + 0.5) / 4000
    noise = FAMILY.sigma_min ** (1 - np.sqrt(uniform))
    t = (1 - noise) / A
    eigenvalues = np.linalg.eigvalsh(np.asarray(COVARIANCE, np.float64))
    expected = np.mean([c / (t**2 * c + noise**2) for c in eigenvalues])
    got = matching_losses(Optimal(), data)
    assert abs(got.mean() - expected) < 4 * got.std() / np.sqrt(len(got)) + 2e-3


def test_the_optimal_velocity_is_the_minimum_and_its_negative_is_not(data):
    least = matching_losses(Optimal(), data).mean()
    for factor in (0.9, 1.1, 0.5):
        assert matching_losses(Optimal(factor), data).mean() > least + 1e-3
    assert matching_losses(Optimal(-1.0), data).mean() > least + 1


def test_the_flow_of_the_optimal_velocity_is_the_data_at_the_least_noise():
    law = np.asarray(COVARIANCE) + FAMILY.sigma_min**2 * np.eye(2)
    x = np.random.default_rng(1).multivariate_normal(MEAN, law, 100).astype(np.float32)
    exact = toy.gaussian_log_prob(x, np.asarray(MEAN), law)
    got = jax.vmap(model(Optimal()).log_prob)(jnp.asarray(x))
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=2e-3)


@pytest.fixture(scope="module")
def network():
    """A field of random weights, loud enough that its flow is no Gaussian's."""
    network = FAMILY.init(jax.random.key(0), jnp.zeros((3, 2))).network
    return eqx.tree_at(lambda n: n.mlp.weights[-1], network, network.mlp.weights[-1] * 15)


def test_a_silent_network_carries_the_standard_gaussian_to_itself(network):
    """…widened by the noise that is left: the least squares for Gaussian data, known beforehand."""
    silent = eqx.tree_at(lambda n: n.mlp.weights[-1], network, network.mlp.weights[-1] * 0)
    x = jnp.asarray(toy.gaussian(0, 50))
    exact = toy.gaussian_log_prob(np.asarray(x), np.zeros(2), (1 + FAMILY.sigma_min**2) * np.eye(2))
    np.testing.assert_allclose(jax.vmap(model(silent).log_prob)(x), exact, rtol=1e-4, atol=1e-3)


def test_the_density_of_random_weights_integrates_to_one_and_the_loss_is_its_mean(network, data):
    axis = jnp.linspace(-6, 6, 97)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    points = jnp.concatenate([data[:500], grid])
    log_q = np.asarray(dm.models.batched(model(network).log_prob, points), np.float64)
    assert np.exp(log_q[500:]).sum() * 0.125**2 == pytest.approx(1, abs=2e-3)
    plain = toy.gaussian_log_prob(np.asarray(points), np.zeros(2), np.eye(2))
    assert np.abs(log_q - plain).max() > 1
    # The curves are solved more loosely.
    state = dataclasses.replace(FAMILY.init(jax.random.key(0), data), averaged=network)
    loss = float(FAMILY.loss(jax.random.key(0), state, data[:500]))
    loose = jax.vmap(lambda z: model(network)._log_density(z, cnf.CURVE_STEP))(data[:500])
    assert loss == pytest.approx(-float(loose.mean()), rel=1e-5)
    assert loss == pytest.approx(-log_q[:500].mean(), abs=2e-2)


def test_a_path_begins_in_noise_ends_in_the_sample(network):
    flow = model(network)
    key = jax.random.key(0)
    path = np.asarray(flow.path(key, 400, 5))
    keys = jax.random.split(key, 400)
    noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys))
    np.testing.assert_allclose(path[0], noise, atol=1e-5)
    np.testing.assert_allclose(path[-1], flow.sample(key, 400), atol=2e-3)


def test_evaluations_are_reported(network):
    flow = model(network)
    told = flow.diagnostics(jax.random.key(0), 20)["nfe"]
    _, steps = flow._log_time_grid(cnf.SAMPLE_STEP)
    np.testing.assert_array_equal(told, np.full(20, 6 * steps + 1))


def test_likelihood_follows_matching_and_climbs(data):
    """Four steps of matching, then 36 of likelihood."""
    family = dataclasses.replace(
        FAMILY, objective="both", steps=40, likelihood_share=0.9, likelihood_rate=1e-2
    )
    step = jax.jit(family.step)
    states = [family.init(jax.random.key(0), data)]
    for t in range(40):
        states.append(step(jax.random.key(t), states[-1], data[100 * t :][:64])[0])
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    start, matched, end = states[0], states[4], states[-1]
    assert same(matched.likelihood, start.likelihood)
    assert not same(matched.matching, states[3].matching)
    assert not same(states[5].likelihood, matched.likelihood)
    assert same((end.matching, end.network), (matched.matching, matched.network))
    before, after = (float(family.loss(jax.random.key(0), s, data[:500])) for s in (matched, end))
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.asarray(COVARIANCE))[1]
    assert before - entropy > 0.5
    assert after - entropy < 0.5 * (before - entropy)


def test_a_solver_that_gives_up_is_a_recorded_divergence(monkeypatch):
    monkeypatch.setattr(odes, "MAX_STEPS", 3)
    family = dataclasses.replace(
        FAMILY, objective="likelihood", steps=20, batch_size=32, tolerance=1e-6
    )
    fit = dm.fit(family, toy.gaussian(0, 100), toy.gaussian(1, 50))
    assert fit.diverged_at == 1
    assert np.isnan(fit.curves["step_loss"]).all()
