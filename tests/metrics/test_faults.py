"""Sizes of faults against the faults planted, where everything is Gaussian."""

import math
from typing import Any, cast

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from densitometer.metrics import faults
from densitometer.metrics.grids import Grid, GridDensity

BOX = ((-6.0, -9.0), (6.0, 9.0))
SD = np.array([1.0, 1.5])
N = 4000


@pytest.fixture(scope="module")
def truth():
    grid = Grid.over(BOX, 300, 0.0)
    log_p = cast(Any, multivariate_normal)([0, 0], np.diag(SD**2)).logpdf(grid.points)
    return GridDensity.of(grid, log_p.reshape(300, 300))


MEASURE = {
    "shift": faults.Shift.of,
    "blur": faults.Blur.of,
    "temperature": faults.Temperature.of,
    "leak": lambda x, truth: faults.Leak.of(x, truth, BOX),
}
PERFECT = {"shift": 0.0, "blur": 0.0, "temperature": 1.0, "leak": 0.0}


def draw(rng, fault=None, size=0.0):
    x = rng.normal(size=(N, 2))
    if fault == "shift":
        x = x + size * np.array([0.6, -0.8])
    if fault == "blur":
        x = x + math.sqrt(size) * rng.normal(size=(N, 2))
    if fault == "temperature":
        x = x * math.sqrt(size)
    x = x * SD
    if fault == "leak":
        stray = rng.random(N) < size
        x = np.where(stray[:, None], rng.uniform(*BOX, (N, 2)), x)
    return x


@pytest.mark.parametrize(
    ("fault", "size"),
    [("shift", 0.1), ("blur", 0.04), ("temperature", 1.05), ("temperature", 0.95), ("leak", 0.03)],
)
def test_a_small_fault_has_its_size(truth, fault, size):
    rng = np.random.default_rng(0)
    got = [MEASURE[fault](draw(rng, fault, size), truth)[:2] for _ in range(20)]
    values, errors = np.array(got).T
    # θ̂ is right to first order in the fault; the second is at most its square here
    slack = (size - PERFECT[fault]) ** 2
    assert abs(values.mean() - size) < 4 * errors.mean() / math.sqrt(20) + slack
    # the standard error of a standard deviation of 20 is 16 % of it
    assert errors.mean() == pytest.approx(values.std(ddof=1), rel=4 * 0.16)
    assert abs(size - PERFECT[fault]) > 2 * errors.mean()


def test_the_truth_has_no_faults(truth):
    rng = np.random.default_rng(1)
    cards = [
        {f: measure(x, truth) for f, measure in MEASURE.items()}
        for x in (draw(rng) for _ in range(20))
    ]
    for fault, perfect in PERFECT.items():
        z = [(card[fault].value - perfect) / card[fault].stderr for card in cards]
        if fault == "shift":  # a length of two components: its square is χ² of 2
            assert np.mean(np.square(z)) == pytest.approx(2, abs=4 * 2 / math.sqrt(20))
        else:
            assert abs(np.mean(z)) < 4 / math.sqrt(20)


@pytest.mark.parametrize("fault", ["shift", "blur", "leak"])
def test_a_law_with_edges_shows_faults_of_no_size_too_small_to_smooth(fault):
    """A square has no slope, but after smoothing it has."""
    grid = Grid.over(((-1.0, -1.0), (1.0, 1.0)), 300, 0.5)
    inside = (np.abs(grid.points) <= 1).all(axis=1).reshape(300, 300)
    square = GridDensity.of(grid, np.where(inside, 0.0, -np.inf))
    assert square.is_flat
    rng = np.random.default_rng(0)
    sd, box = 1 / math.sqrt(3), ((-2.0, -2.0), (2.0, 2.0))
    x = rng.uniform(-1, 1, (N, 2))
    stray = rng.random((N, 1)) < 0.02
    planted, size, measure = {
        "shift": (x + np.array([0.04 * sd, 0]), 0.04, faults.Shift.of),
        "blur": (x + 0.1 * sd * rng.normal(size=x.shape), 0.01, faults.Blur.of),
        "leak": (
            np.where(stray, rng.uniform(*box, (N, 2)), x),
            0.02,
            lambda x, law: faults.Leak.of(x, law, box),
        ),
    }[fault]
    good, bad = measure(x, square), measure(planted, square)
    assert good.value < 3 * good.stderr
    assert bad.value > 4 * bad.stderr
    assert bad.value == pytest.approx(size, abs=4 * bad.stderr)


def test_no_stray_point_drowns_the_rest(truth):
    x = draw(np.random.default_rng(2))
    x[0] = [5.9, -8.9]
    for fault in ("shift", "blur", "temperature"):
        got = MEASURE[fault](x, truth)
        assert abs(got.value - PERFECT[fault]) < 4 * got.stderr
