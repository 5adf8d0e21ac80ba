"""Flows against those whose solution is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from densitometer.blocks import odes

A = np.array([[0.4, -1.1], [0.7, 0.3]])
B = np.array([0.5, -0.2])


def affine(z, t):
    """dz/dt = A z + b: neither symmetric nor free of divergence."""
    return jnp.asarray(A, z.dtype) @ z + jnp.asarray(B, z.dtype)


def affine_solution(z, duration):
    """z(t₀ + T) = e^{AT} z + A⁻¹ (e^{AT} − I) b, row by row."""
    grown = scipy.linalg.expm(A * duration)
    return np.asarray(z) @ grown.T + np.linalg.solve(A, (grown - np.eye(2)) @ B)


@pytest.fixture
def points():
    return jnp.asarray(np.random.default_rng(0).normal(size=(50, 2)), jnp.float32)


@pytest.mark.parametrize(("t0", "t1"), [(0.0, 1.5), (1.5, 0.0)])
def test_an_affine_flow_is_the_matrix_exponential(points, t0, t1):
    flow = jax.vmap(lambda z: odes.flow(affine, z, t0, t1, steps=20))(points)
    np.testing.assert_allclose(flow.end, affine_solution(points, t1 - t0), atol=2e-4)
    np.testing.assert_allclose(flow.log_det, np.trace(A) * (t1 - t0), rtol=1e-5)


def test_points_together_go_where_they_go_alone(points):
    alone = jax.vmap(lambda z: odes.flow(affine, z, 1.5, 0.0, steps=40))(points)
    together = odes.flow_together(affine, points, 1.5, 0.0, rtol=1e-5)
    np.testing.assert_allclose(together.end, alone.end, atol=1e-4)
    np.testing.assert_allclose(together.log_det, alone.log_det, atol=1e-5)


def test_a_trajectory_passes_through_the_solution_at_each_time(points):
    path = odes.trajectory(affine, points[0], 0.0, 1.5, frames=4, steps=20)
    exact = [affine_solution(points[:1], t) for t in (0.0, 0.5, 1.0, 1.5)]
    np.testing.assert_allclose(path, np.concatenate(exact), atol=2e-4)


def test_the_order_is_the_fifth():
    """Of dz/dt = 9 J z + 5 cos(8t) z: the end is a turn by 9, and a growth that is the log_det."""
    swirl = lambda z, t: 9 * jnp.stack([-z[1], z[0]]) + 5 * jnp.cos(8 * t) * z
    grown = 5 * np.sin(8) / 8
    exact = np.exp(grown) * np.array([np.cos(9), np.sin(9)])
    flows = {n: odes.flow(swirl, jnp.array([1.0, 0.0]), 0.0, 1.0, steps=n) for n in (2, 6, 12)}
    errors = {n: np.linalg.norm(flow.end - exact) for n, flow in flows.items()}
    # A solver of order k divides its error by 2^k, and by a little more before it is asymptotic.
    assert 4.7 < np.log2(errors[6] / errors[12]) < 6.7


def test_the_order_of_the_log_det_is_the_sixth():
    """Of dz/dt = 5 cos(8t) z, in one dimension: ∫ 5 cos(8t) dt."""
    swell = lambda z, t: 5 * jnp.cos(8 * t) * z
    exact = 5 * np.sin(8) / 8
    flows = {n: odes.flow(swell, jnp.ones(1), 0.0, 1.0, steps=n) for n in (3, 4, 10)}
    errors = {n: abs(float(flow.log_det) - exact) for n, flow in flows.items()}
    assert errors[3] > 1e-3
    assert 5.5 < np.log(errors[3] / errors[4]) / np.log(4 / 3) < 9
    assert errors[10] < 1e-5


@pytest.mark.parametrize("n", [10, 11, 40])
def test_an_integral_is_exact_for_powers_up_to_the_fifth(n):
    x = jnp.linspace(0.0, 2.0, n)
    for power in range(6):
        exact = 2.0 ** (power + 1) / (power + 1)
        assert float(odes.integral(x**power, 2 / (n - 1))) == pytest.approx(exact, rel=2e-6)
    if n == 10:
        assert float(odes.integral(x**9, 2 / 9)) != pytest.approx(2**10 / 10, rel=1e-4)


def curved(z, t):
    """A field that depends on time, and whose divergence depends on the point."""
    x, y = z
    return jnp.stack([jnp.sin(x) * y, t * jnp.cos(3 * x) + 0.5 * y**2])


def test_the_divergence_is_the_trace_of_the_jacobian():
    z, t = jnp.array([0.3, -0.8]), jnp.asarray(0.6)
    velocity, divergence = odes.velocity_and_divergence(curved, z, t)
    np.testing.assert_allclose(velocity, curved(z, t), rtol=1e-6)
    # ∂(sin x · y)/∂x + ∂(t cos 3x + y²/2)/∂y
    assert float(divergence) == pytest.approx(np.cos(0.3) * -0.8 + -0.8, rel=1e-5)


def test_log_det_is_that_of_the_jacobian_of_the_whole_flow():
    z, h = jnp.array([0.3, -0.8]), 0.02
    around = z[None] + jnp.array([[0.0, 0.0], [h, 0.0], [-h, 0.0], [0.0, h], [0.0, -h]])
    flow = jax.vmap(lambda z: odes.flow(curved, z, 0.0, 1.0, steps=40))(around)
    end = np.asarray(flow.end, np.float64)
    jacobian = np.stack([end[1] - end[2], end[3] - end[4]], axis=1) / (2 * h)
    assert float(flow.log_det[0]) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=2e-3)


def test_there_and_back_is_nowhere(points):
    there = odes.flow_together(curved, 0.5 * points, 0.0, 1.0, rtol=1e-5)
    back = odes.flow_together(curved, there.end, 1.0, 0.0, rtol=1e-5)
    np.testing.assert_allclose(back.end, 0.5 * points, atol=2e-4)
    np.testing.assert_allclose(back.log_det, -there.log_det, atol=2e-4)


def test_a_smaller_tolerance_errs_less(points):
    spin = lambda z, t: 9 * jnp.stack([-z[1], z[0]])  # z(1) is z(0) turned by 9
    exact = np.asarray(points) @ scipy.linalg.expm(9 * np.array([[0, 1], [-1, 0]]))
    loose, tight = (odes.flow_together(spin, points, 0.0, 1.0, rtol=r) for r in (1e-3, 1e-5))
    error = lambda flow: np.max(np.abs(flow.end - exact))
    assert error(tight) < 1e-3 < error(loose) < 0.1


def test_evaluations_are_counted():
    seen = []

    def looked(z, t):
        jax.debug.callback(lambda _: seen.append(1), t)
        return curved(z, t)

    odes.trajectory(looked, jnp.ones(2), 0.0, 0.1, frames=2, steps=10)
    jax.effects_barrier()
    assert len(seen) == odes.evaluations(10) == 61


def test_a_solver_that_gives_up_gives_nan():
    explode = lambda z, t: z**2  # z(t) = 1 / (1/z(0) − t)
    z = jnp.array([4.0, 1.0])
    flow = odes.flow_together(explode, z[None], 0.0, 1.0, rtol=1e-5)
    assert np.isnan(flow.end).all()
    assert np.isnan(flow.log_det).all()
