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


def card(faults="", train=0, memorised=(0.0, 0.02), **numbers):
    provenance = Provenance.of("samples", n=100)
    found = {name: Estimate(number[0], number[1], provenance) for name, number in numbers.items()}
    if faults:
        value = 5.0 if faults == "unknown" else 0.6
        found["unexplained"] = Estimate(value, 0.1, Provenance.of("chi2", df=9, faults=faults))
    if train:
        found["memorised"] = Estimate(
            memorised[0], memorised[1], Provenance.of("samples", n=100, train=train)
        )
    return found


def found(**what):
    return verdict(FLOORS, card(**what))


def test_chance_allows_the_worst_of_all_metrics_its_joint_excess():
    within = found(shift=(0.01, 0.01), leak=(0.15, 0.05))
    assert within.passes
    assert within.cause is None
    assert within.excess == pytest.approx(1.5 / 2)
    assert within.sentence == "indistinguishable from the truth at n = 100"
    beyond = found(shift=(0.01, 0.01), leak=(0.25, 0.05), faults="leak 0.25")
    assert beyond.excess == pytest.approx(2.5 / 2)
    assert beyond.cause == "leak"
    assert beyond.sentence == "leaking, 25 % strewn over the box"


def test_a_fault_is_named_if_it_explains_the_rest_and_not_else():
    named = found(shift=(0.5, 0.1), leak=(0.9, 0.1), faults="turn 12 + leak 0.1")
    assert named.sentence == "turned by 12° and leaking, 10 % strewn over the box"
    for unknown in ("unknown", "none", ""):
        told = found(shift=(0.5, 0.1), leak=(0.9, 0.1), faults=unknown)
        assert told.cause == "shift"
        assert told.sentence == (
            "different from the truth in no way that has a name; furthest off: "
            "Shift is 0.5, above what the truth scores, 0 to 0.02"
        )


def test_a_learner_is_allowed_the_chance_of_its_training_points():
    """Half-widths of .1 and √(1 + 100/50) = 1.73 times as much, twice of which chance allows."""
    learner = lambda leak: found(leak=(leak, 0.1), faults="none", train=50)
    assert not found(leak=(0.25, 0.1), faults="none").passes
    assert learner(0.25).passes
    assert learner(0.25).excess == pytest.approx(2.5 / 2 / math.sqrt(3))
    assert learner(0.25).sentence == "as close to the truth as those of an ideal learner"
    assert learner(0.15).sentence.startswith("indistinguishable from the truth")
    assert learner(0.34).passes
    assert not learner(0.36).passes


def test_copies_of_training_points_are_told_alone_or_beside_the_rest():
    alone = found(leak=(0.0, 0.1), faults="none", train=100, memorised=(0.3, 0.02))
    assert alone.cause == "memorised"
    assert alone.sentence.startswith("nearer to the training points than fresh draws are, as if 30")
    both = found(leak=(0.5, 0.1), faults="leak 0.5", train=100, memorised=(0.3, 0.02))
    assert both.sentence.startswith("leaking, 50 % strewn over the box, and nearer to the")
    assert found(leak=(0.0, 0.1), train=100, memorised=(-0.9, 0.02)).passes


def test_a_remark_counts_against_nobody():
    rounded = {"rounding": (0.001, 0.0), "order": (0.5, 0.1)}
    told = found(leak=(0.0, 0.1), **rounded)
    assert told.passes
    first, *remarks = told.sentence.split("; ")
    assert first == "indistinguishable from the truth at n = 100"
    assert remarks[0] == "rounded to steps of 0.001"
    assert remarks[1].startswith("neighbouring rows depend on each other (correlation 0.50)")
    assert ";" not in found(leak=(0.0, 0.1), rounding=(0.0, 0.0), order=(0.3, 0.1)).sentence


def test_shares_of_modes_nearer_than_chance_brings_them_are_no_fault():
    floors = Floors(100, 200, 100, 2.0, {"mode_weights": Floor(0.01, 0.02, 0.03)})
    assert verdict(floors, card(mode_weights=(0.0, 0.01))).passes
    assert not verdict(floors, card(mode_weights=(0.05, 0.01))).passes


def test_samples_that_are_no_numbers_are_wrong_before_all_else():
    got = found(leak=(0.9, 0.01), shift=(math.nan, math.nan), faults="leak 0.9")
    assert got.cause == "shift"
    assert got.sentence.startswith("not finite")


def test_a_number_beyond_its_floor_is_compared_with_the_truths():
    floor = Floor(0.1, 0.2, 0.3)
    words = "2-Wasserstein distance is 0.5, above what the truth scores, 0.1 to 0.3"
    assert described("w2", 0.5, floor) == words
    assert "below what" in described("w2", 0.05, floor)
