"""The energy-based model's objectives against laws whose optimum is known."""

from typing import cast

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy.spatial import KDTree

import toy
from densitometer import checkpoint, training
from densitometer.blocks.energies import POPULATION, SPREAD, Energy, log_normaliser
from densitometer.families.ebm import (
    EBM,
    PER_SAMPLE,
    Chains,
    EBMInfo,
    EBMModel,
    Proposal,
    contrast,
    log_normaliser_estimate,
    ranking_loss,
)
from densitometer.gaussian import Mixture
from densitometer.models import HasDensity, Standardiser

MEAN = np.array([0.5, -1.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 0.5]])
OFFSET = 3.0


class Quadratic(Energy):
    """E = aᵀz + ½ zᵀPz + c: all Gaussians, by their natural parameters."""

    linear: jax.Array
    precision: jax.Array
    dim: int = eqx.field(static=True, default=2)

    @classmethod
    def of(cls, mean=MEAN, covariance=COVARIANCE):
        precision = np.linalg.inv(covariance)
        linear = jnp.asarray(-precision @ mean, jnp.float32)
        return cls(linear=linear, precision=jnp.asarray(precision, jnp.float32))

    def tilt(self, z):
        whole = self.linear @ z + 0.5 * z @ (self.precision @ z) + OFFSET
        return whole - jnp.sum(z**2) / (2 * SPREAD**2)


class Pair(Energy):
    """−log of two unit-free bumps on the first axis; their weights and places are parameters."""

    logits: jax.Array
    centres: jax.Array
    dim: int = eqx.field(static=True, default=2)

    def tilt(self, z):
        squares = jnp.sum((z[None] - self.centres) ** 2, axis=1) / (2 * 0.3**2)
        return -jax.nn.logsumexp(self.logits - squares) - jnp.sum(z**2) / (2 * SPREAD**2)


def gaussian(n, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.multivariate_normal(MEAN, COVARIANCE, n), jnp.float32)


@pytest.fixture(scope="module")
def proposal():
    """Skewed, off centre and unlike the data, but covering them."""
    means = jnp.array([[0.2, -1.0], [1.0, -0.8]])
    factors = jnp.array([[[0.9, 0.0], [0.3, 0.5]], [[0.8, 0.0], [0.6, 0.4]]])
    return Proposal.widened(Mixture(jnp.log(jnp.array([0.7, 0.3])), means, factors), 0.1)


def test_the_proposal_integrates_to_one_and_its_draws_follow_it(proposal):
    axis = jnp.linspace(-12, 12, 241)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.vmap(proposal.log_prob)(grid), np.float64))
    assert density.sum() * 0.1**2 == pytest.approx(1, abs=1e-4)
    mean = density @ np.asarray(grid) * 0.1**2
    covariance = (np.asarray(grid).T * density) @ np.asarray(grid) * 0.1**2 - np.outer(mean, mean)
    n = 20_000
    draws = np.asarray(proposal.sample(jax.random.key(0), n))
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * sd / np.sqrt(n))
    # The wide share gives fat tails: fourth moments are up to three times a Gaussian's.
    assert np.all(np.abs(np.cov(draws.T) - covariance) < 4 * np.outer(sd, sd) * np.sqrt(6 / n))
    # In random order: the first half has the same mixture as the second.
    halves = draws.reshape(2, -1, 2).mean(axis=1)
    assert np.all(np.abs(halves[0] - halves[1]) < 4 * sd * np.sqrt(4 / n))


def test_a_path_leads_from_draws_of_the_proposal_to_the_samples(proposal):
    key = jax.random.key(3)
    model = EBMModel(Standardiser(jnp.array([1.0, 2.0]), jnp.ones(2)), Quadratic.of(), proposal)
    path = np.asarray(model.path(key, POPULATION, 9))
    # Programs may round differently, and a move is then accepted in one and not in the other.
    same = np.isclose(path[-1], model.sample(key, POPULATION), atol=1e-3).all(axis=1)
    assert same.mean() > 0.99
    assert np.all(path[-1] != path[0])
    draws = proposal.sample(jax.random.split(key, 3)[0], PER_SAMPLE * POPULATION)
    away, _ = KDTree(np.asarray(draws)).query(path[0] - np.array([1.0, 2.0]))
    assert away.max() < 1e-5


def test_the_normaliser_comes_from_the_proposal(proposal):
    energy = Quadratic.of()
    # ∫ exp(−aᵀz − ½zᵀPz − c) = √det(2πC) exp(½ mᵀPm − c)
    exact = 0.5 * np.linalg.slogdet(2 * np.pi * COVARIANCE)[1] - OFFSET
    exact += 0.5 * MEAN @ np.linalg.inv(COVARIANCE) @ MEAN
    keys = jax.random.split(jax.random.key(0), 50)
    got = jax.lax.map(
        lambda k: log_normaliser_estimate(energy, proposal, proposal.sample(k, 2000)), keys
    )
    got = np.asarray(got)
    assert got.std() < 0.05
    assert abs(got.mean() - exact) < 4 * got.std() / np.sqrt(50) + got.var()  # the log's bias


