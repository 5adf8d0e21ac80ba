"""Every metric against a closed form, an independent oracle, or the rate it must have."""

import math

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import multivariate_normal, norm
from sklearn.model_selection import GridSearchCV, LeaveOneOut
from sklearn.neighbors import KernelDensity

import toy
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.metrics import bounds, density, kde, modes, overlap, own_samples, support
from densitometer.metrics.grids import Grid, GridDensity
from densitometer.scoring import consistency

BOX = ((-8.0, -8.0), (8.0, 8.0))


def normal(mean, sd, points):
    return multivariate_normal(mean, np.square(sd) * np.eye(2)).logpdf(points)


# --- with densities


def test_a_grid_is_looked_at_closely_only_where_there_is_something():
    grid = Grid.over(((-4.0, -4.0), (4.0, 4.0)), 65, 0.0)
    looked = []

    def log_q(points):  # two narrow bumps, one a thousandth of the other
        looked.append(len(points))
        squares = [np.sum((points - c) ** 2, axis=1) / (2 * 0.15**2) for c in (-1.03, 2.21)]
        return np.logaddexp(-squares[0], math.log(1e-3) - squares[1])

    got = grid.evaluate(log_q)
    full = log_q(grid.points).reshape(65, 65)
    there = full > full.max() - 9
    np.testing.assert_array_equal(got[there], full[there])
    assert abs(np.exp(got).sum() - np.exp(full).sum()) < 1e-4 * np.exp(full).sum()
    assert sum(looked[:-1]) < 0.5 * looked[-1]
    assert np.isnan(grid.evaluate(lambda points: np.full(len(points), np.nan))).all()


def test_kl_of_two_gaussians():
    # KL(N(0, I) ‖ N(m, s² I)) = |m|²/(2s²) + d (1/(2s²) − 1/2 + log s)
    x = np.random.default_rng(0).normal(size=(20_000, 2))
    mean, sd = np.array([0.3, -0.5]), 1.4
    expected = mean @ mean / (2 * sd**2) + 2 * (1 / (2 * sd**2) - 0.5 + math.log(sd))
    got = density.KL.of(normal([0, 0], 1, x), normal(mean, sd, x), EXACT)
    assert abs(got.value - expected) < 4 * got.stderr
    assert got.stderr < 0.01
    swapped = density.KL.of(normal(mean, sd, x), normal([0, 0], 1, x), EXACT)
    assert swapped.value < 0 < got.value


def test_the_stated_error_is_that_of_repeats():
    rng = np.random.default_rng(0)
    estimates = []
    for _ in range(300):
        x = rng.normal(size=(400, 2))
        estimates.append(density.KL.of(normal([0, 0], 1, x), normal([0.5, 0], 1, x), EXACT))
    scatter = np.std([e.value for e in estimates])
    # the standard error of a standard deviation is 1/√(2·300) = 4 % of it
    assert np.mean([e.stderr for e in estimates]) == pytest.approx(scatter, rel=4 * 0.041)


def test_kl_sees_a_constant_error_of_a_hundredth():
    x = np.random.default_rng(0).normal(size=(1000, 2))
    log_p = normal([0, 0], 1, x)
    got = density.KL.of(log_p, log_p - 0.01, EXACT)
    assert got.value == pytest.approx(0.01)
    assert got.stderr < 1e-9


def test_kl_of_a_model_that_excludes_a_true_point_is_infinite():
    assert density.KL.of(np.zeros(3), np.array([0, -np.inf, 0]), EXACT).value == math.inf


@pytest.fixture(scope="module")
def shifted():
    """log p and log q at points of p, for p = N(0, I) and q = N(m, I), and |m|."""
    x, mean = np.random.default_rng(0).normal(size=(20_000, 2)), np.array([0.9, -1.2])
    return normal([0, 0], 1, x), normal(mean, 1, x), np.linalg.norm(mean)


