"""How time and memory grow: with cells and workers, points, dimension, width."""

import math
import multiprocessing
import re
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from densitometer.system.processes import configure_numerics, cores
from speed_parts import Found

SEEDS = (4, 8, 16)
"""Of the studies whose time is measured, four cells a seed."""

STEPS = 500
"""Of the fits that are measured."""

POINTS = (1_000, 10_000, 100_000, 1_000_000)
DIMENSIONS = (1, 2, 8, 64)
WIDTHS = (32, 128, 512)


def measure() -> Found:
    """All four."""
    lines, facts = with_cells()
    lines += ["", "| points | s for 500 steps | GiB | s to score as many | GiB |"]
    lines += ["|---|---|---|---|---|"]
    for n in POINTS:
        (fit, fit_memory), (score, score_memory) = alone(fitted, n, 2, 128), alone(scored, n)
        lines.append(
            f"| {n:,} | {fit['steps']:.1f} | {fit_memory:.2f} | {score:.1f} | {score_memory:.2f} |"
        )
        print(lines[-1], flush=True)
    for what, values in (("dimension", DIMENSIONS), ("width", WIDTHS)):
        lines += ["", f"| {what} | ms a step | ms a log-density | GiB |", "|---|---|---|---|"]
        for value in values:
            dim, width = (value, 128) if what == "dimension" else (2, value)
            found, memory = alone(fitted, 2000, dim, width)
            step, density = 1e3 * found["steps"] / STEPS, 1e3 * found["density"]
            lines.append(f"| {value} | {step:.2f} | {density:.2f} | {memory:.2f} |")
            print(lines[-1], flush=True)
    return lines, facts


def with_cells() -> Found:
    """Seconds of smoke studies of more and more cells, with one worker and with one a core."""
    seconds: dict[int, list[float]] = {}
    lines = ["| cells | " + " | ".join(f"{w} worker(s), s" for w in workers()) + " |"]
    lines.append("|---|" + "---|" * len(workers()))
    run_study(1, len(cores()))  # compiles
    for count in workers():
        seconds[count] = [run_study(seeds, count) for seeds in SEEDS]
    cells = [4 * seeds for seeds in SEEDS]
    for i, n in enumerate(cells):
        lines.append(f"| {n} | {' | '.join(f'{seconds[w][i]:.1f}' for w in workers())} |")
    slopes, away = {}, 0.0
    for count, times in seconds.items():
        slopes[count], start = np.polyfit(cells, times, 1)
        line = start + slopes[count] * np.array(cells)
        away = max(away, float(np.max(np.abs(line - times) / times)))
    told = " and ".join(f"{slopes[w]:.2f} s a cell with {w}" for w in workers())
    lines += ["", f"Lines through them: {told}; no time is further than {100 * away:.0f} % off."]
    most = workers()[-1]
    return lines, {"straight": 100 * away, "workers": slopes[1] / slopes[most] / most}


def workers() -> list[int]:
    """One, and one a core."""
    return sorted({1, len(cores())})


def run_study(seeds: int, count: int) -> float:
    """Seconds of a smoke study of the baselines and one family on one target."""
    from rich.console import Console

    from densitometer.study.plan import Plan
    from densitometer.study.runner import run
    from densitometer.study.store import opened

    plan = Plan.make({"cnf": {}}, ["gaussian_mixture"], range(seeds), "smoke")
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "study", plan) as store:
        began = time.perf_counter()
        failures = run(store, Console(quiet=True), workers=count)
        assert not failures
        return time.perf_counter() - began


def alone(job: Any, *args: Any) -> tuple[Any, float]:
    """What a job gives in a fresh process, and the GiB that this needed at its peak."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=configure_numerics) as pool:
        return pool.submit(_measured, job, args).result()


def _measured(job: Any, args: Any) -> tuple[Any, float]:
    found = job(*args)
    # Not `ru_maxrss`, which begins with what the parent had.
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return found, int(peak[1]) / 2**20 if peak else math.nan


def fitted(n: int, dim: int, width: int) -> dict[str, float]:
    """Seconds of the steps of `cnf` on n points, and of one log-density, compiled before."""
    import jax

    import densitometer as dm
    from densitometer.models import HasDensity

    points = np.random.default_rng(0).standard_normal((n + 500, dim)).astype(np.float32)
    family = dm.families.get("cnf", steps=STEPS, width=width)
    dm.fit(family, points[500:], points[:500])
    fit = dm.fit(family, points[500:], points[:500])
    model = fit.model
    assert isinstance(model, HasDensity)
    took = math.nan
    for _ in range(2):
        began = time.perf_counter()
        jax.block_until_ready(model.log_prob(points[:500]))
        took = time.perf_counter() - began
    return {"steps": fit.seconds["train"], "density": took / 500}


def scored(n: int) -> float:
    """Seconds of all metrics on n samples."""
    from densitometer import targets
    from densitometer.randomness import key_for
    from densitometer.scoring.evidence import Evidence, judge

    target = targets.get("gaussian_mixture")
    samples = np.asarray(target.sample(key_for(0, "samples"), n))
    judge(Evidence(target, 0, samples[:1000]))
    began = time.perf_counter()
    judge(Evidence(target, 0, samples))
    return time.perf_counter() - began
