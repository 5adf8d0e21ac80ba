"""The main job, and what its time goes to."""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from densitometer.system.processes import cores
from speed_parts import Found


def measure() -> Found:
    """Wall time, memory and shares of `densitometer study`, cold and warm."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (study(Path(folder), name) for name in ("cold", "warm"))
    table = ["| | cache empty | cache filled |", "|---|---|---|"]
    for label, key in (
        ("whole job, s", "wall"),
        ("cells, s", "cells"),
        ("report, start and end, s", "rest"),
        ("training, % of cores × cells", "train"),
        ("looking at curves, %", "evaluate"),
        ("scoring, %", "score"),
        ("of all these tracing and compiling, %", "compile"),
        ("between cells and at the tail, %", "idle"),
        ("the tail: from the first idle core to the last cell, s", "tail"),
        ("peak memory of a process, GiB", "memory"),
    ):
        table.append(f"| {label} | {cold[key]:.3g} | {warm[key]:.3g} |")
    table += ["", "| s a cell, cache filled | train | curves | score |", "|---|---|---|---|"]
    for family, parts in warm["families"].items():
        table.append(f"| `{family}` | {' | '.join(f'{part:.1f}' for part in parts)} |")
    facts = {
        "cold": cold["wall"],
        "warm": warm["wall"],
        "memory": cold["memory"],
        "working": 100 - cold["idle"] - cold["compile"],
        "looking": cold["evaluate"] + cold["score"],
        "compiling": cold["compile"],
    }
    return table, facts


def study(folder: Path, name: str) -> dict:
    """Run the main job once; its cache is in `folder`, its study in `folder/name`."""
    # Where compiled programs are kept follows from the folder, not from what this process was told.
    told = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [Path(sys.executable).parent / "densitometer", "study", "--out", folder / name]
    began = time.perf_counter()
    subprocess.run(
        list(map(str, command)),
        env=told | {"XDG_CACHE_HOME": str(folder / "cache")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    wall = time.perf_counter() - began
    cells = [
        (path.parts[-3], json.loads(path.read_text()))
        for path in (folder / name / "cells").glob("*/*/*/timing.json")
    ]
    ends = defaultdict(float)
    families = defaultdict(list)
    for family, t in cells:
        end = t["began"] + t["fit"] + t["score"]
        ends[t["worker"]] = max(ends[t["worker"]], end)
        families[family].append((t.get("train", 0.0), t.get("evaluate", 0.0), t["score"]))
    span = max(ends.values()) - min(t["began"] for _, t in cells)
    share = 100 / (len(cores()) * span)
    train, evaluate, score = (
        share * sum(sum(p[i] for p in parts) for parts in families.values()) for i in range(3)
    )
    return {
        "wall": wall,
        "cells": span,
        "rest": wall - span,
        "train": train,
        "evaluate": evaluate,
        "score": score,
        "compile": share * sum(t["compile"] for _, t in cells),
        "idle": 100 - share * sum(t["fit"] + t["score"] for _, t in cells),
        "tail": max(ends.values()) - min(ends.values()),
        "memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
        "families": {
            f: [statistics.median(p) for p in zip(*parts, strict=True)]
            for f, parts in families.items()
        },
    }
