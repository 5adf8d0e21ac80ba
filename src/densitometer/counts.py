"""Whole numbers from outside, counts and seeds: checked once, where they enter."""

import contextlib
import operator
from typing import Annotated, Any

from densitometer.domains import Domain, Range

MOST = 2**31 - 1
"""The largest count: the longest axis that 32 bits can number."""

MAX_SEED = 2**32 - 1
"""The largest seed: a key has 32 bits for it, and a larger seed would be another one's double."""


def check_count(value: Any, name: str, least: int = 1, most: int = MOST) -> int:
    """`value` as an int, if it is a whole number in range: Python's, NumPy's or an array of one.

    A fraction is not cut off, nor is a truth value or a word taken for a number.

    Raises:
        UsageError: it is none.
    """
    with contextlib.suppress(TypeError):  # what has no index is for the domain to refuse
        value = value if isinstance(value, bool) else operator.index(value)
    return Domain.of(Annotated[int, Range(at_least=least, at_most=most)]).checked(value, name)


def check_seed(seed: Any, name: str = "seed") -> int:
    """`seed` as an int from 0 to `MAX_SEED`: each is a seed of its own, and no two are the same.

    Raises:
        UsageError: it is none.
    """
    return check_count(seed, name, 0, MAX_SEED)
