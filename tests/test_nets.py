"""What approximates: features and layers against their formulas."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densitometer.blocks import nets

TURNS = np.linspace(-20.0, 20.0, 4001)
"""Whole turns, halves where the polynomials meet, and all between."""


def float32(x: np.ndarray) -> np.ndarray:
    """In double precision, the numbers that a network sees."""
    return np.asarray(x, np.float32).astype(np.float64)


def test_the_sine_is_a_sine_and_so_are_its_derivatives():
    t = float32(TURNS)
    seen = jnp.asarray(t, jnp.float32)
    slope = jax.grad(nets._sine)
    first, second = jax.vmap(slope)(seen), jax.vmap(jax.grad(slope))(seen)
    rounding = float(2 * math.pi * np.finfo(np.float32).eps)
    assert np.asarray(nets._sine(seen)) == pytest.approx(np.sin(2 * np.pi * t), abs=rounding)
    by = 2 * math.pi
    # a quarter of a turn is added to t, which rounds it
    assert np.asarray(first) / by == pytest.approx(np.cos(by * t), abs=20 * rounding)
    assert np.asarray(second) / by**2 == pytest.approx(-np.sin(by * t), abs=20 * rounding)


def test_fourier_features_are_cosines_and_sines_of_projections():
    x = jnp.array([0.3, -1.2])
    phase = 2 * math.pi * 0.7 * (np.asarray(x) @ nets._projections(2, 5, 0))
    got = nets.fourier_features(x, 5, 0.7)
    assert np.asarray(got) == pytest.approx(
        np.concatenate([x, np.cos(phase), np.sin(phase)]), abs=3e-6
    )
    assert nets.fourier_features(x, 0, 0.7) is x


def test_time_features_are_cosines_and_sines_at_their_frequencies():
    phase = 0.7 * np.array(nets.TIME_FREQUENCIES)
    got = nets.time_features(jnp.asarray(0.7))
    assert np.asarray(got) == pytest.approx(
        np.concatenate([[0.7], np.cos(phase), np.sin(phase)]), abs=1e-6
    )


def test_a_perceptron_is_its_layers():
    mlp = nets.MLP(jax.random.key(0), 3, 2, width=5, depth=2, gain=1.5, last_gain=0.5)
    (a, b, c), x = mlp.weights, jnp.array([0.3, -0.2, 0.9])
    for w, inputs, gain in ((a, 3, 1.5), (b, 5, 1.5), (c, 5, 0.5)):
        assert np.std(w) == pytest.approx(gain / math.sqrt(inputs), rel=4 / math.sqrt(2 * w.size))
    want = np.asarray(c) @ jax.nn.silu(jax.nn.silu(x @ a) @ b)
    assert np.asarray(mlp(x)) == pytest.approx(np.asarray(want), abs=1e-6)
