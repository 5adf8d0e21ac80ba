import json
import math

import fabricated
import numpy as np
import pytest

from densitometer import targets
from densitometer.errors import UsageError
from densitometer.estimates import EXACT, Provenance
from densitometer.findings.comparisons import difference
from densitometer.findings.results import Measure, Results
from densitometer.metrics.density import MARGIN, Grid


def test_no_study_is_told_in_a_sentence(tmp_path, study):
    with pytest.raises(UsageError, match="holds no study"):
        Results.read(tmp_path)
    (study / "plan.json").write_text("{}")
    with pytest.raises(UsageError, match="no plan"):
        Results.read(study)


def test_a_study_without_finished_cells(study):
    for path in study.glob("cells/*/*/*/scorecard.json"):
        path.unlink()
    with pytest.raises(UsageError, match="no finished cell"):
        Results.read(study)


def test_several_seeds_are_a_mean_and_its_error(tmp_path):
    """The error is never below what the test points give."""
    folder = fabricated.fabricate(tmp_path / "study", seeds=(0, 1, 2), names=("spiral",))
    for error in (0.001, 0.5):
        for seed, value in enumerate((0.08, 0.30, 0.09)):
            fabricated.rewrite(folder, "spiral", "dsm", seed, kl=(value, error))
        measure = Results.read(folder).measure("spiral", "dsm", "kl")
        assert measure is not None
        spread = float(np.std([0.08, 0.30, 0.09], ddof=1))
        assert measure.value == pytest.approx(0.47 / 3)
        assert measure.seeds == 3
        assert measure.error == pytest.approx(spread)
        assert measure.stderr == pytest.approx(max(spread, error) / math.sqrt(3))


def test_several_seeds_are_compared_seed_by_seed():
    """What both families owe to the data of a seed cancels; Student's t for three differences."""
    seeds = lambda *values: Measure(0.1, 0.05, 0.05, 3, EXACT, dict(enumerate(values)))
    a, b = seeds(0.10, 0.30, 0.21), seeds(0.09, 0.28, 0.20)
    got = difference(a, b)
    half = 4.302653 * np.std([0.01, 0.02, 0.01], ddof=1) / np.sqrt(3)
    assert got == pytest.approx((0.04 / 3, 0.04 / 3 - half, 0.04 / 3 + half, 3), rel=1e-5)
    assert got.sign == 0
    assert difference(a, seeds(0.09, 0.285, 0.195)).sign == 1
    assert difference(seeds(0.09, 0.285, 0.195), a).sign == -1
    assert difference(a, seeds(np.inf, 0.285, 0.195)).sign == -1  # infinite is worse


def test_the_interval_of_a_difference_holds_the_truth_nineteen_times_in_twenty():
    rng, hits, repeats = np.random.default_rng(0), 0, 2000
    for _ in range(repeats):
        common = rng.normal(size=5)
        values = common + 0.1 * rng.normal(size=(2, 5)) + np.array([[0.05], [0.0]])
        measures = [Measure(0.0, 1.0, 1.0, 5, EXACT, dict(enumerate(v))) for v in values]
        got = difference(*measures)
        hits += got.low < 0.05 < got.high
    assert hits / repeats == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / repeats))


def test_a_tie_is_a_difference_whose_interval_holds_zero():
    number = lambda value, error: Measure(value, error, error, 1, EXACT)
    assert difference(number(0.10, 0.003), number(0.109, 0.004)).sign == 0
    assert difference(number(0.10, 0.003), number(0.111, 0.004)).sign == -1
    assert difference(number(0.12, 0.0), number(0.11, 0.0)).sign == 1
    assert difference(number(np.inf, np.nan), number(np.inf, np.nan)).sign == 0


def test_bounds_are_labelled():
    assert Measure(1.0, 0.1, 0.1, 1, Provenance.parse("bound")).is_bound
    assert Measure(1.0, 0.1, 0.1, 1, Provenance.parse("importance(k=64)")).is_bound
    assert not Measure(1.0, 0.1, 0.1, 1, Provenance.parse("ode(step=0.4, mass=1.0000)")).is_bound


def test_the_picture_is_where_the_density_was_computed(finished_study):
    box = Results.read(finished_study).picture_box("pinwheel")
    grid = Grid.over(targets.get("pinwheel").box, 160, MARGIN)
    for axis, (low, high) in zip((grid.x, grid.y), box.T, strict=True):
        half = (axis[1] - axis[0]) / 2
        np.testing.assert_allclose([axis[0] - half, axis[-1] + half], [low, high])


def test_an_unfinished_json_null_is_not_a_number(study):
    fabricated.rewrite(study, "spiral", "dsm", kl=(None, None))
    measure = Results.read(study).measure("spiral", "dsm", "kl")
    assert measure is not None
    assert np.isnan(measure.value)
    assert json.loads((study / "cells/spiral/dsm/0/scorecard.json").read_text())
