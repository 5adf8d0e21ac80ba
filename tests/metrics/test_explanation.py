"""The faults that explain samples: bent truths against closed forms, and the fit's calibration."""

import math
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import chi2, kstest, multivariate_normal

from densitometer.estimates import Provenance
from densitometer.metrics import explanation
from densitometer.metrics.bends import KNOTS, Bends
from densitometer.metrics.explanation import Fit, Unexplained, explain, in_words, named, written
from densitometer.metrics.grids import Grid, GridDensity

BOX = ((-6.0, -9.0), (6.0, 9.0))
MEAN, SD = np.array([0.3, -0.4]), np.array([1.0, 1.5])
CENTRES, WEIGHTS = np.array([[-2.0, 0.0], [2.0, 0.0]]), np.array([0.3, 0.7])
N = 2000


def on_grid(components):
    grid = Grid.over(BOX, 400, 0.1)
    density = sum(
        weight * cast("Any", multivariate_normal)(mean, np.diag(sd**2)).pdf(grid.points)
        for weight, mean, sd in components
    )
    return GridDensity.of(grid, np.log(np.asarray(density) + 1e-300).reshape(400, 400))


@pytest.fixture(scope="module")
def gaussian():
    return Bends(on_grid([(1.0, MEAN, SD)]), BOX, None, 32)


@pytest.fixture(scope="module")
def mixture():
    sd = np.array([0.5, 0.5])
    modes = [(w, c, sd) for w, c in zip(WEIGHTS, CENTRES, strict=True)]
    return Bends(on_grid(modes), BOX, (CENTRES, WEIGHTS), 32)


def moments(cells, grid):
    x, y = np.meshgrid(*grid)
    mean = np.array([(cells * x).sum(), (cells * y).sum()])
    x, y = x - mean[0], y - mean[1]
    return mean, np.array(
        [[(cells * x * x).sum(), (cells * x * y).sum()], [0, (cells * y * y).sum()]]
    )


TURNED = math.cos(0.3) ** 2 + 1.5**2 * math.sin(0.3) ** 2
BENT = {
    "shift x": (0.2, MEAN + np.array([0.2, 0]), (1.0, 0.0, 2.25)),
    "shift y": (-0.2, MEAN - np.array([0, 0.3]), (1.0, 0.0, 2.25)),
    "stretch x": (0.3, MEAN, (math.exp(0.6), 0.0, 2.25)),
    "stretch y": (-0.3, MEAN, (1.0, 0.0, 2.25 * math.exp(-0.6))),
    "turn": (0.3, MEAN, (TURNED, -1.25 * math.sin(0.3) * math.cos(0.3), 3.25 - TURNED)),
    "blur": (0.09, MEAN, (1.09, 0.0, 2.25 * 1.09)),
    "temperature": (math.log(1.2), MEAN, (1.2, 0.0, 2.7)),
}


@pytest.mark.parametrize("name", BENT)
def test_a_bent_gaussian_has_the_moments_that_it_should(gaussian, name):
    """A cell is a fifteenth of a standard deviation: interpolation adds less than .004."""
    size, mean, (xx, xy, yy) = BENT[name]
    cells = gaussian._bent({name: size})
    assert cells.sum() == pytest.approx(1)
    got, covariance = moments(cells, gaussian._truth.grid)
    assert got == pytest.approx(mean, abs=1e-3)
    assert covariance[np.triu_indices(2)] == pytest.approx([xx, xy, yy], abs=6e-3)


