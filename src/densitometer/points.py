"""Arrays of points from outside: checked once, where they enter.

Points are float64 here, whatever they came as: their mean is subtracted before they become float32,
in which families learn and models answer. Rows and columns are counted from 0, as in arrays.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from densitometer.errors import UsageError

LARGEST = float(np.finfo(np.float32).max)
"""The largest number that float32 holds."""

SCALES = (1e-30, 1e30)
"""Standard deviations such that float32 holds their multiples, and scores divided by them."""

FINEST = 2.0**24 / 1000
"""Standard deviations from 0 beyond which float32 has fewer than 1000 values for each of them."""

STRAY = 1e6
"""Times as far from the median as half of all rows: a row so far away is no draw like the others.

Where a row makes the standard deviation as large, float32 has 1000 values or fewer for the rest.
"""


def check_points(points: Any, name: str, minimum: int = 10) -> Float[np.ndarray, "n d"]:
    """`points` as a float64 array of shape (n, d).

    Args:
        points: anything that NumPy takes for an array of real numbers.
        name: what messages call the points.
        minimum: the fewest rows that make sense.

    Raises:
        UsageError: another shape, too few rows, not real numbers, masked, NaN or infinite values,
            or numbers that would become others in float64 or infinite in float32.
    """
    try:
        array = np.asanyarray(points)
    except (TypeError, ValueError):  # rows of different lengths, for one
        raise UsageError(f"{name} must be an array of numbers of shape (n, d).") from None
    if np.ma.is_masked(array):
        raise UsageError(f"{name} has masked values; remove their rows first.")
    array = np.asarray(array)
    if not _real(array.dtype):
        raise UsageError(
            f"{name} holds {array.dtype}, not real numbers; give an array of numbers, float64."
        )
    if array.ndim != 2 or array.shape[1] == 0:
        raise UsageError(f"{name} must have shape (n, d), one point a row, got {array.shape}.")
    if len(array) < minimum:
        raise UsageError(f"{name} has {len(array)} points; give at least {minimum}.")
    with np.errstate(all="ignore"):  # what becomes infinite or NaN is refused below
        exact = array.astype(np.float64, copy=False)
    _refuse_rows(~np.isfinite(exact), name, "NaN or infinite values", "remove them first")
    _refuse_rows(
        np.abs(exact) > LARGEST,
        name,
        f"numbers beyond {LARGEST:.2g}, the largest of single precision",
        "divide their columns by a scale first",
    )
    if array.dtype.kind in "iu":
        _refuse_rows(
            (array > 2**53) | (array < -(2**53)),
            name,
            "whole numbers beyond 2^53, which float64 rounds",
            "subtract an offset from their columns first",
        )
    return exact


def check_batch(x: Any, dim: int, call: str) -> Any:
    """`x`, if it is one point of R^d or a batch of them: an array, or what JAX traces in its place.

    Args:
        x: the point, ``(d,)``, or the points, ``(*n, d)``.
        dim: d.
        call: of the method that takes them, as one writes it: ``model.log_prob``.

    Raises:
        UsageError: another shape, or not real numbers.
    """
    takes = f"{call} takes one point of shape ({dim},) or a batch of shape (…, {dim})"
    try:
        x = x if hasattr(x, "dtype") else np.asarray(x)
    except ValueError:
        raise UsageError(f"{takes}, not rows of different lengths.") from None
    if np.shape(x)[-1:] != (dim,):
        raise UsageError(f"{takes}, not shape {np.shape(x)}.")
    if not _real(x.dtype):
        raise UsageError(f"{call} takes real numbers, not {x.dtype}.")
    if isinstance(x, np.ndarray) and x.dtype.kind in "iu":
        return x.astype(np.float64)  # JAX would wrap what lies beyond its 32 bits
    return x


def check_spread(points: Float[np.ndarray, "n d"], name: str) -> None:
    """Refuse points that float32 could not distinguish, once standardised or drawn again.

    Raises:
        UsageError: along some axis they have no spread, or one out of all proportion: to float32,
            to their distance from 0, or to the spread of most of them.
    """
    for column, x in enumerate(points.T):
        what = f"{name}: column {column} (counted from 0)"
        if np.ptp(x) == 0:
            raise UsageError(
                f"{name} has no spread along axis {column} (counted from 0); give points of a "
                "distribution with a density."
            )
        mean, scale = np.mean(x), np.std(x)
        if not SCALES[0] <= scale <= SCALES[1]:
            raise UsageError(
                f"{what} has a standard deviation of {scale:.2g}, which single precision does not "
                "hold; multiply it so that it is near 1."
            )
        if abs(mean) > FINEST * scale:
            raise UsageError(
                f"{what} is {abs(mean) / scale:.2g} standard deviations away from 0, where single "
                f"precision has no digits left for it; subtract {mean:.9g} from it first."
            )
        if 0 < STRAY * _half_width(x) < scale:
            far, away = outlying(points[:, [column]])
            raise UsageError(stray_sentence(far, away, name))


def outlying(
    points: Float[np.ndarray, "n d"], times: float = STRAY
) -> tuple[Bool[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Which rows are stray, and how many standard deviations of the others each row is from them.

    A row is stray if, along some axis, it is more than `times` as far from the median as half of
    all rows are.
    """
    width = np.array([_half_width(x) for x in points.T])
    apart = np.abs(points - np.median(points, axis=0))
    far = np.any((apart > times * width) & (width > 0), axis=1)
    others = points if far.all() else points[~far]
    spread, apart = np.std(others, axis=0), np.abs(points - np.mean(others, axis=0))
    return far, np.max(apart[:, spread > 0] / spread[spread > 0], axis=1, initial=0)


def stray_sentence(
    far: Bool[np.ndarray, " n"],
    away: Float[np.ndarray, " n"],
    name: str,
    others: str = "the others",
) -> str:
    """The sentence about rows that are `far`, each so many standard deviations `away`."""
    row, more = int(np.argmax(far)), int(np.sum(far)) - 1
    return (
        f"{name}: row {row} (counted from 0) is {away[row]:.2g} standard deviations of {others} "
        f"away from them{f', and {more} more are stray too' if more else ''}; remove or mend "
        f"{'them' if more else 'it'}."
    )


def _half_width(x: Float[np.ndarray, " n"]) -> float:
    """The median absolute deviation: half of all numbers are no farther from their median."""
    return float(np.median(np.abs(x - np.median(x))))


def _real(dtype: np.dtype) -> bool:
    """Whether numbers of a type are real; some floats of JAX are of no kind of NumPy's."""
    return dtype.kind in "fiu" or jnp.issubdtype(dtype, jnp.floating)


def _refuse_rows(bad: Bool[np.ndarray, "n d"], name: str, what: str, remedy: str) -> None:
    rows = np.flatnonzero(bad.any(axis=1))
    if len(rows):
        raise UsageError(
            f"{name} has {len(rows)} point{'s' if len(rows) > 1 else ''} with {what}, first in row "
            f"{rows[0]} (counted from 0); {remedy}."
        )
