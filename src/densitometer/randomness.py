"""Where every random number comes from: a seed and a purpose, nothing else.

Two purposes never share a key, and every family meets the same data for the same seed, so that
differences between families are paired.
"""

import zlib

import jax
from jaxtyping import Array, Key, Scalar, UInt32

from densitometer.numerics import GENERATOR


def key_for(seed: int | UInt32[Array, ""], purpose: str) -> Key[Scalar, ""]:
    """The key for one purpose ("train", "holdout", "test", …) of one seed."""
    return jax.random.fold_in(
        jax.random.key(seed, impl=GENERATOR), zlib.crc32(purpose.encode()) & 0x7FFFFFFF
    )
