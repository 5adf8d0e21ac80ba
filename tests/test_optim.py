"""The optimiser does what its arguments say, and an average is one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from densitometer.blocks.optim import adam, average, descend

STEPS, RATE = 100, 0.1


def moves(gradients, start=0.0, **settings):
    """How far each of some gradients moves a single parameter."""
    optimiser = adam(RATE, STEPS, **settings)
    parameter = jnp.array([start])
    state, found = optimiser.init(parameter), []
    for gradient in gradients:
        new, state = descend(optimiser, jnp.array([gradient]), state, parameter)
        found.append(float((new - parameter)[0]))
        parameter = new
    return np.array(found)


def test_the_rate_warms_up_over_two_per_cent_and_decays_along_a_cosine():
    """Adam's move along a gradient that never changes is its rate."""
    found = -moves([1.0] * STEPS)
    steps = np.arange(STEPS)
    cosine = 0.5 * RATE * (1 + np.cos(math.pi * (steps - 2) / (STEPS - 2)))
    want = np.where(steps < 2, RATE * steps / 2, cosine)
    np.testing.assert_allclose(found, want, rtol=1e-3, atol=1e-6)


def test_the_rate_may_end_at_a_share_of_its_peak():
    assert moves([1.0] * STEPS, final=0.5)[-1] == pytest.approx(-0.5 * RATE, rel=0.01)


def test_a_gradient_is_clipped_to_a_norm():
    """The same move as if the long one had been of length 1."""
    clipped, short = (moves([g, 1.0, 1.0]) for g in (1000.0, 1.0))
    np.testing.assert_allclose(clipped, short, rtol=1e-5)
    free = moves([1000.0, 1.0, 1.0], clip=1e9)
    assert abs(free[2]) < 0.7 * abs(short[2])


def test_weight_decay_pulls_to_zero_where_there_is_no_gradient():
    found = moves([0.0] * 10, start=2.0, weight_decay=0.3)
    assert found[2] == pytest.approx(-RATE * 0.3 * 2.0, rel=0.02)
    assert np.all(moves([0.0] * 10, start=2.0) == 0)


def test_the_momenta_are_those_that_are_asked_for():
    """After gradients 1, 0: m̂ = b1 (1 − b1) / (1 − b1²), v̂ = b2 (1 − b2) / (1 − b2²)."""
    for b1, b2 in ((0.9, 0.999), (0.5, 0.9)):
        m, v = (b * (1 - b) / (1 - b**2) for b in (b1, b2))
        found = moves([1.0, 0.0], b1=b1, b2=b2)[1]
        assert found == pytest.approx(-0.5 * RATE * m / math.sqrt(v), rel=1e-3)


def test_the_average_follows_over_a_window():
    tree, values = {"a": jnp.array(0.0)}, [1.0, 5.0, -2.0]
    want = 0.0
    for value in values:
        tree, want = average(tree, {"a": jnp.array(value)}, 4.0), want + (value - want) / 4
    assert float(tree["a"]) == pytest.approx(want)
    assert float(average(tree, {"a": jnp.array(7.0)}, 0.3)["a"]) == 7.0  # a window below one step


def test_a_pytree_is_moved_leaf_by_leaf():
    optimiser = adam(RATE, STEPS)
    parameters = {"a": jnp.zeros(2), "b": jnp.ones((2, 3))}
    state = optimiser.init(parameters)
    for _ in range(2):  # the first rate is 0
        gradient = jax.tree.map(jnp.ones_like, parameters)
        parameters, state = descend(optimiser, gradient, state, parameters)
    assert float(parameters["a"][0]) == pytest.approx(float(parameters["b"][0, 0]) - 1, abs=1e-6)
    assert float(parameters["a"][0]) < 0
