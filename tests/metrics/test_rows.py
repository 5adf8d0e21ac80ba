"""What a table of samples betrays: copies, order, rounding."""

import math

import jax
import numpy as np
import pytest

import densitometer as dm
from densitometer import metrics
from densitometer.metrics.memory import Memorised, in_words
from densitometer.metrics.rows import Duplicates, Order, Rounding
from densitometer.scoring.evidence import Evidence
from densitometer.scoring.scorecard import score_samples


def true_samples(name, n, seed=5):
    return np.asarray(dm.targets.get(name).sample(jax.random.key(seed), n), np.float64)


# --- rounding


@pytest.mark.parametrize(("decimals", "step"), [(0, 1.0), (2, 0.01), (3, 0.001), (5, 1e-5)])
def test_the_step_of_rounding_is_found(decimals, step):
    x = true_samples("pinwheel", 300)
    assert Rounding.of(np.round(x, decimals).astype(np.float32)).value == pytest.approx(step)
    assert Rounding.of(x.astype(np.float32)).value == 0


def test_rounding_puts_no_true_sample_off_the_support():
    """Without it 65 % of such samples of the checkerboard fail: an edge is within half a step."""
    target = dm.targets.get("checkerboard")
    x = np.round(true_samples("checkerboard", 2000), 2).astype(np.float32)
    assert np.isneginf(np.asarray(target.log_prob(x))).any()
    off = metrics.get("off_support")
    assert off(Evidence(target, 0, x)).value == 0
    x[:20] = [1.0, -1.0]  # the middle of a light square
    assert off(Evidence(target, 0, x)).value == 0.01


def test_rounded_samples_repeat_themselves_as_rounded_true_ones_do():
    target = dm.targets.get("pinwheel")
    x = np.round(true_samples("pinwheel", 2000), 2).astype(np.float32)
    assert Duplicates.of(x).value > 0.1
    duplicates = metrics.get("duplicates")
    found = duplicates(Evidence(target, 0, x))
    assert abs(found.value) < 4 * found.stderr
    half = np.concatenate([x[:1000], x[:1000]])
    assert duplicates(Evidence(target, 0, half)).value > 0.3


# --- order


@pytest.mark.parametrize("memory", [0.0, 0.5])
def test_order_is_the_autocorrelation_of_a_chain(memory):
    """An autoregressive chain on two axes that correlate by .6: 100 of them, and their scatter."""
    values, errors = [], []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(600, 2)) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
        x = np.zeros((600, 2))
        for i in range(1, 600):
            x[i] = memory * x[i - 1] + math.sqrt(1 - memory**2) * noise[i]
        found = Order.of(x[100:] * [1.0, 30.0])
        values.append(found.value)
        errors.append(found.stderr)
    scatter = np.std(values, ddof=1)
    assert np.mean(values) == pytest.approx(
        memory, abs=float(4 * scatter / 10 + 0.01)
    )  # biased by 1/n
    if memory == 0:
        assert np.mean(errors) == pytest.approx(scatter, rel=4 / math.sqrt(200))


def test_the_error_of_order_knows_how_the_axes_correlate():
    x = np.random.default_rng(0).normal(size=(500, 2)) @ np.array([[1.0, 0.9], [0.0, 0.4]])
    r = float(np.asarray(np.corrcoef(x.T))[0, 1])
    assert Order.of(x).stderr == pytest.approx(math.sqrt((2 + 2 * r**2) / 500) / 2)


def test_a_sorted_file_is_remarked_and_not_blamed():
    target = dm.targets.get("gaussian_mixture")
    x = true_samples("gaussian_mixture", 2000, 3)
    ordered = score_samples(x[np.argsort(x[:, 0])], target).verdicts()
    assert ordered["samples"].passes
    assert "neighbouring rows depend on each other (correlation 0." in ordered["samples"].sentence
    assert ordered["truth"].passes
    assert "neighbouring rows" not in ordered["truth"].sentence


# --- copies of the training points


def test_the_memorised_share_is_that_of_copies_and_its_error_is_their_scatter():
    """Copies of a tenth of the samples, each beside fresh training points."""
    values, errors = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        train, fresh = rng.normal(size=(2, 400, 2)) * [1.0, 50.0]
        x = rng.normal(size=(400, 2)) * [1.0, 50.0]
        x[:40] = train[:40]
        found = Memorised.of(x, train, fresh, np.array([1.0, 50.0]))
        values.append(found.value)
        errors.append(found.stderr)
    assert np.mean(values) == pytest.approx(0.1, abs=float(4 * np.std(values) / math.sqrt(60)))
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=4 / math.sqrt(120))


def test_memorised_points_that_are_equally_near_are_neither_nearer_nor_further():
    train = np.random.default_rng(0).normal(size=(200, 2))
    assert Memorised.of(train[:100], train, train[100:], np.ones(2)).value == 0


def test_the_memorised_share_has_the_error_of_both_samples():
    """Of n and m draws alike it is √((n + m + 1) / (3 n m))."""
    rng = np.random.default_rng(0)
    train, x, fresh = (rng.normal(size=(n, 2)) for n in (400, 1000, 50))
    found = Memorised.of(x, train, fresh, np.ones(2)).stderr
    assert found == pytest.approx(math.sqrt(1051 / 3 / 50_000), rel=0.15)


def test_who_is_further_away_than_fresh_points_has_not_memorised():
    rng = np.random.default_rng(0)
    train, fresh, x = rng.normal(size=(3, 1000, 2))
    found = Memorised.of(1.5 * x, train, fresh, np.ones(2))
    assert found.value < -0.05
    low, high = Memorised().allowed(found, None)
    assert low <= found.value <= high
    assert Memorised.of(x, train, train, np.ones(2)).value < -0.9  # the fresh ones are copies


def test_training_points_given_out_as_samples_are_told():
    target = dm.targets.get("spiral")
    train = true_samples("spiral", 2000, 8)
    x = train + 0.01 * np.random.default_rng(0).normal(size=train.shape)
    found = score_samples(x, target, train=train).verdicts()["samples"]
    assert not found.passes
    assert "nearer to the training points than fresh draws are" in found.sentence
    fresh = true_samples("spiral", 2000, 9)
    assert score_samples(fresh, target, train=train).verdicts()["samples"].passes
    assert in_words(0.25).endswith("as if 25 % of them were copies")
