"""How long JAX traces and compiles, as distinguished from how long compiled programs run."""

import time

import jax.monitoring

_INTERVALS: list[tuple[float, float]] = []
"""Begin and end of every tracing or compilation in this process, by `time.perf_counter`."""


def _note(event: str, duration_secs: float, **_: object) -> None:
    if event.startswith("/jax/core/compile/"):
        now = time.perf_counter()
        _INTERVALS.append((now - duration_secs, now))


jax.monitoring.register_event_duration_secs_listener(_note)


def seconds_compiling(since: float) -> float:
    """Seconds spent tracing and compiling since a reading of `time.perf_counter`.

    A program inside another is traced during the other's time, so overlaps count once.
    """
    total, reached = 0.0, since
    for began, ended in sorted(_INTERVALS):
        total += max(0.0, ended - max(began, reached))
        reached = max(reached, ended)
    return total
