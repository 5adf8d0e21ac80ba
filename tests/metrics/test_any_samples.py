"""What holds of every metric on samples, whatever they are: its range, and that rows are a set."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import densitometer as dm
from densitometer import metrics
from densitometer.metrics import kde, transport, two_sample
from densitometer.metrics.order import in_random_order
from densitometer.metrics.rows import Duplicates
from densitometer.models import Model, Standardiser
from densitometer.scoring import evidence
from densitometer.scoring.scorecard import score_samples

N = 150
TARGETS = ("gaussian_mixture", "checkerboard")


class Collapsed(Model):
    """A generator that gives one point, whatever the noise."""

    standardiser: Standardiser
    point: jax.Array

    def _sample(self, key):
        return self.point + 0 * jax.random.normal(key, (2,))


def true_samples(name, n=N, seed=5):
    return np.asarray(dm.targets.get(name).sample(jax.random.key(seed), n), np.float64)


def judged(name, samples):
    return evidence.judge(
        evidence.Evidence(dm.targets.get(name), 0, np.asarray(samples), n_test=200)
    )


# --- ranges


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    power=st.integers(-12, 30),
    along=st.floats(-1, 1),
    distinct=st.sampled_from([1, 2, 7, N]),
    outliers=st.sampled_from([0, 1, N // 2]),
)
def test_every_metric_is_within_its_range_for_any_finite_samples(
    name, power, along, distinct, outliers
):
    x = true_samples(name)[np.arange(N) % distinct]
    x[:outliers] *= 1e3
    x = (x + np.array([along, -along])) * 10.0**power
    card = judged(name, x)
    for metric, (value, stderr, _) in card.items():
        low, high = metrics.get(metric).range
        assert low <= value <= high + 1e-9, metric
        if not metric.startswith("kde") or np.isfinite(value):  # no spread, no estimate
            assert stderr >= 0, metric
            assert np.isfinite(stderr), metric


@pytest.mark.parametrize("name", ["gaussian_mixture", "pinwheel"])
@pytest.mark.parametrize("point", [(1.2, 0.0), (0.3, 0.2), (50.0, 50.0)])
def test_a_collapsed_generator_is_a_row_like_others(name, point):
    model = Collapsed(Standardiser.identity(2), jnp.array(point))
    card = dm.score(model, dm.targets.get(name), n_test=1000, n_samples=500)
    assert card["duplicates"].value == 499 / 500
    verdict = card.verdicts()["model"]
    assert verdict.cause == "duplicates"
    assert verdict.sentence == "repeating themselves, 99.8 % of them are copies"
    assert verdict.sentence in str(card)
    last = card.judged()[-1]
    assert (last["metric"], last["within_floor"]) == ("verdict", False)


@pytest.mark.parametrize(
    ("change", "away", "shift"),
    [
        (lambda x: x + 10, "14.1 away", np.hypot(10, 10) / 0.857),
        (lambda x: x + 1000, "1.41e+03 away", np.hypot(1000, 1000) / 0.857),
        (lambda x: (x + 2) / 4 * 255, "192 away", np.hypot(127.5, 127.5) / 0.857),
    ],
)
def test_samples_in_other_units_are_told_how_far_off_they_are(change, away, shift):
    """The standard deviation on each axis is √(1.2²/2 + 0.12²) = 0.857."""
    card = score_samples(
        change(true_samples("gaussian_mixture", 500)),
        dm.targets.get("gaussian_mixture"),
        n_test=1000,
    )
    verdict = card.verdicts()["samples"]
    assert verdict.cause == "off_support"
    assert verdict.sentence.startswith("far from the truth, 100 % of them off its support, and ")
    assert away in verdict.sentence
    assert abs(card["shift"].value - shift) < 4 * card["shift"].stderr
    assert card["leak"].value == 1.0


def test_a_shift_of_the_mean_has_the_error_of_a_mean():
    moved = [
        judged("gaussian_mixture", true_samples("gaussian_mixture", N, s) + 9) for s in range(30)
    ]
    values = [card["shift"].value for card in moved]
    errors = [card["shift"].stderr for card in moved]
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=4 * 0.13)


# --- order


@pytest.mark.parametrize("name", TARGETS)
def test_no_metric_depends_on_the_order_of_rows(name, monkeypatch):
    monkeypatch.setattr(evidence, "N_COMPARED", 120)  # the cut, too, is of a set
    monkeypatch.setattr(transport, "MATCHED", 70)
    monkeypatch.setattr(kde, "LEFT_OUT", 90)
    x = true_samples(name).astype(np.float32)
    as_drawn = judged(name, x)
    for order in (
        np.lexsort(x.T),
        np.argsort(x[:, 0])[::-1],
        np.random.default_rng(1).permutation(N),
    ):
        again = judged(name, x[order])
        for metric, estimate in as_drawn.items():
            if metric == "order":
                continue
            assert again[metric].value == pytest.approx(estimate.value, rel=1e-6, abs=1e-9), metric
            assert again[metric].stderr == pytest.approx(estimate.stderr, rel=1e-6), metric


@pytest.mark.parametrize(
    "compared",
    [
        two_sample.EnergyDistance.of,
        transport.SlicedW2.of,
        transport.W2.of,
        two_sample.C2ST.of,
        two_sample.Precision.of,
        two_sample.Recall.of,
        kde.KDELogLikelihood.of,
        kde.CrossValidatedKDELogLikelihood.of,
        lambda x, y: two_sample.MMD2.of(x, y, np.ones(2)),
    ],
)
def test_nor_does_a_metric_that_is_called_alone(compared, monkeypatch):
    monkeypatch.setattr(transport, "MATCHED", 70)
    monkeypatch.setattr(kde, "LEFT_OUT", 90)
    x, y = true_samples("gaussian_mixture"), true_samples("gaussian_mixture", seed=6)
    grouped = compared(x[np.argsort(x[:, 0])], y[np.argsort(y[:, 1])])
    assert grouped[:2] == pytest.approx(compared(x, y)[:2], rel=1e-9)


def test_samples_grouped_by_component_are_matched_as_any():
    """Half of the components alone would be further away by most of the circle's radius."""
    x, y = true_samples("gaussian_mixture", 2000), true_samples("gaussian_mixture", 2000, seed=6)
    arm = np.argsort(np.arctan2(x[:, 1], x[:, 0]))
    assert transport.W2.of(x[arm], y).value < 0.3


