"""How long JAX traces and compiles, so that it can be told from what compiled programs take."""

import time

import jax.monitoring

_INTERVALS: list[tuple[float, float]] = []
"""Begin and end of every piece of it in this process, on the clock of `time.perf_counter`."""


def _note(event: str, duration_secs: float, **_: object) -> None:
    if event.startswith("/jax/core/compile/"):
        now = time.perf_counter()
        _INTERVALS.append((now - duration_secs, now))


jax.monitoring.register_event_duration_secs_listener(_note)


def seconds_compiling(since: float) -> float:
    """Seconds since a reading of `time.perf_counter` that were spent tracing and compiling.

    A program within a program is traced within the other's time, so intervals are united.
    """
    total, reached = 0.0, since
    for began, ended in sorted(_INTERVALS):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
