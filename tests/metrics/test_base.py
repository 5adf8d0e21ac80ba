"""What the attributes of a metric mean for its numbers."""

import math

import numpy as np
import pytest

from densitometer import metrics
from densitometer.estimates import EXACT, Estimate
from densitometer.metrics.base import below, mean


def estimate(value, stderr=0.01):
    return Estimate(value, stderr, EXACT)


def violations(name, *number):
    return list(metrics.get(name).violations(estimate(*number), {}, None))


def test_three_errors_may_take_a_number_out_of_its_range_and_no_more():
    assert not violations("bhattacharyya", 1.029)
    assert violations("bhattacharyya", 1.031) == [
        "Bhattacharyya coefficient of the samples is 1.0310 ± 0.0100, outside 0 to 1"
    ]
    assert violations("bhattacharyya", 1.031, math.nan)  # an error that is none allows nothing


def test_below_its_range_by_chance_is_only_a_mean_of_terms_of_either_sign():
    assert not violations("kl", -0.029)
    assert violations("kl", -0.031) == [
        "KL divergence is -0.0310 ± 0.0100, negative beyond its error"
    ]
    assert violations("total_variation", -0.001)  # a mean of terms that are never below 0
    assert not violations("total_variation", -1e-7)


def test_a_correct_number_is_within_its_own_error_of_what_the_truth_scores():
    entropy = estimate(1.5)
    allowed = lambda name, *number: metrics.get(name).allowed(estimate(*number), entropy)
    assert allowed("nll", 1.7, 0.1) == pytest.approx((1.5 - 0.196, 1.5 + 0.196))
    assert allowed("kl", 0.7, 0.1) == pytest.approx((-0.196, 0.196))
    assert allowed("total_variation", 0.7, 0.1) == pytest.approx((0.0, 0.196))
    assert allowed("mass", 0.7, 0.1) == pytest.approx((0.999, 1.001))  # whatever its error
    assert allowed("nfe", 99.0, 1.0) is None
    assert metrics.get("nll").allowed(estimate(1.5), None) is None


def test_one_number_is_below_another_by_three_errors_of_their_difference():
    assert below(estimate(0.0, 0.3), estimate(1.6, 0.4))  # 3 × 0.5
    assert not below(estimate(0.0, 0.3), estimate(1.4, 0.4))


def test_the_error_of_a_mean_is_that_of_independent_values():
    found = mean(np.array([1.0, 2.0, 3.0, 6.0]), EXACT)
    assert found.value == 3.0
    assert found.stderr == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
