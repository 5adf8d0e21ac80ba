import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.mixture import GaussianMixture as Oracle

import densitometer as dm
import toy
from densitometer.gaussian import Converged
from densitometer.metrics.kde import cross_validated_factor
from densitometer.scoring import baselines
from densitometer.study.plan import REFERENCES


def draws(seed, n):
    rng = np.random.default_rng(seed)
    centres = np.array([[0, 0], [5, 1], [-4, 3]])
    spread = np.array([[1.0, 0.5], [0.2, 0.8]])
    return (centres[rng.integers(0, 3, n)] + rng.normal(size=(n, 2)) @ spread).astype(np.float32)


@pytest.fixture(scope="module", autouse=True)
def few_sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "COMPONENTS", (1, 2, 3, 5, 7))
        yield


@pytest.fixture(scope="module")
def blobs():
    return draws(0, 900)


@pytest.fixture(scope="module")
def fresh():
    return draws(1, 3000)


def test_a_study_has_them_all():
    assert tuple(baselines.BASELINES) == REFERENCES[1:]


# --- Gaussian mixtures


def test_the_mixture_has_the_right_number_of_components_and_likelihood(blobs, fresh):
    model = baselines.GaussianMixture.fit(blobs, fresh)
    assert len(model.mixture.means) == 3
    oracle = Oracle(3, random_state=0, tol=1e-6, max_iter=500).fit(blobs)
    log_prob, expected = model.log_prob(jnp.asarray(blobs)), oracle.score_samples(blobs)
    np.testing.assert_allclose(log_prob, expected, rtol=0.02)  # the ridge makes tails wider
    assert np.mean(log_prob) == pytest.approx(np.mean(expected), abs=0.002)


def test_the_mixtures_samples_follow_it(blobs, fresh):
    model = baselines.GaussianMixture.fit(blobs, fresh)
    x = np.asarray(model.sample(jax.random.key(0), 9000))
    error = blobs.std(axis=0) * np.sqrt(2 / 900)
    assert np.all(np.abs(x.mean(axis=0) - blobs.mean(axis=0)) < 4 * error)
    np.testing.assert_allclose(np.cov(x.T), np.cov(blobs.T), rtol=0.15, atol=0.15)


@pytest.mark.parametrize(("size", "start"), [(1, 3), (3, 2), (7, 0)])
def test_size_and_start_are_chosen_by_hold_out_points(monkeypatch, size, start):
    """Of fits that are unit Gaussians around (size, start) the nearest to hold-out points wins."""

    def em(points, k, *, seed, tolerance):
        return Converged(np.ones(1), np.array([[k, seed]], float), np.eye(2)[None])

    monkeypatch.setattr(baselines, "converged", em)
    train = np.random.default_rng(0).normal(size=(200, 2))
    model = baselines.GaussianMixture.fit(train, train + np.array([size, start]))
    np.testing.assert_array_equal(model.mixture.means, [[size, start]])


def test_a_component_has_two_points_for_each_dimension(monkeypatch):
    sizes = set()
    em = baselines.converged
    seen = lambda points, k, **how: sizes.add(k) or em(points, k, **how)
    monkeypatch.setattr(baselines, "converged", seen)
    rounded = np.random.default_rng(1).integers(0, 5, (400, 2)).astype(float)  # 25 places
    baselines.GaussianMixture.fit(rounded, rounded)
    assert sizes == {1, 2, 3, 5}  # six are possible


def test_the_mean_of_the_ten_best_mixtures_is_the_mean_of_their_densities(blobs, fresh):
    points, others = blobs.astype(float), fresh.astype(float)
    fits = baselines._fits(points.tobytes(), others.tobytes(), 2)
    quality = [fit.log_prob(others).mean() for fit in fits]
    assert quality == sorted(quality, reverse=True)
    expected = np.log(np.mean([np.exp(fit.log_prob(others)) for fit in fits[:10]], axis=0))
    model = baselines.BASELINES["gmm_mean"](blobs, fresh)
    np.testing.assert_allclose(model.log_prob(jnp.asarray(fresh)), expected, atol=1e-3)


# --- kernel density estimates


def test_the_kde_is_scipys_with_the_cross_validated_factor(blobs):
    model = baselines.KDE.fit(blobs)
    oracle = gaussian_kde(blobs.T.astype(float), bw_method=cross_validated_factor(blobs))
    x = toy.gaussian(0, 50)
    np.testing.assert_allclose(
        model.log_prob(jnp.asarray(x)), oracle.logpdf(x.T), rtol=1e-3, atol=1e-3
    )
    drawn = np.asarray(model.sample(jax.random.key(0), 4000))
    nearest = np.linalg.norm(drawn[:, None] - blobs[None], axis=2).min(axis=1)
    assert np.median(nearest) < 0.5
    assert np.all(nearest > 0)


