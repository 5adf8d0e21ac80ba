"""Whole numbers from outside, counts and seeds: checked once, at the door."""

import operator
from typing import Any

from densitometer.errors import UsageError

MOST = 2**31 - 1
"""The largest count: the longest axis that 32 bits can number."""

MAX_SEED = 2**32 - 1
"""The largest seed: all that a key keeps of one is 32 bits, so a larger one would be another."""


def check_count(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """`value` as an int, where it is a whole number in range, of Python's own or of NumPy's.

    A fraction is not cut off, nor is a truth value or a word taken for a number.

    Raises:
        UsageError: it is none.
    """
    try:
        whole = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        whole = None
    if whole is None or not least <= whole <= most:
        shown = " ".join(repr(value).split())[:50]
        raise UsageError(f"{name} must be a whole number from {least} to {most}, not {shown}.")
    return whole


def check_seed(seed: Any, name: str = "seed") -> int:
    """`seed` as an int from 0 to `MAX_SEED`: each is a seed of its own, and no two are the same.

    Raises:
        UsageError: it is none.
    """
    return check_count(seed, name, 0, MAX_SEED)
