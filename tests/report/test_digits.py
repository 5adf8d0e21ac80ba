import math

import pytest

from densitometer.findings.digits import interval, listed, plus_minus, split


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.08834, 0.0041, ("0.088", "0.004")),
        (0.08834, 0.00123, ("0.0883", "0.0012")),  # a leading 1 keeps a second digit
        (0.5, 0.096, ("0.50", "0.10")),  # rounds up to a leading 1
        (-0.0501, 0.003, ("−0.050", "0.003")),
        (-0.0001, 0.02, ("0.00", "0.02")),  # never minus nought
        (12345.6, 230.0, ("12346", "230")),
        (1.00002, 0.0, ("1.00002", "")),
        (0.0, 0.0, ("0", "")),
        (math.inf, math.nan, ("∞", "")),
        (math.nan, 1.0, ("n/a", "")),
    ],
)
def test_no_more_digits_than_the_error_allows(value, error, text):
    assert split(value, error) == text


def test_value_and_error_stay_on_one_line():
    assert plus_minus(0.0712, 0.0058, scale=100.0, unit="%").split(" ") == [
        "7.1\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.6\N{NO-BREAK SPACE}%"
    ]


def test_lists_are_english():
    assert [listed(w) for w in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


def test_an_interval_has_the_digits_that_its_length_allows():
    assert interval(0.01234, 0.00412, 0.02056) == "0.012 [0.004, 0.021]"
    assert interval(-0.5, -1.5, 0.5) == "−0.5 [−1.5, 0.5]"
    assert interval(0.2, 0.2, 0.2) == "0.2"
    assert interval(math.inf, math.inf, math.inf) == "∞"
