"""Measure time and memory, and write the tables of `docs/performance.md`.

The main job from an empty and from a filled compilation cache, and what its time went to; a step of
every family, beside the same step in PyTorch; the time to the likelihood of a spline flow; growth
with cells, points, dimension and width; many seeds in one program. What is not installed (PyTorch,
zuko) is left out. Half an hour on two cores, with nothing else running:

    make benchmark-speed
"""

import argparse
import json
import platform
from pathlib import Path

from densitometer.study.plan import DEVICES
from densitometer.system.processes import configure_numerics, cores
from pages import fill
from speed_parts import growth, job, quality, seeds, steps

PARTS = {part.__name__.split(".")[1]: part.measure for part in (job, steps, quality, growth, seeds)}

GOALS = {
    "cold": ("the main job, cache empty, s", "≤ 300"),
    "warm": ("the main job, cache filled, s", "≤ 240"),
    "memory": ("memory of a process, GiB", "≤ 1.5"),
    "working": ("cores at work in compiled code and scores, % of cores × cells", "≥ 90"),
    "looking": ("curves and scores, %", "≤ 30"),
    "compiling": ("tracing and compiling, %", "≤ 10"),
    "pytorch": ("the standard step: times as fast as PyTorch", "≥ 3"),
    "products": ("the standard step: % of the rate of bare products", "≥ 75"),
    "spline": ("time to the likelihood of a spline flow, share of its time, worst target", "≤ 0.2"),
    "straight": ("time against cells: largest distance from a line, %", "≤ 5"),
    "workers": ("slope with one worker over slope with one a core, of the cores", "≥ 0.9"),
    "seeds": ("64 seeds in one program on an accelerator, times one", "≤ 4"),
}
"""By name of what a part has found: what it is, and what we want it to be."""


def machine() -> str:
    """What it was measured on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = {line.split(": ")[1] for line in lines if line.startswith("model name")}
    name = ", ".join(names) or platform.processor()
    return f"{name}, {len(cores())} cores, {platform.system()}, Python {platform.python_version()}"


def held(facts: dict[str, float]) -> list[str]:
    """Each goal beside what has been found."""
    lines = ["| | goal | measured | |", "|---|---|---|---|"]
    for name, (what, goal) in GOALS.items():
        if name not in facts:
            lines.append(f"| {what} | {goal} | not measured | |")
            continue
        found, bound = facts[name], float(goal.split()[1])
        good = found <= bound if goal[0] == "≤" else found >= bound
        verdict = "held" if good else f"missed by {abs(found - bound):.3g}"
        lines.append(f"| {what} | {goal} | {found:.3g} | {verdict} |")
    return lines


def main() -> None:
    """Measure what is asked for, then write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/performance.md"))
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/speed.json"))
    parser.add_argument("--only", choices=PARTS, action="append", help="a part, else all")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="that `seeds` uses")
    options = parser.parse_args()
    configure_numerics(options.device)
    facts = json.loads(options.keep.read_text()) if options.keep.exists() else {}
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    for part in options.only or PARTS:
        table, found = PARTS[part]()
        facts |= found
        lines = [f"Measured on {machine()}.", "", *table]
        print("\n".join(lines), flush=True)
        fill(options.page, part, lines)
        options.keep.write_text(json.dumps(facts, indent=1))
    print("\n".join(held(facts)))
    fill(options.page, "goals", held(facts))


if __name__ == "__main__":
    main()
