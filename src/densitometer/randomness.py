"""Random keys: each is a function of a seed and a purpose, and of nothing else.

Two purposes never share a key, and every family gets the same data for the same seed, so that
differences between families are paired.
"""

import zlib
from typing import SupportsIndex

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Key, Scalar, UInt32

from densitometer.counts import check_seed
from densitometer.numerics import GENERATOR


def key_for(seed: SupportsIndex | UInt32[Array, ""], purpose: str) -> Key[Scalar, ""]:
    """The key for one purpose ("train", "holdout", "test", …) of one seed.

    Raises:
        UsageError: `seed` is no whole number from 0 to `counts.MAX_SEED`; a traced seed is not
            checked, since its value is not known.
    """
    known = seed if isinstance(seed, Tracer) else jnp.uint32(check_seed(seed))
    key = jax.random.key(known, impl=GENERATOR)
    return jax.random.fold_in(key, zlib.crc32(purpose.encode()) & 0x7FFFFFFF)
