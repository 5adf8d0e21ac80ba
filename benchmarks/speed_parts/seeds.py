"""All seeds of a family and target in one program."""

import time

import numpy as np

from speed_parts import Found

STEPS = 1000
"""Of each fit."""


def measure() -> Found:
    """Seconds for one seed and for many, on what JAX computes on here."""
    import jax

    device = jax.devices()[0].platform
    counts = (1, 8, 64) if device != "cpu" else (1, 4)
    lines = [f"On a {device}, {STEPS} steps of `cnf`, curves included, compiled before:", ""]
    lines += ["| seeds | s | times one |", "|---|---|---|"]
    found = {count: seconds(count) for count in counts}
    lines += [f"| {n} | {s:.2f} | {s / found[1]:.2f} |" for n, s in found.items()]
    return lines, {"seeds": found[64] / found[1]} if 64 in found else {}


def seconds(count: int) -> float:
    """Of fitting so many seeds together."""
    import densitometer as dm
    from densitometer.training import fit_seeds

    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, 2500, 2)).astype(np.float32)
    family = dm.families.get("cnf", steps=STEPS)
    for _ in range(2):
        began = time.perf_counter()
        fit_seeds(family, points[:, 500:], points[:, :500], seeds=range(count))
        took = time.perf_counter() - began
    return took