def test_the_ranking_loss_at_the_truth_is_the_divergence_from_the_proposal(proposal):
    """log q − log p, on average: what the proposal lacks; from above with the sign turned."""
    x = gaussian(4000)
    truth = toy.gaussian_log_prob(np.asarray(x), MEAN, COVARIANCE)
    exact = np.asarray(jax.vmap(proposal.log_prob)(x)) - truth
    got = np.asarray(
        jax.lax.map(
            lambda k: ranking_loss(Quadratic.of(), proposal, x, proposal.sample(k, 4000)),
            jax.random.split(jax.random.key(0), 10),
        )
    )
    assert np.mean(got) == pytest.approx(exact.mean(), abs=4 * np.std(got) / np.sqrt(10) + 1e-3)
    assert np.mean(got) < -0.1


def test_the_minimum_of_the_ranking_loss_is_the_truth(proposal):
    """With few negatives too: no bias goes with K. The estimates err as statistics says."""
    batches, size, few = 100, 200, 5
    x = gaussian(batches * size, seed=1).reshape(batches, size, 2)
    draws = proposal.sample(jax.random.key(1), batches * size * few)
    draws = draws.reshape(batches, size, few, 2)
    flat, rebuild = jax.flatten_util.ravel_pytree(Quadratic.of())

    def one(theta, point, negatives):
        return ranking_loss(rebuild(theta), proposal, point[None], negatives)

    def batch_loss(theta, points, negatives):
        return jnp.mean(jax.vmap(one, in_axes=(None, 0, 0))(theta, points, negatives))

    @jax.jit
    def whole(theta):
        return jnp.mean(jax.lax.map(lambda b: batch_loss(theta, *b), (x, draws)))

    slopes = jax.jit(jax.grad(whole))
    hessian = np.asarray(jax.jit(jax.jacfwd(jax.grad(whole)))(flat), np.float64)
    each = jax.jit(lambda t: jax.lax.map(lambda b: jax.grad(batch_loss)(t, *b), (x, draws)))(flat)
    # The minimum's covariance is H⁻¹ S H⁻¹, with S that of the mean gradient (Huber, 1967).
    spread = np.cov(np.asarray(each, np.float64).T) / batches
    inverse = np.linalg.pinv(hessian, rcond=1e-4)  # P₀₁ and P₁₀ count twice
    error = np.sqrt(np.diag(inverse @ spread @ inverse))
    found = optimize.minimize(
        lambda t: float(whole(jnp.asarray(t, jnp.float32))),
        np.zeros(6) + 0.1 * np.array([0, 0, 1, 0, 0, 1]),
        jac=lambda t: np.asarray(slopes(jnp.asarray(t, jnp.float32)), np.float64),
        method="BFGS",
        options={"gtol": 1e-4},
    )
    assert np.all(np.abs(found.x - np.asarray(flat)) < 4.5 * error + 5e-3)
    assert np.all(error < 0.15)


@pytest.fixture(scope="module")
def pcd():
    return EBM(objective="pcd", width=32, depth=2, steps=600, batch_size=128, negatives=256)


def test_the_chains_give_the_gradient_of_the_likelihood(pcd):
    """From a start in one mode only; the exact gradient is that of mean E + log ∫ exp(−E)."""
    logits, centres = jnp.log(jnp.array([0.25, 0.75])), jnp.array([[-1.5, 0.0], [1.2, 0.3]])
    energy = Pair(logits=logits, centres=centres)
    rng = np.random.default_rng(0)
    batch = jnp.asarray(rng.normal([0.6, -0.4], 0.7, (200, 2)), jnp.float32)
    flat, rebuild = jax.flatten_util.ravel_pytree(energy)

    def exact(theta):
        pair = rebuild(theta)
        return jnp.mean(jax.vmap(pair)(batch)) + log_normaliser(pair, 160)

    # A proposal that covers both modes, in the wrong shares.
    means = jnp.array([[-1.3, 0.2], [1.0, 0.0]])
    proposal = Proposal(jnp.log(jnp.full(2, 0.5)), means, jnp.stack([0.5 * jnp.eye(2)] * 2))
    n, moves = 2000, 120
    start = Chains(jnp.full((n, 2), -1.5), jnp.asarray(0.05))

    def move(chains, key):
        chains, *shares = pcd._move(key, energy, proposal, chains)
        slope = jax.grad(lambda t: contrast(rebuild(t), batch, chains.points))(flat)
        return chains, (slope, *shares)

    _, (slopes, acceptance, jumps) = jax.lax.scan(
        move, start, jax.random.split(jax.random.key(0), moves)
    )
    kept = np.asarray(slopes)[20:].reshape(10, -1, len(flat)).mean(axis=1)
    error = kept.std(axis=0, ddof=1) / np.sqrt(10)
    wanted = np.asarray(jax.grad(exact)(flat))
    assert np.linalg.norm(wanted) > 50 * np.linalg.norm(error)
    assert np.all(np.abs(kept.mean(axis=0) - wanted) < 5 * error + 1e-3)
    assert float(jnp.mean(acceptance[20:])) == pytest.approx(0.6, abs=0.05)
    assert 0.2 < float(jnp.mean(jumps[20:])) < 0.95


