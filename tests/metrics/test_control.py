"""A control variate takes scatter away and leaves the mean and the stated error right."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer.estimates import EXACT, Estimate
from densitometer.metrics.control import controlled
from densitometer.metrics.density import KL, TrimmedKL, largest_share
from densitometer.models import HasDensity, Standardiser
from densitometer.scoring.evidence import Evidence

SCALE = 1.3


def log_densities(rng, n):
    """log p and log q at points of p = N(0, I), q = N(0, 1.3² I), in the plane."""
    square = np.sum(rng.normal(size=(n, 2)) ** 2, axis=1)
    log_p = -square / 2 - math.log(2 * math.pi)
    return log_p, -square / 2 / SCALE**2 - math.log(2 * math.pi) - 2 * math.log(SCALE)


def overlap():
    """∫ min(q, 2 p) of these: q is above 2 p beyond a radius, with s² = |x|²."""
    edge = 2 * math.log(2 * SCALE**2) / (1 - 1 / SCALE**2)
    return 1 - math.exp(-edge / 2 / SCALE**2) + 2 * math.exp(-edge / 2)


def test_an_interval_with_a_control_variate_holds_the_truth_nineteen_times_in_twenty():
    rng, repeats, truth = (
        np.random.default_rng(0),
        2000,
        2 * (math.log(SCALE) + 0.5 / SCALE**2 - 0.5),
    )
    known = Estimate(overlap(), 0.0, EXACT)
    found = [KL.of(*log_densities(rng, 500), EXACT, known) for _ in range(repeats)]
    values, errors = (np.array([e[i] for e in found], float) for i in (0, 1))
    hits = np.mean(np.abs(values - truth) < 1.96 * errors)
    assert hits == pytest.approx(0.95, abs=0.02)
    assert values.mean() == pytest.approx(truth, abs=4 * values.std() / math.sqrt(repeats))
    plain = KL.of(*log_densities(rng, 500), EXACT)
    assert errors.mean() < plain.stderr / 2.5


def test_the_slope_of_a_term_is_fitted_without_its_fold():
    """Terms 3 h in all folds but one come back as 0, and those of that one without the others'."""
    rng = np.random.default_rng(0)
    h = rng.normal(size=100)
    terms = 3 * h
    terms[::5] = 7.0
    left, slope = controlled(terms, h)
    np.testing.assert_allclose(left[::5], 7 - 3 * h[::5])
    assert slope != 0
    assert controlled(3 * h, h)[1] == pytest.approx(3)
    infinite = np.array([1.0, math.inf])
    assert controlled(infinite, np.zeros(2)) == (pytest.approx(infinite), 0.0)
    assert controlled(np.array([1.0, 2.0]), np.zeros(2))[1] == 0.0


class Wide(HasDensity):
    """A Gaussian about the middle of the mixture's circle."""

    standardiser: Standardiser

    density_provenance = EXACT

    def _sample(self, key):
        return jnp.zeros(2)

    def _log_prob(self, z):
        return -jnp.sum(z**2) / 2 - math.log(2 * math.pi)


def test_the_mean_of_the_control_variate_comes_from_a_quadrature():
    target = dm.targets.get("gaussian_mixture")
    evidence = Evidence.of_model(
        Wide(Standardiser.identity(2)), target, 0, n_test=4000, n_samples=10, n_grid=96
    )
    found = evidence.overlap
    assert found is not None
    ratio = np.minimum(np.exp(evidence.log_q.astype(float) - evidence.log_p), 2)
    error = ratio.std() / math.sqrt(len(ratio))
    assert found.value == pytest.approx(ratio.mean(), abs=4 * error)
    assert found.stderr < error / 10
    controlled_kl = KL()(evidence)
    plain = KL.of(evidence.log_p, evidence.log_q, EXACT)
    assert controlled_kl.stderr < plain.stderr
    assert controlled_kl.value != plain.value
    assert controlled_kl.value == pytest.approx(plain.value, abs=4 * plain.stderr)
    rough = dm.targets.get("checkerboard")
    assert Evidence(rough, 0, evidence.samples, evidence.model).overlap is None


def test_a_sum_that_hangs_on_one_point_is_flagged_and_trimmed():
    rng = np.random.default_rng(0)
    log_p = rng.normal(size=2000)
    log_q = log_p - 0.1
    assert KL.of(log_p, log_q, EXACT).provenance == EXACT
    log_q[7] -= 100
    flagged = KL.of(log_p, log_q, EXACT)
    assert str(flagged.provenance) == "exact(largest=0.33)"  # 100.1 of 300
    assert TrimmedKL.of(log_p, log_q, EXACT).value == pytest.approx(0.1)
    log_q[7] = -math.inf
    assert largest_share(log_p, log_q) == 1.0
    assert KL.of(log_p, log_q, EXACT).value == math.inf
    assert TrimmedKL.of(log_p, log_q, EXACT).value == pytest.approx(0.1)
    assert largest_share(log_p, log_p) == 0.0


def test_the_trimmed_divergence_is_there_where_it_is_needed():
    target = dm.targets.get("gaussian_mixture")
    evidence = Evidence.of_model(
        Wide(Standardiser.identity(2)), target, 0, n_test=200, n_samples=10, n_grid=10
    )
    assert TrimmedKL().absence(evidence) == "no single point makes more than a tenth of the sum"
    vars(evidence)["log_q"] = np.where(np.arange(200) == 3, np.float32(-1e4), evidence.log_q)
    assert TrimmedKL().absence(evidence) is None
    assert TrimmedKL().absence(Evidence(target, 0, evidence.samples)) == "the model has no density"
