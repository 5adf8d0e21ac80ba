"""Models are compared point by point or seed by seed, and all differences hold together."""

import math

import fabricated
import numpy as np
import pytest
from scipy.stats import studentized_range

from densitometer.estimates import EXACT
from densitometer.findings import ranking
from densitometer.findings.comparisons import (
    by_errors,
    by_points,
    critical_of_points,
    critical_of_seeds,
)
from densitometer.findings.results import Measure, Results
from densitometer.study.plan import REFERENCES


def of_seeds(**values):
    return by_errors({m: Measure(0.0, 0.1, 0.1, 9, EXACT, v) for m, v in values.items()})


def test_what_is_hard_for_both_models_cancels():
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=1000), 0.1 * rng.normal(size=(2, 1000))
    terms = {"a": shared + own[0], "b": shared + own[1] + 0.02}
    got = by_points(terms, seed=3).difference("a", "b")
    differences = terms["a"] - terms["b"]
    half = 1.959964 * differences.std(ddof=1) / math.sqrt(1000)
    mean = differences.mean()
    assert got == pytest.approx((mean, mean - half, mean + half, 1))
    assert got.sign == -1


def test_the_largest_of_all_differences_is_that_of_the_studentised_range():
    for k in (3, 8):
        tukey = studentized_range.ppf(0.95, k, np.inf) / math.sqrt(2)
        assert critical_of_points(np.eye(k)) == pytest.approx(tukey, rel=0.02)
    assert critical_of_points(np.diag([1.0, 2.0])) == pytest.approx(1.959964)
    assert critical_of_seeds(8, 200) == pytest.approx(
        studentized_range.ppf(0.95, 8, 199) / math.sqrt(2), rel=0.02
    )
    assert critical_of_seeds(2, 5) == pytest.approx(2.776445)


def test_of_equal_models_one_is_called_worse_in_one_target_of_twenty():
    """Six models with correlated errors of unequal size; six whose seeds scatter unequally."""
    rng, repeats = np.random.default_rng(1), 1500
    root = rng.normal(size=(6, 6)) * np.geomspace(0.3, 3, 6)[:, None]
    covariance = root @ root.T
    c = critical_of_points(covariance)
    errors = rng.normal(size=(repeats, 6)) @ root.T
    variance = np.diag(covariance)
    spread = np.sqrt(variance[:, None] + variance - 2 * covariance) + np.eye(6)
    largest = np.abs(errors[:, :, None] - errors[:, None]) / spread
    alarms = np.mean(largest.max(axis=(1, 2)) > c)
    assert alarms == pytest.approx(0.05, abs=4 * math.sqrt(0.05 * 0.95 / repeats))

    alarms = 0
    for _ in range(repeats // 3):
        fits = np.geomspace(0.3, 3, 6) * rng.normal(size=(5, 6)) + rng.normal(size=(5, 1))
        comparison = of_seeds(**{str(i): dict(enumerate(v)) for i, v in enumerate(fits.T)})
        best = str(np.argmin(fits.mean(axis=0)))
        alarms += any(comparison.sign(str(i), best) > 0 for i in range(6))
    assert alarms / (repeats // 3) < 0.05 + 4 * math.sqrt(0.05 * 0.95 / (repeats // 3))


def test_an_infinite_or_missing_value_is_no_tie_and_no_win():
    terms = {"a": np.array([0.1, 0.2]), "b": np.array([0.1, np.inf]), "c": np.array([np.inf, 0.0])}
    comparison = by_points(terms | {"d": np.array([0.3, np.nan])}, seed=0)
    assert comparison.sign("a", "b") == -1
    assert comparison.sign("b", "a") == 1
    undecided = comparison.difference("b", "c")
    assert math.isnan(undecided.value)
    assert (undecided.low, undecided.high, undecided.sign) == (-math.inf, math.inf, 0)
    assert comparison.sign("a", "d") == 0
    assert comparison.finite == ("a",)

    seeds = of_seeds(a={0: 0.1, 1: 0.2, 2: 0.1}, b={0: 0.1, 1: math.inf, 2: 0.1}, c={7: 1.0})
    assert seeds.sign("b", "a") == 1
    alone = of_seeds(a={0: 0.1, 1: 0.2}, b={1: 0.9}).difference("a", "b")
    assert alone[:3] == (pytest.approx(-0.7), -math.inf, math.inf)
    assert seeds.sign("a", "nobody") == 0
    missing = seeds.difference("a", "c")
    assert math.isnan(missing.value)
    assert missing.sign == 0


def test_an_infinite_divergence_is_not_among_the_best(plant):
    plant("spiral", "dsm", kl=(None, None))
    results = plant("spiral", "vae", kl=("Infinity", None))
    assert ranking.best(results, "spiral", "kl") == ()


def test_a_study_of_one_seed_is_compared_at_its_test_points(plant, study):
    """Errors of 0.006 nats leave a tie where the shared points show a difference of 0.003."""
    rng = np.random.default_rng(0)
    log_p, hard = rng.normal(size=2000), 0.25 * rng.normal(size=2000)
    for number, family in enumerate((*REFERENCES, "dsm", "vae")):
        terms = hard + 0.02 * rng.normal(size=2000) if number else np.zeros(2000)
        terms += {"truth": 0.0, "dsm": 0.080, "vae": 0.083}.get(family, 0.2) - terms.mean()
        folder = study / "cells" / "spiral" / family / "0"
        nothing = np.full(2, np.nan)
        plant("spiral", family, kl=(terms.mean(), terms.std() / math.sqrt(2000)))
        assert ranking.best(Results.read(study), "spiral", "kl") in ((), ("dsm",), ("dsm", "vae"))
        np.savez(folder / "test_densities.npz", log_p=log_p, log_q=log_p - terms, overlap=nothing)
    results = Results.read(study)
    assert ranking.best(results, "spiral", "kl") == ("dsm",)
    got = ranking.comparison(results, "spiral", "kl").difference("vae", "dsm")
    assert got.value == pytest.approx(0.003, abs=1e-6)
    assert 0 < got.low < got.high < 0.006
    (study / "cells" / "spiral" / "gmm" / "0" / "test_densities.npz").unlink()
    assert ranking.best(Results.read(study), "spiral", "kl") == ("dsm", "vae")


def test_as_many_seeds_miss_a_floor_as_chance_allows():
    assert ranking.chance_allows(0, 1, 0.05)
    assert not ranking.chance_allows(1, 1, 0.05)
    assert ranking.chance_allows(1, 5, 0.05)
    assert not ranking.chance_allows(2, 5, 0.05)
    assert ranking.chance_allows(2, 20, 0.05)
    assert not ranking.chance_allows(4, 20, 0.05)


def test_several_seeds_are_marked_seed_by_seed(tmp_path):
    """A mean of five within the floor of one says nothing: each seed is compared with its own."""
    folder = fabricated.fabricate(tmp_path / "study", seeds=range(5), names=("checkerboard",))
    floor = Results.read(folder).floors("checkerboard").metrics["bhattacharyya"]  # pyright: ignore
    low, high = floor.low - 0.002, floor.high + 0.002
    for seed, value in enumerate((low, high, low, high, floor.median)):
        fabricated.rewrite(folder, "checkerboard", "vae", seed, bhattacharyya=(value, 0.001))
    results = Results.read(folder)
    measure = results.measure("checkerboard", "vae", "bhattacharyya")
    assert measure is not None
    assert floor.holds(measure.value)
    assert not ranking.within_floor(results, "checkerboard", "vae", "bhattacharyya")
