"""The arithmetic behind every number, however JAX is configured in the same process."""

import contextlib
from collections.abc import Iterator

import jax

from densitometer.errors import UsageError, cause

GENERATOR = "threefry2x32"
"""JAX's name of the generator of random numbers."""


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Compute with 32-bit types, full products and one generator of random numbers.

    Whatever computes a number is entered through this, so a program that has JAX in 64-bit mode, or
    with another generator, gets the same numbers and the same models as every other.

    Raises:
        UsageError: JAX does not start, for instance on a device that is not there; or it is
            configured to offset all seeds, which a context cannot undo.
    """
    try:
        jax.devices()
    except Exception as error:  # a device's plug-in may raise anything
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
