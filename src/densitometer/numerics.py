"""The arithmetic behind every number, whatever else JAX has been told in the same process."""

import contextlib
from collections.abc import Iterator

import jax

from densitometer.errors import UsageError, cause

GENERATOR = "threefry2x32"
"""JAX's name of the generator of random numbers."""


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with 32-bit types, full products and one generator of random numbers.

    All that computes a number is entered by way of this, so a program that has JAX in 64-bit mode,
    or with another generator, gets the numbers that every other gets, and its models are theirs.

    Raises:
        UsageError: JAX does not start, for instance on a device that is not there; or it is told to
            move all seeds, which cannot be undone for a while.
    """
    try:
        jax.devices()
    except Exception as error:  # whatever a plug-in for a device raises
        raise UsageError(
            f"JAX does not start here ({cause(error)}); set JAX_PLATFORMS to what this machine has."
        ) from None
    if offset := jax.config.values["jax_random_seed_offset"]:
        raise UsageError(
            f"JAX is told to add {offset} to every seed, which changes all random numbers; set "
            "jax_random_seed_offset to 0."
        )
    with (
        jax.enable_x64(False),
        jax.default_matmul_precision("float32"),
        jax.default_prng_impl(GENERATOR),
        jax.threefry_partitionable(True),
    ):
        yield
