import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import gaussian_kde
from sklearn.mixture import GaussianMixture as Oracle

import densitometer as dm
import toy
from densitometer.metrics.kde import cross_validated_factor
from densitometer.scoring import baselines


@pytest.fixture(scope="module")
def blobs():
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0], [5, 1], [-4, 3]])
    spread = np.array([[1.0, 0.5], [0.2, 0.8]])
    return (centres[rng.integers(0, 3, 900)] + rng.normal(size=(900, 2)) @ spread).astype(
        np.float32
    )


def test_the_mixture_has_the_right_number_of_components_and_likelihood(blobs):
    model = baselines.GaussianMixture.fit(blobs)
    assert len(model.mixture.means) == 3
    oracle = Oracle(3, random_state=0, tol=1e-6, max_iter=500).fit(blobs)
    np.testing.assert_allclose(
        model.log_prob(jnp.asarray(blobs)), oracle.score_samples(blobs), atol=0.02
    )


def test_the_mixtures_samples_follow_it(blobs):
    model = baselines.GaussianMixture.fit(blobs)
    x = np.asarray(model.sample(jax.random.key(0), 9000))
    error = blobs.std(axis=0) * np.sqrt(2 / 900)
    assert np.all(np.abs(x.mean(axis=0) - blobs.mean(axis=0)) < 4 * error)
    np.testing.assert_allclose(np.cov(x.T), np.cov(blobs.T), rtol=0.15, atol=0.15)


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


def test_the_truth_is_its_target():
    target = dm.targets.get("gaussian_mixture")
    model = baselines.Truth(target)
    x = model.sample(jax.random.key(0), 100)
    assert np.array_equal(model.log_prob(x), target.log_prob(x))