def test_overlaps_of_two_gaussians(shifted):
    log_p, log_q, shift = shifted
    coefficient = density.BhattacharyyaExact.of(log_p, log_q, EXACT)
    assert abs(coefficient.value - math.exp(-(shift**2) / 8)) < 4 * coefficient.stderr
    distance = density.Hellinger.of(log_p, log_q, EXACT)
    assert distance.value == pytest.approx(math.sqrt(1 - coefficient.value))
    assert abs(distance.value - math.sqrt(1 - math.exp(-(shift**2) / 8))) < 4 * distance.stderr
    variation = density.TotalVariation.of(log_p, log_q, EXACT)
    assert abs(variation.value - (2 * norm.cdf(shift / 2) - 1)) < 4 * variation.stderr
    # along the line between the means, the other direction is the same for both
    t, step = np.linspace(-10, 12, 20_001, retstep=True)
    p, q = norm.pdf(t), norm.pdf(t - shift)
    divergence = density.JensenShannon.of(log_p, log_q, EXACT)
    exact = jensenshannon(p, q) ** 2  # scipy's is the root, of normalised sums
    assert abs(divergence.value - exact) < 4 * divergence.stderr
    for got in (coefficient, variation, divergence):
        assert 0 < got.stderr < 0.01
    assert step < 0.01


def test_the_error_of_the_hellinger_distance_is_that_of_repeats():
    rng, got = np.random.default_rng(0), []
    for _ in range(300):
        x = rng.normal(size=(400, 2))
        got.append(density.Hellinger.of(normal([0, 0], 1, x), normal([0.5, 0], 1, x), EXACT))
    scatter = np.std([e.value for e in got])
    assert np.mean([e.stderr for e in got]) == pytest.approx(scatter, rel=0.25)


def test_mass_beside_the_truth_is_counted():
    """p uniform on [0, 1], q on [0, 2]: at points of p the ratio is ½, and nothing is random."""
    log_p, log_q = np.zeros(100), np.full(100, -math.log(2))
    assert density.TotalVariation.of(log_p, log_q, EXACT).value == pytest.approx(0.5)
    assert density.BhattacharyyaExact.of(log_p, log_q, EXACT).value == pytest.approx(0.5**0.5)
    exact = 0.5 * math.log(1 / 0.75) + 0.25 * math.log(0.5 / 0.75) + 0.25 * math.log(0.5 / 0.25)
    assert density.JensenShannon.of(log_p, log_q, EXACT).value == pytest.approx(exact)


@pytest.mark.parametrize(("log_ratio", "missed"), [(0.0, 0), (-np.inf, 1)])
def test_overlaps_of_a_law_with_itself_and_with_one_beside_it(log_ratio, missed):
    log_p = np.linspace(-3, 3, 50)
    compare = lambda metric: metric(log_p, log_p + log_ratio, EXACT).value
    assert compare(density.TotalVariation.of) == missed
    assert compare(density.Hellinger.of) == missed
    assert compare(density.BhattacharyyaExact.of) == pytest.approx(1 - missed, abs=1e-12)
    assert compare(density.JensenShannon.of) == pytest.approx(missed * math.log(2), abs=1e-12)


def test_reverse_kl_and_true_density_are_taken_at_the_models_samples():
    rng, sd, n = np.random.default_rng(0), 0.8, 20_000
    x = sd * rng.normal(size=(n, 2))
    log_p, log_q = normal([0, 0], 1, x), normal([0, 0], sd, x)
    got = own_samples.ReverseKL.of(log_p, log_q, EXACT)
    # KL(N(0, s² I) ‖ N(0, I)) = d (s²/2 − 1/2 − log s)
    assert abs(got.value - 2 * (sd**2 / 2 - 0.5 - math.log(sd))) < 4 * got.stderr
    entropy = Estimate(1 + math.log(2 * math.pi), 0.0, EXACT)
    # E_q log p + H(p) = d (1 − s²) / 2: samples that crowd are likelier than the truth's own
    got = own_samples.LogTrueDensity.of(log_p, entropy)
    assert abs(got.value - (1 - sd**2)) < 4 * got.stderr
    assert got.value > 20 * got.stderr


def test_the_gap_of_a_bound_is_paired():
    rng = np.random.default_rng(0)
    log_q = 10 * rng.normal(size=1000)
    got = bounds.BoundGap.of(log_q - 0.3, log_q)
    assert got.value == pytest.approx(0.3)
    assert got.stderr < 1e-9
    assert str(got.provenance) == "bound"


ENTROPY = Estimate(0.5, 0.01, EXACT)


