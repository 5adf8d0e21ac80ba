import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer.estimates import Provenance
from densitometer.models import HasDensity, Standardiser
from densitometer.scoring.baselines import KDE, Truth
from densitometer.scoring.floors import Floor, Floors
from densitometer.scoring.scorecard import Row, Scorecard, score_samples

TARGET = "gaussian_mixture"


class Changed(HasDensity):
    """The truth, but with faults to be found: a wrong constant, a wrong scale of the samples."""

    standardiser: Standardiser
    truth: Truth
    offset: float = 0.0
    stretch: float = 1.0
    density_provenance = Provenance.of("ode", step=0.4)

    def _sample(self, key):
        return self.truth._sample(key) * self.stretch

    def _log_prob(self, z):
        return self.truth._log_prob(z) + self.offset


def changed(**faults):
    truth = Truth(dm.targets.get(TARGET))
    return Changed(truth.standardiser, truth, **faults)


@pytest.fixture(scope="module")
def perfect():
    return dm.score(changed(), dm.targets.get(TARGET), n_test=2000)


def test_a_perfect_model_scores_as_the_truth(perfect):
    target = dm.targets.get(TARGET)
    assert perfect["kl"].value == pytest.approx(0, abs=1e-6)
    assert abs(perfect["nll"].value - target.entropy.value) < 4 * perfect["nll"].stderr
    assert perfect["mass"].value == pytest.approx(1, abs=1e-4)
    assert perfect["bhattacharyya"].value > 0.994
    assert abs(perfect["self_bhattacharyya"].value) < 4 * perfect["self_bhattacharyya"].stderr
    assert perfect["off_support"].value < 0.005
    for divergence in ("reverse_kl", "jensen_shannon", "total_variation", "hellinger"):
        assert perfect[divergence].value == pytest.approx(0, abs=1e-6)
    assert perfect["bhattacharyya_exact"].value == pytest.approx(1)
    assert abs(perfect["log_true_density"].value) < 4 * perfect["log_true_density"].stderr
    assert perfect.impossible() == []


def test_the_text_shows_no_floor_with_values_that_cannot_be():
    """The floor of a number on densities is the truth's value, give or take the number's error."""
    floors = Floors(2000, 10_000, 200, 1.0, {"w2": Floor(-0.1, 0.1, 0.2)})
    numbers = {"kl": (0.002, 0.004), "bhattacharyya_exact": (0.999, 0.003), "w2": (0.15, 0.01)}
    rows = [Row("t", "f", 0, m, value, error, "exact") for m, (value, error) in numbers.items()]
    text = str(Scorecard(tuple(rows), floors)).splitlines()
    shown = {line.split()[0]: line for line in text if " to " in line}
    assert "0.0000 to 0.0078" in shown["kl"]
    assert "0.9941 to 1.0000" in shown["bhattacharyya_exact"]
    assert "0.0000 to 0.2000" in shown["w2"]
    assert "-" not in shown["kl"] + shown["w2"]


def test_every_row_says_where_it_comes_from(perfect):
    assert {row.metric for row in perfect.rows} <= set(dm.metrics.METRICS)
    by_metric = {row.metric: row.provenance for row in perfect.rows}
    assert by_metric["kl"].startswith("ode(step=0.4, mass=1.0000")
    assert by_metric["bhattacharyya"] == "samples(n=2000)"
    assert by_metric["kde_log_likelihood"].startswith("kde(h=")
    assert all(row.stderr >= 0 for row in perfect.rows)


@pytest.mark.parametrize(
    ("offset", "sentence"),
    [(0.01, "negative beyond its error"), (0.01, "integrates to 1.01"), (-0.5, "integrates to")],
)
def test_a_density_off_by_a_constant_is_called_impossible(offset, sentence):
    card = dm.score(changed(offset=offset), dm.targets.get(TARGET), n_test=1000, n_samples=200)
    assert any(sentence in found for found in card.impossible())
    assert "IMPOSSIBLE" in str(card)


def test_samples_that_do_not_follow_the_density_are_found():
    card = dm.score(changed(stretch=1.05), dm.targets.get(TARGET), n_test=500)
    assert card["self_bhattacharyya"].value < -3 * card["self_bhattacharyya"].stderr
    assert card["log_true_density"].value < -3 * card["log_true_density"].stderr


def test_a_baseline_has_kl_above_zero():
    target = dm.targets.get(TARGET)
    model = KDE.fit(np.asarray(target.sample(jax.random.key(0), 500)))
    kl = dm.score(model, target, n_test=2000, n_samples=200)["kl"]
    assert kl.value > 5 * kl.stderr


def test_a_bound_is_labelled_and_lies_above_the_exact_value():
    target = dm.targets.get(TARGET)
    family = dm.families.get("vae", width=8, depth=1)
    model = family.model(family.init(jax.random.key(0), jnp.zeros((3, 2))))
    card = dm.score(model, target, n_test=200, n_samples=200)
    assert str(card["nll_elbo"].provenance) == "bound"
    assert str(card["nll_importance"].provenance) == "importance(k=64)"
    assert card["nll"].value < card["nll_importance"].value < card["nll_elbo"].value
    gap = card["nll_elbo"].value - card["nll"].value
    assert card["bound_gap"].value == pytest.approx(gap, rel=1e-5)


def test_json_round_trip_and_columns(perfect):
    entries = json.loads(perfect.to_json())
    columns = ["target", "family", "seed", "metric", "value", "stderr", "provenance"]
    assert all(list(entry) == columns for entry in entries)
    assert Scorecard.from_json(perfect.to_json()) == perfect


def test_values_that_are_not_finite_are_null_in_json():
    card = Scorecard((Row("t", "f", 0, "kl", math.inf, math.nan, "exact"),))
    assert json.loads(card.to_json())[0]["value"] is None
    assert math.isnan(Scorecard.from_json(card.to_json())["kl"].value)


def test_samples_from_anywhere_are_scored_beside_the_truth():
    target = dm.targets.get(TARGET)
    samples = np.asarray(target.sample(jax.random.key(5), 500)) * np.float32(1.2)
    card = score_samples(samples, target, n_test=500)
    value = {(row.family, row.metric): row.value for row in card.rows}
    assert value["samples", "off_support"] > value["truth", "off_support"] + 0.05
    assert value["samples", "bhattacharyya"] < value["truth", "bhattacharyya"]
    assert "samples on gaussian_mixture" in str(card)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((500, 3)), "shape"),
        (np.zeros(500), "shape"),
        (np.zeros((500, 2)), "no spread"),
        (np.full((500, 2), np.inf), "NaN or infinite"),
        (np.ones((5, 2)), "5 points"),
        ([["a", "b"]] * 200, "numbers"),
    ],
)
def test_bad_samples_are_told_in_a_sentence(samples, message):
    with pytest.raises(dm.UsageError, match=message):
        score_samples(samples, dm.targets.get(TARGET))


def test_a_model_of_another_dimension_is_told():
    family = dm.families.get("gan", width=8, depth=1)
    model = family.model(family.init(jax.random.key(0), jnp.zeros((3, 3))))
    with pytest.raises(dm.UsageError, match="dimension 3"):
        dm.score(model, dm.targets.get(TARGET))
