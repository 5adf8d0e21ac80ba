"""Sample against sample: closed forms, other implementations, rates, and planted faults."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from densitometer.metrics import transport, two_sample
from densitometer.metrics.order import in_random_order

ONES = np.ones(2)
METRICS = {
    "mmd2": lambda x, y: two_sample.MMD2.of(x, y, np.ones(x.shape[1])),
    "energy_distance": two_sample.EnergyDistance.of,
    "sliced_w2": transport.SlicedW2.of,
    "w2": transport.W2.of,
    "c2st": two_sample.C2ST.of,
    "precision": two_sample.Precision.of,
    "recall": two_sample.Recall.of,
}


def skewed(rng, n, d=2):
    return (
        rng.exponential(size=(n, d)) @ np.linalg.qr(np.arange(d * d).reshape(d, d) + np.eye(d))[0]
    )


def repeats(metric, draw_x, draw_y, n, times, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([metric(draw_x(rng, n), draw_y(rng, n))[:2] for _ in range(times)])


def mean_is(got, expected, bias=0.0):
    """Whether the mean of independent values is `expected` to within four of its errors."""
    return abs(got.mean() - expected) < 4 * got.std(ddof=1) / math.sqrt(len(got)) + bias


# --- closed forms


def gaussian_kernel_mean(shift, scale, widths):
    """E k(X, Y) of X ~ N(a, S), Y ~ N(b, T), with b − a = shift and diagonals of S + T = scale."""
    total = 0.0
    for factor in two_sample.FACTORS:
        squares = (factor * widths) ** 2
        root = np.sqrt(np.prod(squares / (squares + scale)))
        total += root * np.exp(-0.5 * np.sum(shift**2 / (squares + scale))) / factor
    return total / sum(1 / f for f in two_sample.FACTORS)


def test_mmd2_of_two_gaussians():
    shift, sd, widths = np.array([0.4, -0.2]), np.array([1.3, 0.8]), np.array([1.5, 0.7])
    exact = (
        gaussian_kernel_mean(0 * shift, 2 * sd**2, widths)
        + gaussian_kernel_mean(0 * shift, 2 * ONES, widths)
        - 2 * gaussian_kernel_mean(shift, sd**2 + ONES, widths)
    )
    got = repeats(
        lambda x, y: two_sample.MMD2.of(x, y, widths),
        lambda rng, n: shift + sd * rng.normal(size=(n, 2)),
        lambda rng, n: rng.normal(size=(n, 2)),
        300,
        100,
    )
    assert mean_is(got[:, 0], exact)
    assert exact > 10 * got[:, 0].std() / 10  # or else 0 would have passed
    # the standard error of a standard deviation of 100 is 7 % of it
    assert got[:, 1].mean() == pytest.approx(got[:, 0].std(ddof=1), rel=4 * 0.071)


def test_mmd2_is_a_kernel_distance_of_its_own_bandwidths():
    """A far pair: E k = 1 within a sample of copies, 0 between; and in units of `widths`."""
    x, y = np.zeros((5, 2)), np.full((5, 2), 100.0)
    assert two_sample.MMD2.of(x, y, ONES).value == pytest.approx(2)
    near = two_sample.MMD2.of(x, x + np.array([0, 3]), np.array([1.0, 30.0])).value
    assert near == pytest.approx(2 - 2 * (10 * math.exp(-0.5) + math.exp(-0.005)) / 11)


@pytest.mark.parametrize("n", [50, 51])
def test_energy_distance_on_a_line_is_scipys(n):
    rng = np.random.default_rng(0)
    x, y = rng.exponential(size=(n, 1)), 1 + 0.5 * rng.normal(size=(n, 1))
    got = two_sample.EnergyDistance.of(x, y).value
    # scipy's is the root of the biased version, where points also meet themselves
    own = sum(np.abs(p - p.T).sum() / n**2 / (n - 1) for p in (x, y))
    assert got == pytest.approx(stats.energy_distance(x[:, 0], y[:, 0]) ** 2 - own)


def test_energy_distance_of_two_gaussians_in_the_plane():
    # ‖X − Y‖ of N(·, s² I) in the plane: Rice's law, of mean s √(π/2) L_½(−m²/2s²)
    m, sd = 0.7, 1.5
    mean = lambda shift, s: np.asarray(stats.rice.mean(shift / s, scale=s))
    exact = 2 * mean(m, math.hypot(1, sd)) - mean(0, sd * 2**0.5) - mean(0, 2**0.5)
    got = repeats(
        two_sample.EnergyDistance.of,
        lambda rng, n: [m, 0] + sd * rng.normal(size=(n, 2)),
        lambda rng, n: rng.normal(size=(n, 2)),
        300,
        100,
    )
    assert mean_is(got[:, 0], exact)
    assert got[:, 1].mean() == pytest.approx(got[:, 0].std(ddof=1), rel=4 * 0.071)


@pytest.mark.parametrize("metric", [METRICS["mmd2"], two_sample.EnergyDistance.of])
def test_the_error_under_equal_laws_is_that_of_a_degenerate_statistic(metric):
    got = repeats(metric, skewed, skewed, 200, 150)
    assert mean_is(got[:, 0], 0.0)
    # the law is a sum of chi-squares with heavier tails than a Gaussian's: 6 % is 15 % here
    stated = math.sqrt(np.mean(got[:, 1] ** 2))
    assert stated / got[:, 0].std(ddof=1) == pytest.approx(1, rel=0.3)


@pytest.mark.parametrize("functions", [1, 4])
def test_the_error_of_a_statistic_of_few_functions_is_right_under_equal_laws(functions):
    """‖x̄ − ȳ‖², less its mean, is a sum of as many chi-squares as there are coordinates."""
    rng, n = np.random.default_rng(0), 40
    got = [
        two_sample._discrepancy(lambda a, b: a @ b.T, *rng.normal(size=(2, n, functions)))[:2]
        for _ in range(1500)
    ]
    values, errors = np.array(got).T
    assert values.std(ddof=1) == pytest.approx(math.sqrt(8 * functions) / n, rel=0.15)
    stated = math.sqrt(np.mean(errors**2))
    assert stated / values.std(ddof=1) == pytest.approx(1, rel=0.15)
    features = rng.normal(size=(400, functions))
    found = two_sample._concentration(features @ features.T - np.diag((features**2).sum(axis=1)))
    assert found == pytest.approx(1 / functions, rel=0.2)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_wasserstein_distances_of_a_shifted_sample(d):
    rng = np.random.default_rng(0)
    x, shift = skewed(rng, 300, d), np.linspace(0.3, -1, d)
    assert transport.W2.of(x, x + shift).value == pytest.approx(np.linalg.norm(shift))
    expected = np.linalg.norm(shift) / math.sqrt(d)
    random = 0 if d <= 2 else 4 / math.sqrt(2 * transport.DIRECTIONS)  # d > 2: random directions
    assert transport.SlicedW2.of(x, x + shift).value == pytest.approx(expected, rel=random + 1e-9)


def test_wasserstein_distances_of_two_gaussians():
    # W₂² = ‖m‖² + Σ (s_a − t_a)² for diagonal covariances; on a line of angle θ with sd's along it
    m, s = np.array([1.0, -0.5]), np.array([2.0, 0.5])
    angles = np.linspace(0, np.pi, 1000, endpoint=False)
    lines = np.stack([np.cos(angles), np.sin(angles)])
    sliced = np.mean((m @ lines) ** 2 + (np.sqrt(s**2 @ lines**2) - 1) ** 2)
    exact = {"sliced_w2": sliced**0.5, "w2": (m @ m + np.sum((s - 1) ** 2)) ** 0.5}
    for name, value in exact.items():
        got = repeats(
            METRICS[name],
            lambda rng, n: m + s * rng.normal(size=(n, 2)),
            lambda rng, n: rng.normal(size=(n, 2)),
            400,
            40,
        )
        assert mean_is(got[:, 0], value, bias=0.02)  # what the scatter of the empirical laws adds
        # the standard error of a standard deviation of 40 is 11 % of it
        assert got[:, 1].mean() == pytest.approx(got[:, 0].std(ddof=1), rel=4 * 0.11)


def test_sliced_w2_on_a_line_is_scipys_order():
    """On a line it is W₂ itself, which is no less than scipy's W₁ and here the matching's."""
    rng = np.random.default_rng(0)
    x, y = rng.exponential(size=(200, 1)), rng.normal(size=(200, 1))
    got = transport.SlicedW2.of(x, y)
    exact = transport.W2.of(x, y)
    assert got.value == pytest.approx(exact.value)
    assert got.value > stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert got.stderr == pytest.approx(exact.stderr, rel=0.05)  # potentials are not unique


def test_w2_is_the_best_of_all_permutations():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 3)), rng.exponential(size=(6, 3))
    costs = cdist(x, y) ** 2
    best = min(costs[range(6), p].mean() for p in map(list, itertools.permutations(range(6))))
    assert transport.W2.of(x, y).value == pytest.approx(math.sqrt(best))


def test_the_potentials_certify_the_matching():
    rng = np.random.default_rng(0)
    costs = cdist(skewed(rng, 100), rng.normal(size=(100, 2))) ** 2
    match = transport.linear_sum_assignment(costs)[1]
    u, v = transport._potentials(costs, match)
    assert (costs - u[:, None] - v).min() > -1e-9  # dual feasible,
    assert u.mean() + v.mean() == pytest.approx(costs[np.arange(100), match].mean())  # and tight


@pytest.mark.parametrize("compare", [transport._matched, transport._sliced])
def test_potentials_at_other_points_continue_those_at_their_own(compare):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2)), 0.3 + rng.normal(size=(200, 2))
    for own, again in zip(
        compare(x, y, x, y)[1:], compare(x, y, x.copy(), y.copy())[1:], strict=True
    ):
        np.testing.assert_allclose(own, again, atol=1e-9)
    others = rng.normal(size=(5000, 2)), 0.3 + rng.normal(size=(5000, 2))
    _, u, v = compare(x, y, *others)
    # of the whole distributions no potentials give more than the distance, ‖m‖² or ‖m‖²/d
    exact = 0.18 if compare is transport._matched else 0.09
    assert 0 < u.mean() + v.mean() < exact + 0.02


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.5])
def test_c2st_reaches_the_accuracy_of_bayes_on_shifted_gaussians(shift):
    got = repeats(
        two_sample.C2ST.of,
        lambda rng, n: np.array([shift, 0]) + rng.normal(size=(n, 2)),
        lambda rng, n: rng.normal(size=(n, 2)),
        1000,
        8,
    )
    bayes = stats.norm.cdf(shift / 2)
    se = math.sqrt(bayes * (1 - bayes) / 2000)
    # guesses depend on each other, which adds φ(0)² where all are
    guessed = math.sqrt(se**2 + 1 / (2 * math.pi) / 2000)
    assert se < got[:, 1].mean() < 1.05 * guessed
    if shift == 0:
        assert got[:, 1].mean() == pytest.approx(guessed, rel=0.05)
    mean = got[:, 0].mean()
    # a little is lost to what the classifier must learn from 1600 points
    assert bayes - 0.015 - 4 * se / math.sqrt(8) < mean < bayes + 4 * se / math.sqrt(8)


def test_precision_and_recall_of_contained_and_disjoint_uniform_laws():
    rng = np.random.default_rng(0)
    square = rng.uniform(size=(2000, 2))
    half = rng.uniform(size=(2000, 2)) * [0.5, 1]
    se = 0.01  # twice the binomial's
    assert two_sample.Precision.of(half, square).value > 0.96
    assert two_sample.Recall.of(half, square).value == pytest.approx(0.5, abs=4 * se + 0.01)
    assert two_sample.Precision.of(square, half).value == pytest.approx(0.5, abs=4 * se + 0.01)
    assert two_sample.Recall.of(square, half).value > 0.96
    for metric in (two_sample.Precision.of, two_sample.Recall.of):
        got = metric(square + 10, square)
        assert got.value == 0
        assert 0 < got.stderr < 1e-3


@pytest.mark.parametrize("n", [500, 4000])
def test_precision_and_recall_of_a_perfect_sampler_are_what_the_docstring_says(n):
    for metric in (two_sample.Precision.of, two_sample.Recall.of):
        got = repeats(metric, skewed, skewed, n, 10)
        assert got[:, 0].mean() == pytest.approx(0.975, abs=0.01)


def test_precision_and_recall_count_by_hand():
    truth = np.arange(40.0)[:, None]  # third neighbours: 3 away at the ends, then 2
    samples = np.array([-3, -3.1, 42, 42.1, 3.5, 4.5, -2.9, 50])[:, None]
    samples = np.concatenate([samples, np.full((32, 1), 7.2)])
    assert two_sample.Precision.of(samples, truth).value == 37 / 40
    ends = np.array([0, 1, 2, 3, 100, 101, 102, 103.0])[:, None]  # balls cover [−3, 6]
    spread = np.concatenate([ends, 200.0 + np.arange(32)[:, None]])
    assert two_sample.Recall.of(spread, truth).value == 7 / 40


# --- what all have in common


@pytest.mark.parametrize("name", METRICS)
def test_input_decides_the_value_and_the_order_of_points_does_not(name):
    rng = np.random.default_rng(0)
    x, y = skewed(rng, 300), 0.3 + skewed(rng, 300)
    got, again = METRICS[name](x, y), METRICS[name](x.copy(), y.copy())
    assert got == again
    assert str(got.provenance) == "samples(n=300)"
    assert got.stderr > 0
    p, q = rng.permutation(300), rng.permutation(300)
    tolerance = 1e-9 if name != "c2st" else 2 * got.stderr  # folds are cut by order
    assert METRICS[name](x[p], y[q]).value == pytest.approx(got.value, abs=tolerance)
    assert METRICS[name](x.astype(np.float32), y).value == pytest.approx(got.value, abs=0.01)


@pytest.mark.parametrize("name", ["mmd2", "energy_distance", "sliced_w2", "w2", "c2st"])
def test_the_two_samples_may_change_places(name):
    rng = np.random.default_rng(0)
    x, y = skewed(rng, 300), 1 - skewed(rng, 300)
    there, back = METRICS[name](x, y), METRICS[name](y, x)
    # only the classifier's coordinates are the truth's
    tolerance = 1e-9 if name != "c2st" else 2 * there.stderr
    assert there.value == pytest.approx(back.value, abs=tolerance)


def test_w2_matches_no_more_points_than_it_says(monkeypatch):
    monkeypatch.setattr(transport, "MATCHED", 50)
    rng = np.random.default_rng(0)
    x, y = skewed(rng, 80), skewed(rng, 80)
    got = transport.W2.of(x, y)
    assert got == transport.W2.of(in_random_order(x)[:50], in_random_order(y)[:50])
    assert str(got.provenance) == "samples(n=50)"


@pytest.mark.parametrize(
    ("name", "exponent"),
    [("mmd2", -1), ("energy_distance", -1), ("sliced_w2", -0.5), ("w2", -0.5), ("c2st", -0.5)],
)
def test_the_floor_of_a_perfect_sampler_falls_as_claimed(name, exponent):
    """Over a factor of 4 in n. Of statistics that scatter around their floor, the scatter falls."""
    few, many = (
        repeats(METRICS[name], skewed, skewed, n, {"w2": 12, "c2st": 40}.get(name, 60))
        for n in ((100, 400) if name == "c2st" else (200, 800))
    )
    if name in ("sliced_w2", "w2"):
        falls = many[:, 0].mean() / few[:, 0].mean()
    else:
        falls = np.std(many[:, 0] - {"c2st": 0.5}.get(name, 0.0)) / np.std(few[:, 0])
    assert math.log(falls, 4) == pytest.approx(exponent, abs=0.3)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_draws_that_are_not_finite_are_far_away_and_raise_nothing(name, broken):
    rng = np.random.default_rng(0)
    x, y = skewed(rng, 400), skewed(rng, 400)
    good = METRICS[name](x, y)
    x[200:] = broken
    half, none = METRICS[name](x, y), METRICS[name](np.full_like(x, broken), y)
    if name in ("precision", "recall"):
        assert none.value == 0
        assert half.value < {"precision": 0.55, "recall": good.value + 1e-9}[name]
    else:
        assert good.value < half.value < none.value
