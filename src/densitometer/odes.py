"""What flows: ordinary differential equations, and the log-density that they carry along.

Along dz/dt = v(z, t) the log-density of a moving point changes by the divergence alone,
d log q(z(t)) / dt = −div v(z(t), t), the instantaneous change of variables (Chen et al., 2018).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Field = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, " d"]]
"""v(z, t)."""

RTOL = 1e-5
"""Relative and absolute tolerance of every solution that is reported."""

MAX_STEPS = 2_000
"""After so many steps a solver gives up."""


class Flow(NamedTuple):
    """Where a point went."""

    end: Float[Array, "*n d"]
    """z(t1)."""
    log_det: Float[Array, "*n"]
    """∫ div v dt from t0 to t1 = log |∂z(t1)/∂z(t0)|."""
    evaluations: Float[Array, ""]
    """How often v was evaluated."""


def velocity_and_divergence(
    field: Field, z: Float[Array, " d"], t: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """v(z, t) and its exact divergence Σᵢ ∂vᵢ/∂zᵢ: one forward derivative an axis."""
    push = lambda axis: jax.jvp(lambda y: field(y, t), (z,), (axis,))
    values, columns = jax.vmap(push)(jnp.eye(len(z)))
    return values[0], jnp.trace(columns)


def flow(
    field: Field,
    z: Float[Array, " d"],
    t0: float,
    t1: float,
    *,
    rtol: float = RTOL,
    steps: int | None = None,
) -> Flow:
    """Carry one point and the logarithm of its volume from time t0 to t1, either way.

    Steps adapt to the tolerance `rtol`, or are `steps` equal ones. A solver that gives up returns
    NaN: the caller records it, nothing crashes.
    """

    def both(y: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        return velocity_and_divergence(field, y[0], t)

    (ends, log_dets), evaluations = _solve(both, (z, jnp.zeros(())), t0, t1, None, rtol, steps)
    return Flow(ends[0], log_dets[0], evaluations)


def flow_together(
    field: Field, z: Float[Array, "n d"], t0: float, t1: float, *, rtol: float = RTOL
) -> Flow:
    """Carry many points as one system, whose steps adapt to the root mean square of their errors.

    A `flow` under `vmap` goes on until its slowest point is there, and the backward pass of its
    gradient too; here hard points are solved less accurately than easy ones, and all at the price
    of a typical one. `end` is (n, d) and `log_det` (n,); `evaluations` is per point.
    """

    def both(y: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda point: velocity_and_divergence(field, point, t))(y[0])

    (ends, log_dets), evaluations = _solve(both, (z, jnp.zeros(len(z))), t0, t1, None, rtol, None)
    return Flow(ends[0], log_dets[0], evaluations)


def trajectory(
    field: Field,
    z: Float[Array, " d"],
    t0: float,
    t1: float,
    times: Float[Array, " frames"] | None = None,
    *,
    rtol: float = RTOL,
    steps: int | None = None,
) -> tuple[Float[Array, "frames d"], Float[Array, ""]]:
    """Where one point is at `times` (by default at t1 alone), and how often v was evaluated.

    Steps as in `flow`. A solver that gives up returns NaN.
    """
    return _solve(field, z, t0, t1, times, rtol, steps)


def _solve(
    field: Callable[[Any, Array], Any],
    y0: Any,
    t0: float,
    t1: float,
    times: Float[Array, " frames"] | None,
    rtol: float,
    steps: int | None,
) -> tuple[Any, Float[Array, ""]]:
    adaptive = diffrax.PIDController(rtol=rtol, atol=rtol)
    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, y, _: field(y, jnp.asarray(t))),
        diffrax.Tsit5(),
        t0,
        t1,
        dt0=(t1 - t0) / (steps or 20),
        y0=y0,
        saveat=diffrax.SaveAt(t1=True) if times is None else diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.ConstantStepSize() if steps else adaptive,
        max_steps=MAX_STEPS,
        throw=False,
    )
    failed = solution.result != diffrax.RESULTS.successful
    ys = jax.tree.map(lambda y: jnp.where(failed, jnp.nan, y), solution.ys)
    # Tsit5 evaluates the field six times a step, and once to begin with.
    return ys, 6.0 * solution.stats["num_steps"].astype(jnp.float32) + 1.0
