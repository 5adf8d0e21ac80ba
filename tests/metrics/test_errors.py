"""The stated standard error of every metric is the scatter of repeats.

With few and small samples of one target: chance is a half.
"""

import math
from collections import defaultdict
from typing import Any

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

import densitometer as dm
from densitometer import metrics
from densitometer.estimates import EXACT
from densitometer.metrics import density, faults, kde
from densitometer.metrics.base import binomial, error_by_halves, error_by_parts
from densitometer.metrics.own_samples import ReverseKL
from densitometer.metrics.rows import Duplicates
from densitometer.metrics.scores import FisherDivergence
from densitometer.metrics.support import OffSupport
from densitometer.metrics.transport import W2, SlicedW2
from densitometer.scoring.evidence import Evidence

REPEATS = 32
CHANCE = 4 / math.sqrt(2 * REPEATS)
"""Four standard errors of a standard deviation, relative to it."""


OF_DENSITIES: dict[str, Any] = {
    "kl": density.KL.of,
    "jensen_shannon": density.JensenShannon.of,
    "total_variation": density.TotalVariation.of,
    "hellinger": density.Hellinger.of,
    "bhattacharyya_exact": density.BhattacharyyaExact.of,
}


def root_mean_square(values):
    return math.sqrt(np.mean(np.square(values)))


def check(found, chance=CHANCE):
    for name, estimates in found.items():
        values, errors = np.array(estimates).T
        stated = root_mean_square(errors) / values.std(ddof=1)
        assert 1 / (1 + chance) < stated < 1 + chance, name


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_stated_errors_of_metrics_on_samples_are_the_scatter_of_repeats(noise):
    target = dm.targets.get("gaussian_mixture")
    # counts that are nearly always 0 have no scatter; unexplained jumps where a fault is named
    left_out = {"duplicates", "rounding", "unexplained"}
    left_out |= {"off_support"} if noise == 0 else set()
    found = defaultdict(list)
    for seed in range(REPEATS):
        rng = np.random.default_rng(seed)
        samples = np.asarray(target.sample(jax.random.key(seed), 200))
        samples = samples + noise * rng.normal(size=samples.shape).astype(np.float32)
        evidence = Evidence(target, 1000 + seed, samples, n_test=500)
        for metric in metrics.every():
            if metric.name not in left_out and metric.absence(evidence) is None:
                found[metric.name].append(metric(evidence)[:2])
    on_samples = {m.name for m in metrics.every() if m.takes_samples} - {"memorised"}
    assert set(found) == on_samples - left_out
    check(found)


def test_stated_errors_of_shares_are_the_scatter_of_repeats():
    rng, repeats, found = np.random.default_rng(0), 400, defaultdict(list)
    for _ in range(repeats):
        found["off_support"].append(OffSupport.of(-rng.exponential(size=100), -2.0)[:2])
        points = rng.normal(size=(100, 2)) * (rng.random((100, 1)) > 0.1)
        found["duplicates"].append(Duplicates.of(points)[:2])
    check(found, 4 / math.sqrt(2 * repeats))


def test_stated_errors_of_wasserstein_distances_are_right_where_the_shares_of_modes_decide():
    """Seven of them on a circle: their potentials scatter no less in more points."""
    rng, n, repeats, found = np.random.default_rng(0), 40, 200, defaultdict(list)
    angles = 2 * np.pi * np.arange(7) / 7
    centres = 10 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    draw = lambda: centres[rng.integers(7, size=n)] + 0.3 * rng.normal(size=(n, 2))
    for _ in range(repeats):
        x, y = draw(), draw()
        for metric in (W2, SlicedW2):
            found[metric.name].append(metric.of(x, y)[:2])
    check(found, 4 / math.sqrt(2 * repeats))


def test_stated_errors_of_metrics_on_densities_are_the_scatter_of_repeats():
    """Of N(m, s² I) for N(0, I)."""
    rng, mean, sd, repeats = np.random.default_rng(0), np.array([0.5, 0.0]), 1.2, 400
    log_p = lambda x: -0.5 * np.sum(x**2, axis=1) - math.log(2 * math.pi)
    log_q = lambda x: log_p((x - mean) / sd) - 2 * math.log(sd)
    found = defaultdict(list)
    for _ in range(repeats):
        x = rng.normal(size=(300, 2))
        own = mean + sd * rng.normal(size=(300, 2))
        for name in OF_DENSITIES:
            found[name].append(OF_DENSITIES[name](log_p(x), log_q(x), EXACT)[:2])
        found["nll"].append(density.NLL.of(log_q(x), EXACT)[:2])
        found["reverse_kl"].append(ReverseKL.of(log_p(own), log_q(own), EXACT)[:2])
        scores = -x, (mean - x) / sd**2
        found["fisher_divergence"].append(FisherDivergence.of(scores[0], scores[1], EXACT)[:2])
    check(found, 4 / math.sqrt(2 * repeats))


