"""Measure time and memory, and write the tables of `docs/performance.md`.

The main job, from an empty and from a filled compilation cache, and what its time went to; and one
training step of every family beside the same step in PyTorch, where that is installed, and beside
bare matrix products. A quarter of an hour on two cores, with nothing else running:

    make benchmark-speed
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from densitometer.study.executors import cores, settle
from pages import fill

ROUNDS = 7
"""Times that a step is measured, in turn with what it is compared with; the best counts."""

STEPS = 200
"""Steps a measurement."""

WIDTH, DEPTH, BATCH = 128, 3, 256
"""The standard denoising network."""


def main_job() -> list[str]:
    """Wall time, memory and shares of `densitometer study`, cold and warm."""
    table = ["| | cache empty | cache filled |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        runs = [study(Path(folder), name) for name in ("cold", "warm")]
    for label, key in (
        ("whole job, s", "wall"),
        ("cells, s", "cells"),
        ("report, start and end, s", "rest"),
        ("training, % of cores × cells", "train"),
        ("looking at curves, %", "evaluate"),
        ("scoring, %", "score"),
        ("between cells and at the tail, %", "idle"),
        ("peak memory of a process, GiB", "memory"),
    ):
        table.append(f"| {label} | {' | '.join(format(run[key], '.3g') for run in runs)} |")
    families = list(runs[0]["families"])
    table += ["", "| s a cell, cache filled | train | curves | score |", "|---|---|---|---|"]
    for family in families:
        parts = runs[1]["families"][family]
        table.append(f"| `{family}` | {' | '.join(f'{part:.1f}' for part in parts)} |")
    return table


def study(folder: Path, name: str) -> dict:
    """Run the main job once; its cache is in `folder`, its study in `folder/name`."""
    command = [Path(sys.executable).parent / "densitometer", "study", "--out", folder / name]
    began = time.perf_counter()
    subprocess.run(
        list(map(str, command)),
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall = time.perf_counter() - began
    timings = [
        (path.parts[-3], json.loads(path.read_text()))
        for path in (folder / name / "cells").glob("*/*/*/timing.json")
    ]
    span = max(t["began"] + t["fit"] + t["score"] for _, t in timings)
    span -= min(t["began"] for _, t in timings)
    capacity = len(cores()) * span
    families = defaultdict(list)
    for family, t in timings:
        families[family].append((t.get("train", 0.0), t.get("evaluate", 0.0), t["score"]))
    shares = [
        100 * sum(sum(p[i] for p in parts) for parts in families.values()) / capacity
        for i in range(3)
    ]
    return {
        "wall": wall,
        "cells": span,
        "rest": wall - span,
        "train": shares[0],
        "evaluate": shares[1],
        "score": shares[2],
        "idle": 100 * (1 - sum(t["fit"] + t["score"] for _, t in timings) / capacity),
        "memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "families": {
            f: [statistics.median(p) for p in zip(*parts, strict=True)]
            for f, parts in families.items()
        },
    }


def steps() -> list[str]:
    """One step of every family, on one core."""
    from densitometer import families

    os.sched_setaffinity(0, {cores()[0]})
    table = ["| | ms a step | points a step |", "|---|---|---|"]
    for name in families.FAMILIES:
        family = families.get(name)
        run, _ = stepper(family)
        table.append(f"| `{name}` | {1e3 * best(run):.2f} | {family.batch_size} |")
    return [*table, "", *denoising()]


def stepper(family) -> tuple[Callable[[], None], object]:
    """A function that takes `STEPS` steps of a family, and a state of it."""
    import jax
    import jax.numpy as jnp

    from densitometer import training

    data = jax.random.normal(jax.random.key(0), (2000, 2))
    state = training._init(family, jax.random.key(1), data)

    def run() -> None:
        zero = jnp.asarray(0)
        ahead = training._advance(family, STEPS, jax.random.key(2), state, zero, data)
        jax.block_until_ready(ahead)

    return run, state


def denoising() -> list[str]:
    """The standard denoising step here, in PyTorch, and as bare matrix products."""
    import jax
    import jax.numpy as jnp

    from densitometer import families

    family = families.get("cnf", width=WIDTH, depth=DEPTH, batch_size=BATCH)
    run, state = stepper(family)
    sizes = [w.shape for w in state.network.mlp.weights]
    flops = 3 * sum(2 * BATCH * i * o for i, o in sizes)
    contenders: dict[str, Callable[[], None]] = {"this package": run}

    factors = [(jnp.ones((BATCH, WIDTH)), jnp.ones((WIDTH, WIDTH)))]

    @jax.jit
    def products(a, b):
        return jax.lax.fori_loop(0, STEPS, lambda _, x: 1e-3 * (x @ b), a)

    contenders["bare products"] = lambda: products(*factors[0]).block_until_ready()
    contenders |= pytorch(sizes)
    times = {name: [] for name in contenders}
    for contender in contenders.values():
        contender()
    for _ in range(ROUNDS):
        for name, contender in contenders.items():
            began = time.perf_counter()
            contender()
            times[name].append((time.perf_counter() - began) / STEPS)
    ours = min(times["this package"])
    peak = 2 * BATCH * WIDTH * WIDTH / min(times["bare products"])
    lines = ["| the standard denoising step | ms | times ours |", "|---|---|---|"]
    for name, values in times.items():
        if name != "bare products":
            lines.append(f"| {name} | {1e3 * min(values):.3f} | {min(values) / ours:.2f} |")
    share = 100 * flops / ours / peak
    lines += [
        "",
        f"Matrix products alone run at {peak / 1e9:.0f} GFLOP/s; "
        f"the step does its own at {flops / ours / 1e9:.0f}, {share:.0f} %.",
    ]
    return lines


def pytorch(sizes: list[tuple[int, int]]) -> dict[str, Callable[[], None]]:
    """The same network, loss and optimiser in PyTorch, if there is one."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    found = {}
    for name, compiled in (("eager, fused Adam", False), ("compiled", True)):
        layers: list[torch.nn.Module] = []
        for i, o in sizes:
            layers += [torch.nn.Linear(i, o), torch.nn.SiLU()]
        network = torch.nn.Sequential(*layers[:-1])
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        data = torch.randn(2000, 2)
        frequencies = torch.randn(2, 16)

        def loss(network=network, data=data, frequencies=frequencies) -> torch.Tensor:
            x1 = data[torch.randint(0, len(data), (BATCH,))]
            t, x0 = torch.rand(BATCH, 1), torch.randn(BATCH, 2)
            z = t * x1 + (1 - t) * x0
            phase, clock = z @ frequencies, t * torch.tensor([[1.0, 2.0, 4.0, 8.0]])
            features = [z, phase.cos(), phase.sin(), t, clock.cos(), clock.sin()]
            return ((network(torch.cat(features, 1)) - (x1 - x0)) ** 2).mean()

        objective = torch.compile(loss) if compiled else loss

        def run(optimiser=optimiser, objective=objective) -> None:
            for _ in range(STEPS):
                optimiser.zero_grad()
                objective().backward()
                optimiser.step()

        found[f"PyTorch {torch.__version__.split('+')[0]}, {name}"] = run
    return found


def best(run: Callable[[], None]) -> float:
    """Seconds a step, the best of some."""
    run()
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run()
        times.append((time.perf_counter() - began) / STEPS)
    return min(times)


PARTS: dict[str, Callable[[], list[str]]] = {"job": main_job, "steps": steps}


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(": ")[1] for line in lines if line.startswith("model name")}
    name = ", ".join(names) or platform.processor()
    return f"{name}, {len(cores())} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    """Measure what is asked for, then write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    parser.add_argument("--only", choices=PARTS, action="append", help="a part, else all")
    options = parser.parse_args()
    settle()
    for part in options.only or PARTS:
        lines = [f"Measured on {machine()}.", "", *PARTS[part]()]
        print("\n".join(lines), flush=True)
        fill(options.page, part, lines)


if __name__ == "__main__":
    main()
