"""Ordinary differential equations, and the log-density along their solutions.

Along dz/dt = v(z, t) the log-density of a moving point changes by the divergence alone,
d log q(z(t)) / dt = −div v(z(t), t): the instantaneous change of variables (Chen et al., 2018,
arXiv:1806.07366).
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

NODES_PER_STEP = 3
"""Evaluations of the divergence in each step of `flow`."""

GREGORY = np.array([95 / 288, 317 / 240, 23 / 30, 793 / 720, 157 / 160])
"""The weights of `integral` at either end; between them they are 1."""

MAX_STEPS = 2_000
"""Steps after which an adaptive solver gives up."""


class Flow(NamedTuple):
    """The end of a solution, and the logarithm of the change of volume."""

    end: Float[Array, "*n d"]
    """z(t1)."""
    log_det: Float[Array, "*n"]
    """∫ div v dt from t0 to t1 = log |∂z(t1)/∂z(t0)|."""


def velocity_and_divergence(
    field: Field, z: Float[Array, " d"], t: Float[Array, ""]
) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """v(z, t) and its exact divergence Σᵢ ∂vᵢ/∂zᵢ, by one forward derivative an axis."""
    push = lambda axis: jax.jvp(lambda y: field(y, t), (z,), (axis,))
    values, columns = jax.vmap(push)(jnp.eye(len(z)))
    return values[0], jnp.trace(columns)


def flow(field: Field, z: Float[Array, " d"], t0: float, t1: float, *, steps: int) -> Flow:
    """Carry one point and the logarithm of its volume from time t0 to t1, forwards or backwards.

    The point takes `steps` equal steps (at least three) of the fifth order, with six evaluations of
    the field each. The divergence, which costs as much as d + 1 evaluations, is only integrated
    along the solution, by `integral` with `NODES_PER_STEP` nodes a step: in two dimensions that
    takes two thirds of the time of solving for both, with the same error. In a time in which the
    field is equally smooth everywhere, such as the logarithm of a noise level, adapting the steps
    to each point costs more than it saves, since points that are solved together wait for the
    slowest. Source: Tsitouras (2011, doi:10.1016/j.camwa.2011.06.002).
    """
    steps = max(steps, 3)
    states = _march(field, z, t0, t1, steps, NODES_PER_STEP)
    times = jnp.linspace(t0, t1, len(states))
    divergence = lambda node: velocity_and_divergence(field, *node)[1]
    divergences = jax.lax.map(divergence, (states, times))
    return Flow(states[-1], integral(divergences, (t1 - t0) / (NODES_PER_STEP * steps)))


def integral(values: Float[Array, " n"], spacing: float) -> Float[Array, ""]:
    """The integral of a function given at n ≥ 10 equally spaced nodes, the ends included.

    By the trapezoidal rule with Gregory's correction at the ends, of the sixth order (Hildebrand,
    1956, *Introduction to Numerical Analysis*).
    """
    weights = np.ones(len(values))
    weights[: len(GREGORY)] = GREGORY
    weights[-len(GREGORY) :] = GREGORY[::-1]
    return jnp.asarray(spacing * weights, values.dtype) @ values


def trajectory(
    field: Field, z: Float[Array, " d"], t0: float, t1: float, *, frames: int, steps: int
) -> Float[Array, "frames d"]:
    """The states of one point at `frames` ≥ 2 equally spaced times, from t0 to t1.

    By steps as in `flow`, at least `steps` of them in all and equally many between two frames.
    """
    each = -(-steps // (frames - 1))
    return _march(field, z, t0, t1, each * (frames - 1))[::each]


def evaluations(steps: int) -> int:
    """Evaluations of a field in so many steps: each step reuses the last evaluation before it."""
    return 6 * steps + 1


def flow_together(
    field: Field, z: Float[Array, "n d"], t0: float, t1: float, *, rtol: float
) -> Flow:
    """Carry many points as one system, whose steps adapt to the root mean square of their errors.

    To the relative and absolute tolerance `rtol`, and differentiable: for training through the
    solver. `end` is (n, d) and `log_det` (n,). Both are NaN where the solver gives up, which is for
    the caller to record.
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
    field: Field, z: Float[Array, " d"], t0: float, t1: float, steps: int, nodes: int = 1
) -> Float[Array, "{steps}*{nodes}+1 d"]:
    """The states from z on by equal steps, at `nodes` equally spaced times in each.

    Those within a step are the solver's own interpolation. The steps are Diffrax's; its loop, which
    can do more, takes seconds to trace.
    """
    solver, term, length = diffrax.Tsit5(), _term(field), (t1 - t0) / steps

    def step(carry: tuple[Array, Any], i: Array) -> tuple[tuple[Array, Any], Array]:
        z, state = carry
        begin, end = t0 + length * i, t0 + length * (i + 1)
        new, _, seen, state, _ = solver.step(term, begin, end, z, None, state, made_jump=False)
        between = solver.interpolation_cls(t0=begin, t1=end, **seen)
        within = [between.evaluate(begin + length * (k / nodes)) for k in range(1, nodes)]
        return (new, state), jnp.stack([*within, new])

    state = solver.init(term, jnp.asarray(t0), jnp.asarray(t0 + length), z, None)
    _, states = jax.lax.scan(step, (z, state), jnp.arange(steps, dtype=float))
    return jnp.concatenate([z[None], states.reshape(-1, *z.shape)])


def _term(field: Callable[[Any, Array], Any]) -> diffrax.ODETerm:
    return diffrax.ODETerm(lambda t, y, _: field(y, jnp.asarray(t)))
