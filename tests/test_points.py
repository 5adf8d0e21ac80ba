"""Arrays of points from outside: honoured to the last digit that matters, or refused."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer.models import HasDensity, Standardiser
from densitometer.points import check_batch, check_points, check_spread
from densitometer.scoring.baselines import KDE, GaussianMixture
from densitometer.scoring.scorecard import check_samples

TARGET = dm.targets.get("gaussian_mixture")
FAMILY = toy.MeanFamily(steps=20)
GOOD = np.random.default_rng(0).normal(size=(200, 2))


class Frame:
    """What a table of columns of several types is to numpy, as pandas has it."""

    def __array__(self, dtype=None, copy=None):
        return np.array([[0.5, "a"]] * 200, object)


@pytest.mark.parametrize(
    ("points", "sentence"),
    [
        (GOOD + 0j, "x holds complex128, not real numbers"),
        (GOOD > 0, "x holds bool, not real numbers"),
        (GOOD.astype(str), "x holds <U32, not real numbers"),
        (GOOD.astype(object), "x holds object, not real numbers"),
        (GOOD.astype("datetime64[s]"), r"x holds datetime64\[s\], not real numbers"),
        (GOOD.astype("timedelta64[s]"), r"x holds timedelta64\[s\], not real numbers"),
        (Frame(), "x holds object, not real numbers"),
        ([[1, 2]] * 9 + [[10**30, 2]], "x holds object, not real numbers"),
        (np.ma.masked_greater(GOOD, 1), "x has masked values; remove their rows"),
        ([[1.0, 2.0], [3.0]], "x must be an array of numbers of shape"),
        (GOOD[:, 0], r"one point a row, got \(200,\)"),
        (GOOD[:, :0], r"one point a row, got \(200, 0\)"),
        (GOOD[:9], "x has 9 points; give at least 10"),
        (
            np.where(GOOD[7] == GOOD, np.nan, GOOD),
            "1 point with NaN or infinite values, first in row 7",
        ),
        (np.where(GOOD[3] == GOOD, 1e39, GOOD), "1 point with numbers beyond 3.4e.38, .* in row 3"),
        (np.where(GOOD > 0, np.longdouble("1e400"), 1.0), "NaN or infinite"),
        (np.arange(40).reshape(20, 2) + 2**53 - 9, r"beyond 2\^53, .* first in row 5"),
        (np.uint64(2**64 - 1) - np.arange(40, dtype=np.uint64).reshape(20, 2), r"beyond 2\^53"),
    ],
)
def test_what_is_no_point_is_refused_in_a_sentence(points, sentence):
    with pytest.raises(dm.UsageError, match=sentence):
        check_points(points, "x")


@pytest.mark.parametrize(
    "kind", ["f2", ">f4", "f8", "g", "i1", "u2", ">i8", jnp.bfloat16, jnp.float32]
)
def test_real_numbers_of_any_type_are_the_same_numbers(kind):
    points = np.arange(40).reshape(20, 2)
    found = check_points(points.astype(kind), "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, points)


def test_nothing_is_rounded():
    points = 4_649_776 + 1e-3 * GOOD
    np.testing.assert_array_equal(check_points(points.tolist(), "x"), points)
    np.testing.assert_array_equal(check_points(np.ma.array(points), "x"), points)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        (np.full(200, 0.1), r"x has no spread along axis 1 \(counted from 0\)"),
        (
            4_649_776 + GOOD[:, 1],
            r"column 1 \(counted from 0\) is 4.*e\+06 .* subtract 4649776\.\d+",
        ),
        (GOOD[:, 1] * 1e31, "standard deviation of .*e.31, .* multiply it"),
        (GOOD[:, 1] * 1e-31, "standard deviation of .*e-31, .* multiply it"),
        (GOOD[:, 1] * 1e-200, "standard deviation of 0, .* multiply it"),
        (
            np.where(np.arange(200) == 7, -1e10, GOOD[:, 1]),
            r"row 7 \(counted from 0\) is 9.*e\+09 ",
        ),
    ],
)
def test_a_spread_that_single_precision_cannot_hold_is_refused(column, sentence):
    points = np.stack([GOOD[:, 0], column], axis=1)
    with pytest.raises(dm.UsageError, match=sentence):
        check_spread(points, "x")
    with pytest.raises(dm.UsageError, match=sentence.replace("x has", "train has")):
        dm.fit(FAMILY, points, GOOD)
    with pytest.raises(dm.UsageError, match=sentence.replace("x has", "data has")):
        KDE.fit(points)
    for fit in (KDE.fit_adaptive, GaussianMixture.fit):
        with pytest.raises(dm.UsageError, match=sentence.replace("x has", "train has")):
            fit(points, GOOD)


def test_columns_that_are_mostly_one_value_have_a_spread():
    rain = np.where(GOOD[:, 1] > 1, GOOD[:, 1], 0.0)
    check_spread(np.stack([GOOD[:, 0], rain], axis=1), "x")


def test_data_on_a_map_are_learnt_and_drawn_with_their_digits():
    """On 4 650 km from the origin float32 knows half metres; a town is 500 m wide."""
    offset = np.array([500_000.0, 4_649_776.3])
    fit, moved = (
        dm.fit(FAMILY, 500 * GOOD + off, 500 * GOOD[:50] + off) for off in (0 * offset, offset)
    )
    for name, curve in fit.curves.items():
        np.testing.assert_allclose(moved.curves[name], curve, rtol=2e-3, err_msg=name)
    draws, there = (
        np.asarray(f.model.sample(jax.random.key(0), 500), np.float64) for f in (fit, moved)
    )
    np.testing.assert_allclose(there - offset, draws, atol=0.5)
    assert len(np.unique(there[:, 1])) > 400


def test_standardised_points_keep_what_single_precision_would_round():
    points = 4_649_776.3 + 500 * GOOD
    z = Standardiser.from_data(points).standardise(points)
    assert z.dtype == np.float32
    exact = (points - points.mean(axis=0)) / points.std(axis=0)
    # But for the shift, which is float32 itself: it moves all by one and the same amount.
    np.testing.assert_allclose(z - z.mean(axis=0), exact, atol=1e-6)
    assert np.all(np.abs(z.mean(axis=0)) < 0.25 / points.std(axis=0))


@pytest.mark.parametrize("scale", [1e-25, 1e-21, 1.0, 1e20])
def test_the_unit_of_the_data_changes_nothing_but_the_unit(scale):
    one, other = (dm.fit(FAMILY, s * GOOD, s * GOOD[:50]) for s in (1.0, scale))
    draws = [np.asarray(f.model.sample(jax.random.key(0), 50), np.float64) for f in (one, other)]
    np.testing.assert_allclose(draws[1] / scale, draws[0], rtol=1e-4, atol=1e-5)
    x = jnp.asarray(GOOD[0], jnp.float32)
    assert isinstance(one.model, HasDensity)
    assert isinstance(other.model, HasDensity)
    log_prob = float(one.model.log_prob(x)) - 2 * np.log(scale)
    assert float(other.model.log_prob(np.float32(scale) * x)) == pytest.approx(log_prob, abs=1e-3)
    np.testing.assert_allclose(
        other.curves["holdout_kde_nll"], one.curves["holdout_kde_nll"], rtol=1e-4
    )


def test_a_stray_row_of_holdout_is_named():
    holdout = np.where(np.arange(200)[:, None] == 11, 1e30, GOOD)
    with pytest.raises(dm.UsageError, match=r"^holdout: row 11 \(counted .* deviations of train"):
        dm.fit(FAMILY, GOOD, holdout)


@pytest.mark.parametrize("far", [1e6, 1e8])
def test_samples_with_a_row_far_away_are_judged_while_float64_can(far):
    samples = np.where(np.arange(200)[:, None] == 7, far, GOOD)
    assert check_samples(samples, TARGET).dtype == np.float32


@pytest.mark.parametrize("far", [1e10, 1e12, 1e30, 1e38])
def test_the_row_that_drowns_all_others_is_named(far):
    samples = np.where(np.arange(200)[:, None] == 7, far, GOOD)
    others = np.delete(samples, 7, axis=0)
    away = np.max(np.abs(far - others.mean(axis=0)) / others.std(axis=0))
    with pytest.raises(dm.UsageError) as told:
        check_samples(samples, TARGET)
    assert str(told.value) == (
        f"samples: row 7 (counted from 0) is {away:.2g} standard deviations of the others away "
        "from them; remove or mend it."
    )
    samples[9] = -far
    with pytest.raises(
        dm.UsageError, match=r"row 7 .* and 1 more are stray too; remove or mend th"
    ):
        check_samples(samples, TARGET)


def test_samples_on_a_line_are_not_called_stray():
    line = GOOD[:, :1] * [1, 2]
    line[7] = 1e10, 2e10
    with pytest.raises(dm.UsageError, match="no spread along some direction"):
        check_samples(line, TARGET)


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (np.zeros(2, complex), "model.log_prob takes real numbers, not complex128."),
        (jnp.zeros(2, bool), "model.log_prob takes real numbers, not bool."),
        (["0", "1"], "model.log_prob takes real numbers, not <U1."),
        (
            [[0.0], [1.0, 2.0]],
            "model.log_prob takes one point of shape (2,) or a batch of shape (…, 2), not rows of "
            "different lengths.",
        ),
        (
            np.zeros((2, 4)),
            "model.log_prob takes one point of shape (2,) or a batch of shape (…, 2), not shape "
            "(2, 4).",
        ),
    ],
)
def test_what_is_no_point_has_no_density(x, sentence):
    with pytest.raises(dm.UsageError) as told:
        check_batch(x, 2, "model.log_prob")
    assert str(told.value) == sentence


USER = """
import densitometer as dm, jax, jax.numpy as jnp, numpy as np
family = dm.families.get("vae", width=8, depth=1)
target = dm.targets.get("gaussian_mixture")
model = family.model(family.init(jax.random.key(0), jnp.zeros((3, 2))))
for method in (target.log_prob, model.log_prob, target.score):
    expected = method(jnp.array([1.0, 2.0]))
    for x in ([1, 2], np.array([1, 2]), np.array([1.0, 2.0]), np.array([1, 2], np.uint8)):
        assert np.array_equal(method(x), expected), x
    assert np.allclose(jax.vmap(method)(np.array([[1, 2]])), expected)
    for x in ([[1, 2]], np.array([[1, 2]]), [[1.0, 2.0]], np.array([[1, 2]], np.uint8)):
        assert np.allclose(method(x), expected), x
    for x in (["1", "2"], np.array([1j, 2]), np.array([True, False])):
        try:
            method(x)
        except dm.UsageError as told:
            assert "takes real numbers, not" in str(told)
        else:
            raise AssertionError(x)
for count in (2.5, 3.0, "3"):
    for draw in (target.sample, model.sample):
        try:
            draw(jax.random.key(0), count)
        except dm.UsageError as told:
            assert str(told).startswith("n must be a whole number from 1 to"), told
        else:
            raise AssertionError(count)
far = [[3 * 10**9, 0]]
assert np.array_equal(target.log_prob(far), target.log_prob(np.array(far, float)))
"""


def test_points_and_counts_are_checked_for_users_too():
    """Without the checks of types that tests put around every function."""
    subprocess.run([sys.executable, "-c", USER], check=True)