def test_the_error_of_a_share_that_is_none_is_that_of_one():
    assert binomial(0.3, 100) == pytest.approx(math.sqrt(0.3 * 0.7 / 100))
    assert binomial(0.0, 100) == binomial(0.01, 100) > 0
    assert binomial(1.0, 100) == pytest.approx(binomial(0.99, 100))
    none = [OffSupport.of(np.zeros(100), -1.0), OffSupport.of(np.r_[np.zeros(99), -2.0], -1.0)]
    assert none[0].stderr == none[1].stderr


def test_the_error_by_halves_is_that_of_a_square():
    """(Σ xᵢ)²/n² of N(m, 1) has influences 2 x̄ xᵢ and variance 4 m²/n + 2/n²."""
    n, rng = 100, np.random.default_rng(0)
    for m in (0.0, 0.3):
        x = m + rng.normal(size=(4000, n))
        squares = 4 * x.mean(axis=1) ** 2, 4 * x[:, : n // 2].mean(axis=1) ** 2
        stated = error_by_halves(float(squares[0].mean()), float(squares[1].mean()), n)
        assert stated == pytest.approx(math.sqrt(4 * m**2 / n + 2 / n**2), rel=0.05)
    assert error_by_halves(1.0, 9.0, 1) == pytest.approx(math.sqrt(0.5))
    assert error_by_halves(1.0, 0.5, 1) == 1.0
    assert error_by_halves(1.0, 1.2, 1) == pytest.approx(math.sqrt(0.9))


def test_the_error_by_parts_is_that_of_a_square():
    """(Σ xᵢ)²/n² of N(m, 1), of which two parts have influences 2 x̄ xᵢ and 2 x̄′ xᵢ."""
    n, rng = 100, np.random.default_rng(0)
    for m in (0.0, 0.3):
        x = m + rng.normal(size=(4000, 2, n // 2))
        whole = np.mean(4 * x.mean(axis=(1, 2)) ** 2)
        shared = np.mean(4 * x.mean(axis=2).prod(axis=1))
        stated = error_by_parts(float(whole), float(shared), n)
        assert stated == pytest.approx(math.sqrt(4 * m**2 / n + 2 / n**2), rel=0.05)
    assert error_by_parts(1.0, -0.9, 1) == pytest.approx(0.5)
    assert error_by_parts(1.0, 1.2, 1) == 1.0


def test_the_influence_of_a_sample_on_a_kde_is_that_of_its_weight():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 2)) @ [[1.0, 0.5], [0.0, 1.0]], rng.normal(size=(1000, 2))
    factor = len(x) ** (-1 / 6)
    log_likelihood = lambda samples: kde._log_density(samples, y, factor)[0].mean()
    twice = [log_likelihood(np.append(x, x[i : i + 1], axis=0)) for i in range(40)]
    without = [log_likelihood(np.delete(x, i, axis=0)) for i in range(40)]
    slopes = len(x) / 2 * (np.array(twice) - without)
    found = kde._log_density(x, y, factor)[1][:40]
    assert np.corrcoef(slopes, found)[0, 1] > 0.98
    assert found.std() == pytest.approx(slopes.std(), rel=0.05)


def test_the_bumps_of_a_half_have_the_influences_that_they_have_alone():
    rng, factor = np.random.default_rng(0), 0.2
    x, y = kde._whitened(*[rng.normal(size=(400, 2))] * 2)[0], rng.normal(size=(1000, 2))

    def of_bumps(samples):
        bumps = np.exp(-0.5 * cdist(y, samples, "sqeuclidean") / factor**2)
        return len(samples) * (bumps / bumps.sum(axis=1)[:, None]).mean(axis=0)

    _, whole, in_half = kde._log_density(x, y, factor)
    widening = (whole - of_bumps(x))[:200]
    assert np.std(widening) > 0.1
    np.testing.assert_allclose(in_half, of_bumps(x[:200]) + widening, rtol=1e-3, atol=1e-4)


def test_the_error_of_a_length_is_that_of_a_mean_far_from_0_and_less_near_it():
    """‖N(0, s² I)‖ follows Rayleigh's distribution, of variance (2 − π/2) s²."""
    x = np.random.default_rng(0).normal(size=(400, 2))
    x = (x - x.mean(axis=0)) / x.std(axis=0, ddof=1)
    near, far = (faults._length_of_mean(x + np.array([shift, 0.0])) for shift in (0.0, 5.0))
    assert near.stderr == pytest.approx(math.sqrt(2 - math.pi / 2) / 20, rel=0.05)
    assert far.stderr == pytest.approx(1 / 20, rel=0.01)