@pytest.mark.parametrize(
    ("metric", "fine", "wrong", "words"),
    [
        ("kl", -0.02, -0.04, "negative"),
        ("reverse_kl", -0.02, -0.04, "negative"),
        ("bound_gap", -0.02, -0.04, "negative"),
        ("mass", 0.97, 0.96, "integrates to 0.96"),
        ("total_variation", 1.02, 1.04, "outside 0 to 1"),
        ("off_support", 0.0, -0.01, "outside 0 to 1"),
        ("nll_elbo", 0.58, 0.54, "below the exact 0.6"),
        ("kde_cv_log_likelihood", -0.46, -0.45, "above the truth's own mean, -0.5"),
        ("nfe", 1e9, math.nan, "not finite"),
    ],
)
def test_numbers_that_cannot_be_are_found(metric, fine, wrong, words):
    card = {"nll": Estimate(0.6, 0.01, EXACT)}
    assert not list(consistency.violations(card | {metric: Estimate(fine, 0.01, EXACT)}, ENTROPY))
    ((named, why),) = consistency.violations(card | {metric: Estimate(wrong, 0.01, EXACT)}, ENTROPY)
    assert named == metric
    assert words in why


def test_a_bound_without_an_exact_value_is_held_against_the_entropy():
    ((metric, why),) = consistency.violations(
        {"nll_elbo": Estimate(0.4, 0.01, Provenance.parse("bound"))}, ENTROPY
    )
    assert metric == "nll_elbo"
    assert "below the truth's entropy" in why
    assert not list(
        consistency.violations({"nll_elbo": Estimate(0.4, 0.01, Provenance.parse("bound"))}, None)
    )


def test_nll_is_kl_plus_entropy():
    x = np.random.default_rng(0).normal(size=(20_000, 2))
    entropy = 1 + math.log(2 * math.pi)
    got = density.NLL.of(normal([0, 0], 1, x), EXACT)
    assert abs(got.value - entropy) < 4 * got.stderr


@pytest.mark.parametrize("wrong", [1.0, 0.99, 2.2])
def test_mass(wrong):
    grid = Grid.over(BOX, 160, 0.05)
    log_q = lambda x: normal([0, 1], 0.3, x) + math.log(wrong)
    got = density.Mass.of(log_q, grid, log_q(grid.points).reshape(160, 160), EXACT)
    assert got.value == pytest.approx(wrong, abs=1e-5)


def test_mass_outside_the_box_is_found_by_the_outer_grid():
    grid = Grid.over(((-1.0, -1.0), (1.0, 1.0)), 80, 0.05)
    log_q = lambda x: normal([0, 0], 0.8, x)
    got = density.Mass.of(log_q, grid, log_q(grid.points).reshape(80, 80), EXACT)
    # A tenth of the mass is outside the fine grid, where cells are as wide as the bump.
    assert got.value == pytest.approx(1, abs=1e-3)


def test_an_unresolved_mass_has_a_large_error():
    grid = Grid.over(BOX, 160, 0.05)
    log_q = lambda x: normal([0.02, 0.03], 0.03, x)
    got = density.Mass.of(log_q, grid, log_q(grid.points).reshape(160, 160), EXACT)
    assert got.stderr > 0.05


def test_grid_cells_tile_the_box():
    grid = Grid.over(((-1.0, 0.0), (1.0, 4.0)), 40, 0.1)
    assert grid.x[0] - (grid.x[1] - grid.x[0]) / 2 == pytest.approx(-1.2)
    assert grid.y[-1] + (grid.y[1] - grid.y[0]) / 2 == pytest.approx(4.4)
    assert grid.cell * 1600 == pytest.approx(2.4 * 4.8)
    outer = grid.around(5)
    assert sum(g.cell * 25 for g in outer) == pytest.approx(8 * 2.4 * 4.8)
    assert min(g.x[0] for g in outer) == pytest.approx(-3.6 + 0.24)
    assert np.array_equal(grid.points[41], np.array([grid.x[1], grid.y[1]], np.float32))
    assert grid.holds(np.array([[-1.19, 4.39], [-1.21, 0], [0, 4.41]])).tolist() == [1, 0, 0]


# --- kernel density estimates


def test_kde_is_scipys_default():
    samples, points = toy.gaussian(0, 300), toy.gaussian(1, 200)
    got = kde.KDELogLikelihood.of(samples, points)
    scott = 300 ** (-1 / 6)
    white = np.linalg.cholesky(np.cov(samples.T)) * scott
    d = np.linalg.solve(white, (points[:, None] - samples[None]).reshape(-1, 2).T).T
    bumps = np.exp(-0.5 * np.sum(d**2, axis=1)).reshape(200, 300).mean(axis=1)
    expected = np.log(bumps) - np.log(2 * np.pi) - np.log(np.diag(white)).sum()
    assert got.value == pytest.approx(expected.mean(), abs=1e-6)
    assert str(got.provenance) == f"kde(h={scott:.3g}, n=300)"


