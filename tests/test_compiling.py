import time

import jax
import jax.numpy as jnp
import pytest

from densitometer.system import compiling


def test_overlapping_pieces_count_once(monkeypatch):
    pieces = [(1.0, 2.0), (1.2, 1.8), (1.5, 3.0), (5.0, 6.0), (0.0, 0.5)]
    monkeypatch.setattr(compiling, "_INTERVALS", pieces)
    assert compiling.seconds_compiling(0.25) == pytest.approx(0.25 + 2.0 + 1.0)
    assert compiling.seconds_compiling(2.5) == pytest.approx(0.5 + 1.0)


def test_it_hears_compilations_and_nothing_else():
    program = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x))
    began = time.perf_counter()
    program(jnp.ones((30, 30))).block_until_ready()
    ended = time.perf_counter()
    assert 0 < compiling.seconds_compiling(began) <= ended - began
    program(jnp.ones((30, 30))).block_until_ready()
    assert compiling.seconds_compiling(ended) == 0
