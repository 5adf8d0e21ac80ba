"""All seeds of a family and target in one program, and the same numbers from an accelerator."""

import math
import os
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from densitometer.system.processes import cores
from speed_parts import Found

STEPS = 1000
"""Of each fit that is timed."""

PAIRS = range(8)
"""Seeds whose fits on an accelerator are held against those on the CPU."""


def measure() -> Found:
    """Seconds for one seed and for many on what JAX computes on here; there, too, the numbers."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # studies need some as well
    import jax

    device = jax.devices()[0]
    counts = (1, 8, 64) if device.platform != "cpu" else (1, 4)
    lines = [
        f"On a {device.device_kind}, {STEPS} steps of `cnf`, curves included, compiled before:"
    ]
    lines += ["", "| seeds | s | times one |", "|---|---|---|"]
    found = {count: seconds(count) for count in counts}
    lines += [f"| {n} | {s:.2f} | {s / found[1]:.2f} |" for n, s in found.items()]
    if device.platform == "cpu":
        return lines, {}
    return [*lines, "", *agreement()], {"seeds": found[64] / found[1]}


def seconds(count: int) -> float:
    """Of fitting so many seeds together."""
    import densitometer as dm
    from densitometer.training import fit_seeds

    rng = np.random.default_rng(0)
    points = rng.standard_normal((count, 2500, 2)).astype(np.float32)
    family = dm.families.get("cnf", steps=STEPS)
    took = math.nan
    for _ in range(2):
        began = time.perf_counter()
        fit_seeds(family, [*points[:, 500:]], [*points[:, :500]], seeds=range(count))
        took = time.perf_counter() - began
    return took


def agreement() -> list[str]:
    """Every family fitted on the spiral by an accelerator and by the CPU, seed by seed.

    Both start alike and draw the same numbers, but add in another order; training amplifies that
    until the two fits differ as those of two seeds on the same data do. Their mean may not.
    """
    from rich.console import Console

    from densitometer.families import FAMILIES
    from densitometer.findings.results import Results
    from densitometer.study.plan import PROTOCOLS, Plan
    from densitometer.study.runner import run
    from densitometer.study.store import opened

    os.environ["JAX_PLATFORMS"] = "cpu"  # of the studies' workers, unless their plan says else
    results = {}
    with tempfile.TemporaryDirectory() as name:
        for device in ("cpu", "gpu"):
            plan = Plan.make(targets=["spiral"], seeds=PAIRS, device=device)
            plan = replace(plan, protocol=PROTOCOLS["smoke"])  # trained in full, judged on less
            with opened(Path(name) / device, plan) as store:
                failures = run(store, Console(), workers=len(cores()) if device == "cpu" else 1)
                assert not failures, failures
            results[device] = Results.read(Path(name) / device)
    lines = [
        f"Fits of {len(PAIRS)} seeds on the spiral, by the accelerator less by the CPU:",
        "",
        "| | | CPU, mean | difference | its standard error |",
        "|---|---|---|---|---|",
    ]
    for family in FAMILIES:
        metric = "bhattacharyya" if family == "gan" else "kl"
        ours, theirs = (
            [cell.scorecard[metric][0] for cell in results[device].cells("spiral", family)]
            for device in ("cpu", "gpu")
        )
        apart = [b - a for a, b in zip(ours, theirs, strict=True)]
        error = statistics.stdev(apart) / len(apart) ** 0.5
        lines.append(
            f"| `{family}` | `{metric}` | {statistics.mean(ours):.4f} | "
            f"{statistics.mean(apart):+.4f} | {error:.4f} |"
        )
    return lines