def test_the_cross_validated_factor_is_scikit_learns():
    samples = np.random.default_rng(0).standard_t(3, size=(50, 2))
    white = np.linalg.solve(np.linalg.cholesky(np.cov(samples.T)), samples.T).T
    search = GridSearchCV(
        KernelDensity(), {"bandwidth": np.geomspace(0.2, 1, 30)}, cv=LeaveOneOut()
    )
    best = search.fit(white).best_params_["bandwidth"]
    assert kde.cross_validated_factor(samples) == pytest.approx(best, rel=0.05)


def test_the_factor_of_many_samples_shrinks_at_its_rate_and_knows_no_order():
    """Scott's factor, n^(−1/6), is the optimum of the squared error for N(0, I)."""
    samples = np.random.default_rng(0).standard_normal((40_000, 2))
    factor = kde.cross_validated_factor(samples)
    assert 1 < factor * len(samples) ** (1 / 6) < 1.5  # tails, which likelihood fears, want more
    ordered = kde.cross_validated_factor(samples[np.argsort(samples[:, 0])])
    assert ordered == pytest.approx(factor, rel=0.1)


def test_cross_validation_beats_the_default_where_there_are_modes():
    rng = np.random.default_rng(0)
    draw = lambda n: 4 * rng.integers(0, 2, (n, 2)) + 0.2 * rng.normal(size=(n, 2))
    samples, points = draw(500), draw(500)
    default, chosen = (
        f(samples, points) for f in (kde.KDELogLikelihood.of, kde.CrossValidatedKDELogLikelihood.of)
    )
    assert chosen.value > default.value + 1


def test_a_collapsed_sample_scores_minus_infinity():
    for samples in (np.zeros((200, 2)), np.full((200, 2), np.nan)):
        assert kde.KDELogLikelihood.of(samples, toy.gaussian(0, 50)).value == -math.inf


# --- overlap


@pytest.fixture(scope="module")
def truth():
    grid = Grid.over(BOX, 200, 0.0)
    return GridDensity.of(grid, normal([0, 0], 1, grid.points).reshape(200, 200))


def test_a_law_on_a_grid_is_smoothed_seen_and_drawn(truth):
    """Of N(0, I) and the kernel N(0, 0.1² I) everything is Gaussian."""
    x = np.random.default_rng(0).normal(size=(500, 2))
    assert truth.sds == pytest.approx([1, 1], abs=1e-6)
    assert truth.widths == pytest.approx([0.1, 0.1], abs=1e-6)
    smoothed = np.exp(normal([0, 0], math.sqrt(1.01), truth.grid.points)).reshape(200, 200)
    assert truth.smoothed == pytest.approx(smoothed, abs=1e-7)
    # linear between midpoints 0.08 apart: off by at most 0.08²/8 of the curvature, 1/2π
    seen = truth.at(x, smoothed) - np.exp(normal([0, 0], math.sqrt(1.01), x))
    assert np.abs(seen).max() < 2 * 0.08**2 / 8 / (2 * math.pi)
    field = np.exp(normal([0, 0], 1, truth.grid.points)).reshape(200, 200)
    exact = np.exp(normal([0, 0], math.sqrt(1.01), x))
    assert truth.smooth_at(x, field) == pytest.approx(exact, abs=1e-7)
    kde = np.exp(np.stack([normal(p, 0.1, truth.grid.points) for p in x[:5]])).mean(axis=0)
    assert truth.smooth(x[:5]).ravel() == pytest.approx(kde, abs=1e-6)
    draws = truth.draw(np.random.default_rng(0), 10_000)
    assert draws.mean(axis=0) == pytest.approx([0, 0], abs=4 / 100)
    assert draws.std(axis=0) == pytest.approx([1, 1], abs=4 / math.sqrt(2) / 100)
    # nothing beyond the border but the border's own value
    assert truth.at(np.array([[99.0, 0.04]]), smoothed) == pytest.approx(smoothed[100, -1])


