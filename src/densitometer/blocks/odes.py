"""What flows: ordinary differential equations, and the log-density that they carry along.

Along dz/dt = v(z, t) the log-density of a moving point changes by the divergence alone,
d log q(z(t)) / dt = −div v(z(t), t), the instantaneous change of variables (Chen et al., 2018).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Field = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, " d"]]
"""v(z, t)."""

LOOKS = 3
"""At how many places in each of its steps `flow` looks at the divergence."""

GREGORY = np.array([95 / 288, 317 / 240, 23 / 30, 793 / 720, 157 / 160])
"""The weights at either end in `integral`; 1 between."""

MAX_STEPS = 2_000
"""After so many steps an adaptive solver gives up."""


class Flow(NamedTuple):
    """Where a point went."""

    end: Float[Array, "*n d"]
    """z(t1)."""
    log_det: Float[Array, "*n"]
    """∫ div v dt from t0 to t1 = log |∂z(t1)/∂z(t0)|."""


def velocity_and_divergence(
    field: Field, z: Float[Array, " d"], t: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """v(z, t) and its exact divergence Σᵢ ∂vᵢ/∂zᵢ: one forward derivative an axis."""
    push = lambda axis: jax.jvp(lambda y: field(y, t), (z,), (axis,))
    values, columns = jax.vmap(push)(jnp.eye(len(z)))
    return values[0], jnp.trace(columns)


def flow(field: Field, z: Float[Array, " d"], t0: float, t1: float, *, steps: int) -> Flow:
    """Carry one point and the logarithm of its volume from time t0 to t1, either way.

    The point goes by `steps` equal steps (three at least) of the fifth order, each of six
    evaluations. The divergence, which costs as much as d + 1 of them, is only summed up along the
    way, at `LOOKS` places a step, by `integral`: in two dimensions two thirds of what it costs to
    carry both, for the same error. In a time in which the field is equally smooth everywhere, such
    as the logarithm of a noise level, adapting the steps to the point costs more than it saves,
    since points that are solved together wait for the slowest. Source: Tsitouras (2011).
    """
    steps = max(steps, 3)
    way = _march(field, z, t0, t1, steps, LOOKS)
    times = jnp.linspace(t0, t1, len(way))
    look = lambda at: velocity_and_divergence(field, *at)[1]
    divergences = jax.lax.map(look, (way, times))
    return Flow(way[-1], integral(divergences, (t1 - t0) / (LOOKS * steps)))


def integral(values: Float[Array, " n"], spacing: float) -> Float[Array, ""]:
    """The integral of a function that is known at n ≥ 10 equally spaced places, the ends included.

    By the trapezoidal rule, which is exact to all orders but for what happens at the ends, and with
    Gregory's correction there of the sixth order (Hildebrand, 1956).
    """
    weights = np.ones(len(values))
    weights[: len(GREGORY)] = GREGORY
    weights[-len(GREGORY) :] = GREGORY[::-1]
    return jnp.asarray(spacing * weights, values.dtype) @ values


def trajectory(
    field: Field, z: Float[Array, " d"], t0: float, t1: float, *, frames: int, steps: int
) -> Float[Array, "frames d"]:
    """Where one point is at `frames` ≥ 2 equally spaced times, the first t0 and the last t1.

    Steps as in `flow`, at least `steps` of them in all and as many from each frame to the next.
    """
    each = -(-steps // (frames - 1))
    return _march(field, z, t0, t1, each * (frames - 1))[::each]


def evaluations(steps: int) -> int:
    """How often a field is evaluated in so many steps: each begins where the last has looked."""
    return 6 * steps + 1


def flow_together(
    field: Field, z: Float[Array, "n d"], t0: float, t1: float, *, rtol: float
) -> Flow:
    """Carry many points as one system, whose steps adapt to the root mean square of their errors.

    For a field that is still being learnt, and whose gradient goes back through the solver, to the
    relative and absolute tolerance `rtol`. A solver that gives up returns NaN: the caller records
    it, nothing crashes. `end` is (n, d) and `log_det` (n,).
    """

    def both(y: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        return jax.vmap(lambda point: velocity_and_divergence(field, point, t))(y[0])

    solution = diffrax.diffeqsolve(
        _term(both),
        diffrax.Tsit5(),
        t0,
        t1,
        dt0=(t1 - t0) / 20,
        y0=(z, jnp.zeros(len(z))),
        saveat=diffrax.SaveAt(t1=True),
        stepsize_controller=diffrax.PIDController(rtol=rtol, atol=rtol),
        max_steps=MAX_STEPS,
        throw=False,
    )
    failed = solution.result != diffrax.RESULTS.successful
    ends, log_dets = jax.tree.map(lambda y: jnp.where(failed, jnp.nan, y[0]), solution.ys)
    return Flow(ends, log_dets)


def _march(
    field: Field, z: Float[Array, " d"], t0: float, t1: float, steps: int, looks: int = 1
) -> Float[Array, "{steps}*{looks}+1 d"]:
    """The way from z by equal steps: where it is at `looks` equally spaced times in each.

    Those within a step are the solver's own interpolation. Diffrax steps; its own loop, made for
    more, takes seconds to trace.
    """
    solver, term, length = diffrax.Tsit5(), _term(field), (t1 - t0) / steps

    def step(carry: tuple[Array, Any], i: Array) -> tuple[tuple[Array, Any], Array]:
        z, state = carry
        begin, end = t0 + length * i, t0 + length * (i + 1)
        new, _, seen, state, _ = solver.step(term, begin, end, z, None, state, made_jump=False)
        between = solver.interpolation_cls(t0=begin, t1=end, **seen)
        within = [between.evaluate(begin + length * (k / looks)) for k in range(1, looks)]
        return (new, state), jnp.stack([*within, new])

    state = solver.init(term, jnp.asarray(t0), jnp.asarray(t0 + length), z, None)
    _, way = jax.lax.scan(step, (z, state), jnp.arange(steps, dtype=float))
    return jnp.concatenate([z[None], way.reshape(-1, *z.shape)])


def _term(field: Callable[[Any, Array], Any]) -> diffrax.ODETerm:
    return diffrax.ODETerm(lambda t, y, _: field(y, jnp.asarray(t)))