def test_the_order_is_random_and_that_of_the_set():
    x = np.arange(2000.0).reshape(1000, 2)
    order = in_random_order(x)
    assert np.array_equal(order, in_random_order(x[::-1].copy()))
    assert np.array_equal(np.sort(order, axis=0), x)
    ranks = order[:, 0] / 2
    # a rank correlation of 1000 has the standard error 1/√999, and so has that of two orders
    assert abs(np.corrcoef(ranks, np.arange(1000))[0, 1]) < 4 / np.sqrt(999)
    other = in_random_order(x + 1)[:, 0] / 2
    assert abs(np.corrcoef(ranks, other)[0, 1]) < 4 / np.sqrt(999)


# --- copies


def test_copies_are_counted():
    x = true_samples("gaussian_mixture")
    assert Duplicates.of(x).value == 0
    assert Duplicates.of(np.tile(x[:30], (5, 1))).value == pytest.approx(0.8)
    assert Duplicates.of(np.concatenate([x, x[:10]])).value == pytest.approx(10 / 160)


def test_repeated_points_get_no_other_name():
    few = true_samples("gaussian_mixture", 200, seed=12345)
    verdict = score_samples(np.tile(few, (10, 1)), dm.targets.get("gaussian_mixture")).verdicts()
    assert verdict["samples"].cause == "duplicates"
    assert verdict["samples"].sentence == "repeating themselves, 90 % of them are copies"


def test_a_pair_of_equal_points_is_no_reproach():
    """Rounding makes some of true samples equal."""
    x = true_samples("gaussian_mixture", 500)
    x[1] = x[0]
    card = score_samples(x, dm.targets.get("gaussian_mixture"), n_test=1000)
    assert card.verdicts()["samples"].passes