def test_the_error_of_bhattacharyya_is_the_scatter_of_repeats(truth):
    rng = np.random.default_rng(0)
    got = [overlap.Bhattacharyya.of(rng.normal([1, 0], size=(1000, 2)), truth) for _ in range(60)]
    scatter = np.std([e.value for e in got], ddof=1)
    # the standard error of a standard deviation of 60 is 9 % of it
    assert np.mean([e.stderr for e in got]) == pytest.approx(scatter, rel=4 * 0.092)


def test_bhattacharyya_of_shifted_gaussians(truth):
    # Two N(·, s² I) that are m apart: exp(−|m|²/(8 s²)), with s² = 1 + 0.1² after smoothing.
    x = np.random.default_rng(0).normal([1.0, 0.0], size=(40_000, 2))
    got = overlap.Bhattacharyya.of(x, truth)
    assert got.value == pytest.approx(math.exp(-1 / (8 * 1.01)), abs=4 * got.stderr + 0.003)


def test_the_floor_of_bhattacharyya_falls_as_one_over_n(truth):
    rng = np.random.default_rng(0)
    gaps = [
        np.mean(
            [1 - overlap.Bhattacharyya.of(rng.normal(size=(n, 2)), truth).value for _ in range(4)]
        )
        for n in (1000, 4000)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.25)


def test_bhattacharyya_sees_a_dropped_mode():
    rng = np.random.default_rng(0)
    grid = Grid.over(BOX, 200, 0.0)
    modes = 4 * np.array([[np.cos(a), np.sin(a)] for a in 2 * np.pi * np.arange(7) / 7])
    log_p = np.log(np.mean([np.exp(normal(m, 0.5, grid.points)) for m in modes], axis=0))
    draw = lambda k: modes[rng.integers(0, k, 2000)] + 0.5 * rng.normal(size=(2000, 2))
    truth = GridDensity.of(grid, log_p.reshape(200, 200), np.array([0.3, 0.3]))
    full, dropped = (overlap.Bhattacharyya.of(draw(k), truth) for k in (7, 6))
    # Without one of seven modes ∫√(pq) = √(6/7) of what it was.
    assert dropped.value / full.value == pytest.approx(math.sqrt(6 / 7), abs=0.01)
    assert full.value - dropped.value > 5 * math.hypot(full.stderr, dropped.stderr)


@pytest.mark.parametrize(("temperature", "agrees"), [(1.0, True), (1.3, False), (0.7, False)])
def test_self_bhattacharyya_finds_a_sampler_at_the_wrong_temperature(truth, temperature, agrees):
    x = np.random.default_rng(5).normal(size=(2000, 2)) * math.sqrt(temperature)
    got = overlap.SelfBhattacharyya.of(x, truth)
    assert (abs(got.value) < 3 * got.stderr) == agrees


# --- support


def test_off_support_counts_and_never_claims_certainty():
    log_p = np.array([0.0, -1.0, -5.0, -np.inf, np.nan] * 20)
    got = support.OffSupport.of(log_p, -2.0)
    assert got.value == pytest.approx(0.6)  # what has no density is off the support
    none = support.OffSupport.of(np.zeros(2000), -2.0)
    assert none.value == 0
    assert none.stderr == pytest.approx(math.sqrt(1 / 2002 / 2000), rel=0.01)


def test_mode_weights_are_the_total_variation_of_the_shares():
    centres, weights = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]]), np.array([0.5, 0.3, 0.2])
    shares = [700, 100, 200]
    samples = np.repeat(centres, shares, axis=0) + np.random.default_rng(0).normal(
        0, 0.1, (1000, 2)
    )
    got = modes.ModeWeights.of(samples, centres, weights)
    assert got.value == pytest.approx((0.2 + 0.2 + 0.0) / 2)


def test_mode_weights_of_a_perfect_sampler_are_what_its_docstring_says():
    rng, n, k = np.random.default_rng(1), 2000, 7
    centres = 10.0 * np.stack([np.arange(k), np.zeros(k)], axis=1)
    draw = lambda: centres[rng.integers(0, k, n)]
    values = [modes.ModeWeights.of(draw(), centres, np.full(k, 1 / k)).value for _ in range(200)]
    # Σ_k E|ŵ_k − w_k| / 2 = k/2 · √(2/π) · √(w (1 − w) / n), slightly less than the rule of thumb
    expected = k / 2 * np.sqrt(2 / np.pi * (1 / k) * (1 - 1 / k) / n)
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(200))
    assert expected == pytest.approx(np.sqrt(k / (2 * np.pi * n)), rel=0.1)
