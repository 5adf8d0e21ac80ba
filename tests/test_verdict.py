"""What all metrics on samples say together."""

import math

import pytest

from densitometer.estimates import Estimate, Provenance
from densitometer.scoring.floors import Floor, Floors
from densitometer.scoring.verdict import described, verdict

FLOORS = Floors(
    n=100,
    n_test=200,
    repeats=100,
    joint=2.0,
    metrics={"shift": Floor(0.0, 0.01, 0.02), "leak": Floor(-0.1, 0.0, 0.1)},
)


def found(**numbers):
    provenance = Provenance.of("samples", n=100)
    card = {name: Estimate(*number, provenance=provenance) for name, number in numbers.items()}
    return verdict(FLOORS, card)


def test_chance_allows_the_worst_of_all_metrics_its_joint_excess():
    within = found(shift=(0.01, 0.01), leak=(0.15, 0.05))
    assert within.fault is None
    assert within.excess == pytest.approx(1.5 / 2)
    assert within.sentence == "indistinguishable from the truth at n = 100"
    beyond = found(shift=(0.01, 0.01), leak=(0.25, 0.05))
    assert beyond.excess == pytest.approx(2.5 / 2)
    assert beyond.sentence == "leaking, 25 % strewn over the box"


@pytest.mark.parametrize(("error", "fault"), [(0.01, "leak"), (0.05, "shift")])
def test_a_fault_is_certain_by_the_errors_of_the_truth_times_its_own(error, fault):
    """Shift: 49 × 4.9 = 240. Leak: 9 × 90 = 810, or 9 × 18 = 162."""
    assert found(shift=(0.5, 0.1), leak=(0.9, error)).fault == fault


def test_what_is_nearly_as_certain_is_named_beside_it():
    both = found(shift=(0.5, 0.1), leak=(0.9, 0.04))  # 9 × 22.5 = 203, of 240
    assert " or " in both.sentence
    assert both.sentence.startswith("shifted by 0.5 standard deviations or leaking")
    one = found(shift=(0.5, 0.1), leak=(0.9, 0.05))  # 162
    assert one.sentence == "shifted by 0.5 standard deviations"


def test_what_chance_allows_is_no_fault_however_small_its_own_error():
    assert found(shift=(0.029, 1e-9), leak=(0.9, 0.1)).sentence.startswith("leaking")


def test_samples_that_are_no_numbers_are_wrong_before_all_else():
    got = found(leak=(0.9, 0.01), shift=(math.nan, math.nan))
    assert got.fault == "shift"
    assert got.sentence.startswith("not finite")


def test_a_number_that_is_the_size_of_no_fault_is_compared_with_the_truths():
    floor = Floor(0.1, 0.2, 0.3)
    words = "2-Wasserstein distance is 0.5, above what the truth scores, 0.1 to 0.3"
    assert described("w2", 0.5, floor) == words
    assert "below what" in described("w2", 0.05, floor)
