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

    By `steps` equal steps of the fifth order, each of six evaluations. In a time in which the field
    is equally smooth everywhere, such as the logarithm of a noise level, adapting them to the point
    costs more than it saves, since points that are solved together wait for the slowest.
    Source: Tsitouras (2011).
    """

    def both(y: tuple[Array, Array], t: Array) -> tuple[Array, Array]:
        return velocity_and_divergence(field, y[0], t)

    return Flow(*_march(both, (z, jnp.zeros(())), t0, t1, steps))


def trajectory(
    field: Field, z: Float[Array, " d"], t0: float, t1: float, *, frames: int, steps: int
) -> Float[Array, "frames d"]:
    """Where one point is at `frames` ≥ 2 equally spaced times, the first t0 and the last t1.

    Steps as in `flow`, at least `steps` of them in all and as many from each frame to the next.
    """
    times = jnp.linspace(t0, t1, frames)
    each = -(-steps // (frames - 1))

    def on(z: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        z = _march(field, z, *ends, each)
        return z, z

    _, rest = jax.lax.scan(on, z, (times[:-1], times[1:]))
    return jnp.concatenate([z[None], rest])


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
    field: Callable[[Any, Array], Any], y: Any, t0: float | Array, t1: float | Array, steps: int
) -> Any:
    """y(t1) by equal steps. Diffrax steps; its own loop, made for more, takes seconds to trace."""
    solver, term, length = diffrax.Tsit5(), _term(field), (t1 - t0) / steps

    def step(carry: tuple[Any, Any], i: Array) -> tuple[Any, None]:
        y, state = carry
        begin, end = t0 + length * i, t0 + length * (i + 1)
        y, _, _, state, _ = solver.step(term, begin, end, y, None, state, made_jump=False)
        return (y, state), None

    state = solver.init(term, jnp.asarray(t0), jnp.asarray(t0 + length), y, None)
    (y, _), _ = jax.lax.scan(step, (y, state), jnp.arange(steps, dtype=float))
    return y


def _term(field: Callable[[Any, Array], Any]) -> diffrax.ODETerm:
    return diffrax.ODETerm(lambda t, y, _: field(y, jnp.asarray(t)))