def test_leaks_and_weights_are_mixtures(mixture):
    cells = mixture._truth.cells
    leaked = mixture._bent({"leak": 0.2})
    x, y = mixture._truth.grid
    outside = (np.abs(x) > 6.1)[None] | (np.abs(y) > 9.1)[:, None]
    assert leaked[outside] == pytest.approx(0.8 * cells[outside])
    far = (len(y) // 20, len(x) // 2)  # y = −9.7, outside; and y = −8, inside
    assert leaked[far] < 1e-12 or np.abs(y[far[0]]) < 9
    middle = leaked[np.abs(y).argmin() - 60, np.abs(x).argmin()]
    share = (x[1] - x[0]) * (y[1] - y[0]) / (12 * 18)
    assert middle == pytest.approx(0.2 * share, rel=0.03)
    moved = mixture._bent({"weight 1": -0.1})
    assert moved[:, x < 0].sum() == pytest.approx(0.4, abs=2e-3)
    assert moved.sum() == pytest.approx(1)


def test_faults_together_are_in_their_order(gaussian):
    """Blurred after it was shifted and heated: variances 1.1 + .04 of the truth's."""
    cells = gaussian._bent({"shift x": 0.1, "temperature": math.log(1.1), "blur": 0.04})
    mean, covariance = moments(cells, gaussian._truth.grid)
    assert mean == pytest.approx(MEAN + np.array([0.1, 0]), abs=1e-3)
    assert covariance[0, 0] == pytest.approx(1.14, abs=6e-3)
    assert covariance[1, 1] == pytest.approx(2.25 * 1.14, abs=1e-2)


def test_what_is_seen_of_samples_has_the_mean_and_the_scatter_of_the_truth(gaussian):
    rng = np.random.default_rng(0)
    seen = gaussian.seen(MEAN + SD * rng.normal(size=(40_000, 2)))
    error = np.sqrt(np.diag(gaussian.covariance) / 40_000)
    z = (seen.mean(axis=1) - gaussian.mean) / error
    assert np.abs(z).max() < 4.5  # of 47
    assert np.mean(z**2) == pytest.approx(1, abs=4 * math.sqrt(2 / 10))  # they hang together
    spread = seen.var(axis=1) / np.diag(gaussian.covariance)
    assert np.median(spread) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", [*BENT, "leak"])
def test_drift_is_exact_at_a_knot_and_near_between_two(gaussian, name):
    size = float(KNOTS[name][-3])
    exact = gaussian.moments({name: size})[0] - gaussian.mean
    assert gaussian.drift({name: size}) == pytest.approx(exact, abs=1e-9)
    first = float(KNOTS[name][0])  # below 0 for most: the other side of a kink
    exact = gaussian.moments({name: first})[0] - gaussian.mean
    assert gaussian.drift({name: first}) == pytest.approx(exact, abs=1e-9)
    between = float(KNOTS[name][-3:-1].mean())
    exact = gaussian.moments({name: between})[0] - gaussian.mean
    scale = np.abs(exact) + 0.05 * np.sqrt(np.diag(gaussian.covariance))
    assert (np.abs(gaussian.drift({name: between}) - exact) < 0.1 * scale).all()
    step = 1e-5
    slope = (gaussian.drift({name: size + step}) - gaussian.drift({name: size - step})) / (2 * step)
    assert gaussian.slope(name, size) == pytest.approx(slope, rel=1e-4, abs=1e-4)


def draw(rng, faults, n=N):
    x = rng.normal(size=(n, 2))
    if "temperature" in faults:
        x = x * math.sqrt(1.3)
    if "stretch" in faults:
        x = x * [1.15, 1.0]
    x = x * SD
    if "turn" in faults:
        cos, sin = math.cos(0.2), math.sin(0.2)
        x = x @ np.array([[cos, sin], [-sin, cos]])
    x = x + MEAN
    if "shift" in faults:
        x = x + np.array([0.2, 0.0])
    if "blur" in faults:
        x = x + 0.3 * SD * rng.normal(size=(n, 2))
    if "leak" in faults:
        x = np.where(rng.random((n, 1)) < 0.04, rng.uniform(*BOX, (n, 2)), x)
    return x


def test_of_true_samples_the_square_is_chi_squared(gaussian):
    """Kolmogorov–Smirnov of sixty samples; mean and variance by their errors."""
    rng = np.random.default_rng(1)
    fits = [explain(draw(rng, ()), gaussian) for _ in range(60)]
    free = fits[0][0].free
    squares = [f[0].square for f in fits if not f[0].faults]
    assert len(squares) >= 58  # 1 % are beyond
    assert np.mean(squares) == pytest.approx(free, abs=4 * math.sqrt(2 * free / 60))
    assert kstest(squares, chi2(free).cdf).pvalue > 1e-3


@pytest.mark.parametrize(
    ("faults", "sizes"),
    [
        (("shift",), {"shift x": 0.2}),
        (("turn",), {"turn": 0.2}),
        (("leak",), {"leak": 0.04}),
        (("stretch",), {"stretch x": math.log(1.15)}),
        (("shift", "leak"), {"shift x": 0.2, "leak": 0.04}),
        (("turn", "leak"), {"turn": 0.2, "leak": 0.04}),
    ],
)
def test_the_faults_that_are_there_are_named_with_their_sizes(gaussian, faults, sizes):
    rng = np.random.default_rng(2)
    found = [explain(draw(rng, faults), gaussian) for _ in range(5)]
    right = [[f for f in fits if set(f.faults) == set(faults)] for fits in found]
    assert sum(map(bool, right)) >= 4
    for name, size in sizes.items():
        got = np.array([fits[0].sizes[name] for fits in right if fits])
        error = got.std(ddof=1) / math.sqrt(len(got))
        assert got.mean() == pytest.approx(size, abs=5 * error + 0.003)


def test_the_square_is_of_what_is_expected_with_the_faults(gaussian):
    """By the covariance under the leak: under the truth alone that of strays is ten times less."""
    x = draw(np.random.default_rng(9), ("leak",))
    (fit,) = explain(x, gaussian)
    mean, covariance = gaussian.moments(fit.sizes)
    off = gaussian.seen(x).mean(axis=1) - mean
    square = lambda c: N * off @ np.linalg.pinv(c, hermitian=True) @ off
    own = square(covariance + 0.01 * gaussian.covariance)
    assert fit.square == pytest.approx(own, rel=0.1)  # by the covariance one step before
    assert abs(square(gaussian.covariance) - own) > 0.3 * own


def test_heat_and_blur_of_a_gaussian_are_the_same(gaussian):
    fits = explain(draw(np.random.default_rng(3), ("temperature",)), gaussian)
    assert {f.faults for f in fits} >= {("blur",), ("temperature",)}


def test_weights_of_modes_are_named(mixture):
    rng = np.random.default_rng(4)
    x = CENTRES[(rng.random(N) < 0.6).astype(int)] + 0.5 * rng.normal(size=(N, 2))
    (fit,) = explain(x, mixture)
    assert fit.faults == ("mode weights",)
    assert fit.sizes["weight 1"] == pytest.approx(-0.1, abs=4 * math.sqrt(0.24 / N))
    assert written(fit).startswith("mode weights 0.")
    assert float(written(fit).split()[-1]) == pytest.approx(0.1, abs=4 * math.sqrt(0.24 / N))


def test_no_mode_gives_more_than_it_has(mixture):
    assert mixture.possible({"weight 1": 0.29})
    assert not mixture.possible({"weight 1": 0.33})
    rng = np.random.default_rng(8)
    x = CENTRES[(rng.random(N) < 0.05).astype(int)] + 0.8 * rng.normal(size=(N, 2))
    for fit in explain(x, mixture):
        assert mixture.possible(fit.sizes)
        if "mode weights" in fit.faults:
            assert float(written(fit).split("mode weights ")[1].split()[0]) <= 0.72


def test_what_is_no_named_fault_gets_no_name(gaussian):
    """A ring in the place of the middle: the same mean, the same covariance."""
    rng = np.random.default_rng(5)
    angle, radius = rng.uniform(0, 2 * np.pi, N), math.sqrt(2.0)
    x = MEAN + SD * radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    mixed = np.where(rng.random((N, 1)) < 0.3, x, draw(rng, ()))
    fits = explain(mixed, gaussian)
    assert fits[0].excess > 1
    estimate = Unexplained.of(mixed, gaussian, None)
    assert estimate.value == pytest.approx(fits[0].excess)
    assert dict(estimate.provenance.details)["faults"] == "unknown"
    assert in_words(estimate.provenance) == ""


def test_a_learner_is_allowed_the_chance_of_its_training_points(gaussian):
    """Of a bootstrap of k points X² has the mean of χ² only if both chances count."""
    rng = np.random.default_rng(6)
    squares, plain, search = [], [], None
    for _ in range(20):
        x = draw(rng, ())[rng.integers(0, N, N)]
        for learnt, into in ((N, squares), (None, plain)):
            chance = 1 / N + (1 / N if learnt else 0)
            seen = gaussian.seen(x)
            search = explanation.Search(gaussian, seen.mean(axis=1), np.cov(seen), chance)
            into.append(search.none().square)
    assert search is not None
    free = search.none().free
    assert np.mean(squares) == pytest.approx(free, abs=4 * math.sqrt(2 * free / 20))
    assert np.mean(plain) == pytest.approx(2 * free, abs=8 * math.sqrt(2 * free / 20))


def test_a_name_must_lower_the_square_by_more_than_it_scatters():
    simpler = Fit((), {}, 90.0, 46)
    assert Fit(("leak",), {"leak": 0.1}, 50.0, 45).decides(simpler)
    assert not Fit(("leak",), {"leak": 0.1}, 80.0, 45).decides(simpler)
    assert not Fit(("shift",), {"shift x": 0.1, "shift y": 0.0}, 62.0, 44).decides(simpler)


def test_samples_that_are_no_numbers_are_not_explained(gaussian):
    x = draw(np.random.default_rng(7), ())
    x[3] = np.nan
    assert math.isnan(Unexplained.of(x, gaussian, None).value)


SAID = {
    "shift 0.05": "shifted by 0.05 standard deviations",
    "turn -3.02": "turned by 3°",
    "blur 0.01": "blurred by noise of 0.1 standard deviations (0.01 of the truth’s variance)",
    "leak 0.0004": "leaking, 0.04 % strewn over the box",
    "temperature 1.2": "too hot, too often where the truth is thin (temperature 1.20)",
    "temperature 0.8": "too cold, too often where the truth is dense (temperature 0.80)",
    "stretch 1.05 0.998": "too wide by 5 % along x",
    "stretch 1.05 0.9": "too wide by 5 % along x and too narrow by 10 % along y",
    "mode weights 0.14": (
        "sharing itself wrongly among the modes, 14 % of the mass in the wrong one"
    ),
    "turn 3 + leak 0.03": "turned by 3° and leaking, 3 % strewn over the box",
    "turn 3 or leak 1": "turned by 3°, or leaking, 100 % strewn over the box",
    "none": "",
    "unknown": "",
    "curse 3": "",
}


@pytest.mark.parametrize("text", SAID)
def test_what_a_provenance_names_is_said(text):
    provenance = Provenance.parse(str(Provenance.of("chi2", df=46, faults=text)))
    assert in_words(provenance) == SAID[text]
    assert bool(named(provenance)) == bool(SAID[text])


def test_what_is_written_is_read_again():
    fit = Fit(("turn", "stretch"), {"turn": 0.1, "stretch x": 0.05, "stretch y": -0.1}, 1.0, 1)
    provenance = Provenance.of("chi2", faults=written(fit))
    assert named(provenance) == [{"turn": [5.73], "stretch": [1.05, 0.905]}]
