"""Rows in an order of their own: a sample is a set, whatever order a file has it in."""

import zlib

import numpy as np
from jaxtyping import Shaped


def in_random_order(points: Shaped[np.ndarray, "n d"]) -> Shaped[np.ndarray, "n d"]:
    """The rows of `points`, in an order that is random and that only the set of rows decides.

    The first k are then k of the points chosen at random, though the rows came sorted or grouped.
    They are sorted first, then shuffled by a generator whose seed is a hash of them, so that the
    orders of two samples have nothing to do with each other.
    """
    points = points[np.lexsort(points.T[::-1])]
    return np.random.default_rng(zlib.crc32(points.tobytes())).permutation(points)


def duplicated(points: Shaped[np.ndarray, "n d"]) -> int:
    """How many rows repeat another one; of m equal rows, m − 1 do."""
    points = points[np.lexsort(points.T[::-1])]
    return int(np.sum(np.all(points[1:] == points[:-1], axis=1)))
