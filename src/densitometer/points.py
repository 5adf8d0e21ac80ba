"""Arrays of points from outside: checked once, at the door."""

from typing import Any

import numpy as np
from jaxtyping import Float

from densitometer.errors import UsageError


def check_points(points: Any, name: str, minimum: int = 10) -> Float[np.ndarray, "n d"]:
    """`points` as a float32 array of shape (n, d).

    Args:
        points: anything that numpy takes for an array.
        name: what the points are called in messages.
        minimum: the fewest rows that make sense.

    Raises:
        UsageError: another shape, too few rows, not numbers, NaN or infinite values.
    """
    try:
        array = np.asarray(points, dtype=np.float32)
    except (TypeError, ValueError):
        raise UsageError(f"{name} must be an array of numbers of shape (n, d).") from None
    if array.ndim != 2 or array.shape[1] == 0:
        raise UsageError(f"{name} must have shape (n, d), one point a row, got {array.shape}.")
    if len(array) < minimum:
        raise UsageError(f"{name} has {len(array)} points; give at least {minimum}.")
    bad = int(np.sum(~np.isfinite(array).all(axis=1)))
    if bad:
        raise UsageError(f"{name} has {bad} points with NaN or infinite values; remove them first.")
    return array