def narrow_and_wide(seed, n):
    """Half N(0, 0.1² I), half N((2, 0), I): no single width suits both."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2))
    x[::2] *= 0.1
    x[1::2, 0] += 2
    return x


@pytest.fixture(scope="module")
def adaptive():
    return baselines.KDE.fit_adaptive(narrow_and_wide(0, 200), narrow_and_wide(1, 200))


def test_the_widths_of_the_adaptive_kde_are_abramsons(adaptive):
    points = narrow_and_wide(0, 200)
    pilot = gaussian_kde(points.T, bw_method=2 * cross_validated_factor(points)).logpdf(points.T)
    expected = np.exp(-0.5 * (pilot - pilot.mean()))
    np.testing.assert_allclose(adaptive.widths, expected, rtol=1e-3)
    shape = adaptive.factor @ adaptive.factor.T
    np.testing.assert_allclose(shape / shape[0, 0], np.cov(points.T) / np.cov(points.T)[0, 0])


def test_the_adaptive_kde_is_a_density_that_its_samples_follow(adaptive):
    step = 0.04
    axes = np.arange(-5, 9, step), np.arange(-6, 6, step)
    grid = np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, 2)
    mass = np.exp(adaptive.log_prob(jnp.asarray(grid))) * step**2
    assert mass.sum() == pytest.approx(1, abs=1e-4)
    drawn = np.asarray(adaptive.sample(jax.random.key(0), 4000))
    for radius in (0.25, 0.5, 2.0, 4.0):
        share = np.mean(np.linalg.norm(drawn, axis=1) < radius)
        expected = mass[np.linalg.norm(grid, axis=1) < radius].sum()
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / 4000) + 0.01


def test_the_adaptive_kde_is_closer_where_widths_differ(adaptive):
    x = jnp.asarray(narrow_and_wide(2, 2000))
    fixed = baselines.KDE.fit(narrow_and_wide(0, 200))
    gain = np.asarray(adaptive.log_prob(x) - fixed.log_prob(x))
    assert gain.mean() > 4 * gain.std() / math.sqrt(2000)


def test_without_sensitivity_the_adaptive_kde_is_the_fixed_one(monkeypatch, blobs):
    monkeypatch.setattr(baselines, "SENSITIVITIES", (0.0,))
    model = baselines.KDE.fit_adaptive(blobs, draws(1, 300))
    assert np.all(model.widths == 1)
    h = float(model.factor[0, 0]) / blobs[:, 0].std(ddof=1)
    x = toy.gaussian(0, 50)
    oracle = gaussian_kde(blobs.T.astype(float), bw_method=h)
    np.testing.assert_allclose(
        model.log_prob(jnp.asarray(x)), oracle.logpdf(x.T), rtol=1e-3, atol=1e-3
    )


def test_the_bandwidth_of_the_adaptive_kde_is_chosen_by_hold_out_points():
    """To its own points the nearest density is the narrowest."""
    points = narrow_and_wide(0, 200)
    honest = baselines.KDE.fit_adaptive(points, narrow_and_wide(1, 200))
    fooled = baselines.KDE.fit_adaptive(points, points)
    assert fooled.factor[0, 0] < honest.factor[0, 0] / 5


def test_a_far_point_that_the_pilot_has_not_seen_has_a_finite_width(monkeypatch):
    monkeypatch.setattr(baselines, "LEFT_OUT", 90)
    monkeypatch.setattr(baselines, "SENSITIVITIES", (0.5,))
    points = np.concatenate([narrow_and_wide(0, 300), [[300.0, 0.0]]])
    model = baselines.KDE.fit_adaptive(points, narrow_and_wide(1, 100))
    assert np.all(np.isfinite(model.widths))
    assert model.widths[-1] == pytest.approx(float(np.max(model.widths)))


# --- all of them


def test_training_and_hold_out_points_are_of_one_space(blobs):
    for fit in (baselines.GaussianMixture.fit, baselines.KDE.fit_adaptive):
        with pytest.raises(dm.UsageError, match="train has dimension 2 but holdout 1; "):
            fit(blobs, blobs[:, :1])


def test_the_truth_is_its_target():
    target = dm.targets.get("gaussian_mixture")
    model = baselines.Truth(target)
    x = model.sample(jax.random.key(0), 100)
    assert np.array_equal(model.log_prob(x), target.log_prob(x))