def test_contrastive_divergence_trains_stably_and_weighs_modes(pcd, tmp_path):
    """Two modes of unequal weight that no short move connects."""
    rng = np.random.default_rng(0)
    n = 2000
    left = rng.random(n) < 0.8
    raw = np.where(left[:, None], [-1.0, 0.0], [2.0, 0.5]) + 0.15 * rng.standard_normal((n, 2))
    raw = jnp.asarray(raw, jnp.float32)
    data = Standardiser.from_data(raw).forward(raw)
    state = training._init(pcd, jax.random.key(0), data)
    state, scanned = training._scan(pcd, pcd.steps, jax.random.key(0), state, jnp.asarray(0), data)
    assert all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(state))
    info = cast(EBMInfo, scanned)
    assert info.acceptance is not None
    assert info.jumps is not None
    assert 0.4 < info.acceptance < 0.8
    assert 0.1 < info.jumps < 1
    # The exact law, on a lattice: its weights, and what it loses to the true one.
    model = pcd.model(state)
    got = np.asarray(jax.vmap(model.log_prob)(data), np.float64)
    log_scale = float(jnp.sum(jnp.log(jnp.std(raw, axis=0))))
    spread = np.array([[0.15**2, 0], [0, 0.15**2]])
    modes = [
        toy.gaussian_log_prob(np.asarray(raw), m, spread) for m in np.array([[-1.0, 0], [2.0, 0.5]])
    ]
    true = np.logaddexp(np.log(0.8) + modes[0], np.log(0.2) + modes[1]) + log_scale
    assert abs(np.mean(true - got)) < 0.08
    axis = jnp.linspace(-5, 5, 401)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.vmap(model.log_prob)(grid)))
    middle = float((0.5 - jnp.mean(raw[:, 0])) / jnp.std(raw[:, 0]))
    share = density[np.asarray(grid)[:, 0] < middle].sum() / density.sum()
    assert abs(share - left.mean()) < 0.03
    # Chains are part of the state: it comes back from its file.
    content = checkpoint.encode_run(state, {"family": "ebm"})
    back = checkpoint.decode_run(content, {"family": "ebm"}, lambda _: state)
    assert np.array_equal(back.chains.points, state.chains.points)
    assert float(back.chains.step) == float(state.chains.step)


@pytest.mark.parametrize("objective", ["nce", "pcd"])
def test_the_curves_show_the_negative_log_likelihood(objective):
    family = EBM(objective=objective, width=16, depth=2, negatives=64)
    data = gaussian(400)
    data = (data - data.mean(axis=0, keepdims=True)) / data.std(axis=0, keepdims=True)
    state = training._init(family, jax.random.key(0), data)
    last = state.averaged.mlp.weights[-1]
    state = eqx.tree_at(lambda s: s.averaged.mlp.weights[-1], state, 10 * last)
    model = family.model(state)
    assert isinstance(model, HasDensity)
    exact = -jnp.mean(jax.vmap(model.log_prob)(data))
    keys = jax.random.split(jax.random.key(1), 8)
    got = np.asarray(jax.lax.map(lambda k: family.loss(k, state, data), keys))
    assert np.std(got) < 0.02
    assert np.mean(got) == pytest.approx(float(exact), abs=4 * np.std(got) / np.sqrt(8) + 1e-3)


@pytest.mark.parametrize(
    ("objective", "columns"),
    [("nce", ["step_loss"]), ("pcd", ["step_acceptance", "step_jumps", "step_loss"])],
)
def test_only_chains_report_what_was_accepted(objective, columns):
    family = EBM(objective=objective, width=4, depth=1, negatives=16, components=2)
    data, key = gaussian(50), jax.random.key(0)
    _, shapes = jax.eval_shape(lambda: family.step(key, family.init(key, data), data))
    info = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    assert list(info.columns()) == columns
