"""Kill, mangle and overload studies, and write the tables of `docs/reliability.md`.

A hundred `kill -9` at random moments; ten thousand mangled files for every reader; a study of a
thousand cells that cost nothing; and the main job on a Dask cluster beside local processes. An hour
and a half on two cores, with nothing else running:

    make benchmark-reliability
"""

import argparse
import functools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from densitometer.system.processes import configure_numerics, cores
from mangle import hostile_models, mangled
from pages import fill

KILLS = 100
FILES = 10_000
CELLS = 1_000
PAIRS = 3

PLAN = """
budget = "smoke"
targets = ["gaussian_mixture"]
seeds = 1
[families.gan]
steps = 600_000
[families.vae]
[families.cnf]
steps = 600_000
"""
"""A smoke study, two of whose cells take long enough to leave checkpoints."""

DIFFERENT = Path("out/benchmark/different")
"""Where a killed study that differs is kept, beside the one that was left alone."""

OWN = {"timing.json", "manifest.json"}
"""Files that tell when and where a cell ran, and so differ."""


def kills() -> list[str]:
    """Studies killed again and again, each in the end beside one that was left alone."""
    moments = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.toml").write_text(PLAN)
        assert start(folder, "whole").wait() == 0  # compiles too
        (folder / "whole").rename(folder / "compiled")
        began = time.perf_counter()
        assert start(folder, "whole").wait() == 0
        took = time.perf_counter() - began
        whole = contents(folder / "whole")
        victims, resumed, studies, wrong = Counter[str](), 0, 0, 0
        while victims.total() < KILLS:
            studies += 1
            out, again = folder / f"killed-{studies}", True
            while again:
                process = start(folder, out.name)
                victim = moments.choice(["the study", "a worker"])
                try:
                    # After half a study's time at most: nearly every study is killed repeatedly.
                    process.wait(moments.uniform(0.5, took / 2))
                except subprocess.TimeoutExpired:
                    victims[victim] += kill(process, victim)
                again = process.wait() != 0
                resumed += len(list(out.rglob("checkpoint.safetensors")))
            if strange := differing(whole, contents(out)):
                wrong += 1
                for one in (folder / "whole", out):
                    shutil.copytree(one, DIFFERENT / one.name, dirs_exist_ok=True)
            print(
                f"{victims.total()} kills, {studies} studies, {wrong} wrong", *strange, flush=True
            )
    return [
        "| | |",
        "|---|---|",
        *(f"| `kill -9` of {who} | {times} |" for who, times in sorted(victims.items())),
        f"| studies that these kills fell on, of {took:.0f} s each | {studies} |",
        f"| cells found half done afterwards | {resumed} |",
        f"| studies that ended with another byte than one left alone | {wrong} |",
    ]


def start(folder: Path, out: str, where: str = "--study") -> subprocess.Popen:
    """A study in a process group of its own, without a report; with ``--dask`` on a cluster."""
    words = [sys.executable, __file__, where, folder / "plan.toml", folder / out]
    return subprocess.Popen(list(map(str, words)), start_new_session=True)


def kill(process: subprocess.Popen, victim: str) -> int:
    """Kill the study, or one of its workers; how many were killed."""
    if victim == "the study":
        process.kill()
        return 1
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for child in listed.read_text().split() if listed.exists() else ():
        if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
            os.kill(int(child), signal.SIGKILL)
            return 1
    return 0


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a study that is a function of its plan."""
    files = [path for path in out.rglob("*") if path.is_file() and path.name not in {".lock", *OWN}]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def differing(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """The files that are not the same in both."""
    return sorted(name for name in one | other if one.get(name) != other.get(name))


def one_study(plan: Path, out: Path, *, dask: bool = False) -> None:
    """Run a plan without a report."""
    from rich.console import Console

    from densitometer.study.cluster import connected, run_on
    from densitometer.study.plan import Plan
    from densitometer.study.runner import run
    from densitometer.study.store import opened

    configure_numerics()
    quiet, workers = Console(quiet=True), len(cores())
    with opened(out, Plan.from_file(plan)) as store:
        if not dask:
            assert not run(store, quiet, workers=workers)
            return
        with connected(None, workers) as client:
            execute = functools.partial(run_on, client)
            assert not run(store, quiet, workers=workers, execute=execute)


def cluster() -> list[str]:
    """Seconds of the main job's cells, with local processes and on a Dask cluster, in turns."""
    how, different = {"local": "--study", "dask": "--dask"}, set[str]()
    walls: dict[str, list[float]] = {name: [] for name in how}
    busy: dict[str, list[float]] = {name: [] for name in how}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.toml").write_text("seeds = 1")
        assert start(folder, "whole").wait() == 0  # compiles
        whole = contents(folder / "whole")
        for turn in range(PAIRS):
            # Now the one first, now the other: a machine that slows down wrongs neither.
            for which in sorted(how, reverse=turn % 2 == 0):
                out, before = f"{which}-{turn}", used()
                began = time.perf_counter()
                assert start(folder, out, how[which]).wait() == 0
                walls[which].append(time.perf_counter() - began)
                busy[which].append(used() - before)
                seconds = f"{walls[which][-1]:.1f} s, of processor {busy[which][-1]:.1f} s"
                print(f"{which}: {seconds}", flush=True)
                different |= set(differing(whole, contents(folder / out)))
    print(*sorted(different), sep="\n", flush=True)
    titles = {"local": "local processes", "dask": "a Dask cluster of this machine"}
    more = {
        what: [100 * (d / one - 1) for one, d in zip(table["local"], table["dask"], strict=True)]
        for what, table in (("wall", walls), ("busy", busy))
    }
    percent = {what: " / ".join(f"{m:+.1f} %" for m in pairs) for what, pairs in more.items()}
    return [
        "| the main job without its report | time, s | processor time, s |",
        "|---|---|---|",
        *(
            f"| {titles[which]} | {' / '.join(f'{s:.0f}' for s in walls[which])} | "
            f"{' / '.join(f'{s:.0f}' for s in busy[which])} |"
            for which in how
        ),
        f"| Dask takes more | {percent['wall']} | {percent['busy']} |",
        "",
        f"In {PAIRS} pairs of whole processes in turns, the cluster's start and end included. "
        f"The median is **{np.median(more['wall']):+.1f} %** of time and "
        f"{np.median(more['busy']):+.1f} % of processor time. Files that differ: {len(different)}.",
    ]


def used() -> float:
    """Seconds of processor time that ended processes of this one, and theirs, have taken."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def files() -> list[str]:
    """Every reader on mangled files: what came of it, the longest time, the most memory."""
    configure_numerics()
    import jax
    import jax.numpy as jnp

    import densitometer as dm
    from densitometer import checkpoint
    from densitometer.points import check_points
    from densitometer.study.plan import Plan
    from densitometer.system.files import read_points

    def points(path: Path) -> Any:
        return check_points(read_points(path), "x")

    lines = ["| reader | files | read | refused in a sentence | else | longest, s |"]
    lines.append("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        x = np.random.default_rng(0).normal(size=(300, 2))
        np.save(folder / "x.npy", x.astype(np.float32))
        np.savetxt(folder / "x.csv", x, delimiter=",")
        (folder / "plan.toml").write_text(PLAN)
        (folder / "plan.json").write_text(Plan.make({"gan": {}}, ["spiral"]).to_json())
        models = []
        for family_name in dm.families.FAMILIES:
            family = dm.families.get(family_name, width=8, depth=1)
            state = family.init(jax.random.key(0), jnp.asarray(x, jnp.float32))
            models.append(checkpoint.encode_model(family.model(state), family))
        readers: dict[str, Callable[[Path], Any]] = {
            "x.npy": points,
            "x.csv": points,
            "plan.toml": Plan.from_file,
            "plan.json": Plan.from_file,
        }
        inputs = {n: [(folder / n).read_bytes()] for n in readers} | {"model.safetensors": models}
        for file, reader in (readers | {"model.safetensors": dm.load}).items():
            rng, path = np.random.default_rng(0), folder / file
            found, longest = Counter[str](), 0.0
            hostile = [c for model in models for c in hostile_models(model)]
            extra = hostile if file == "model.safetensors" else []
            for i in range(FILES + len(extra)):
                good = inputs[file][i % len(inputs[file])]
                path.write_bytes(mangled(good, rng) if i < FILES else extra[i - FILES])
                began = time.perf_counter()
                try:
                    reader(path)
                    found["read"] += 1
                except dm.UsageError as error:
                    found["sentence" if "\n" not in str(error) else "else"] += 1
                except Exception as error:
                    found["else"] += 1
                    print(f"{file}: {type(error).__name__}: {error}", flush=True)
                longest = max(longest, time.perf_counter() - began)
            lines.append(
                f"| `{file}` | {found.total()} | {found['read']} | {found['sentence']} | "
                f"{found['else']} | {longest:.2f} |"
            )
            print(lines[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return [*lines, "", f"The process that read them all took {peak:.2f} GiB at its peak."]


def nothing(context: Any) -> dict[str, bytes]:
    """A cell that costs nothing, with files of the usual sizes."""
    row = context.cell._asdict() | {
        "metric": "kl",
        "value": 0.1,
        "stderr": 0.1,
        "provenance": "exact",
    }
    rows = [row | {"metric": f"metric_{i}"} for i in range(30)]
    names = ("model.safetensors", "samples.npy", "log_density.npy", "curves.csv", "timing.json")
    return {"scorecard.json": json.dumps(rows).encode()} | dict.fromkeys(names, bytes(40_000))


def thousand() -> list[str]:
    """A plan of a thousand cells: time and memory of the parent."""
    from rich.console import Console

    from densitometer.study.plan import Plan
    from densitometer.study.runner import run
    from densitometer.study.store import opened

    lines = ["| cells | ms a cell | parent, MiB | to open it again, s |", "|---|---|---|---|"]
    for n in (CELLS // 10, CELLS):
        plan = Plan.make({"gan": {}}, ["spiral"], range(n // 4), "smoke")
        with tempfile.TemporaryDirectory() as name:
            began = time.perf_counter()
            with opened(Path(name) / "study", plan) as store:
                run(store, Console(quiet=True), workers=len(cores()), work=nothing)
            took = time.perf_counter() - began
            began = time.perf_counter()
            with opened(Path(name) / "study", plan) as store:
                assert not store.missing()
            again = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
        lines.append(f"| {n} | {1e3 * took / n:.1f} | {memory:.0f} | {again:.2f} |")
    return lines


PARTS: dict[str, Callable[[], list[str]]] = {
    "thousand": thousand,  # first: it looks at the most memory that this process has had
    "cluster": cluster,
    "kills": kills,
    "files": files,
}


def main() -> None:
    """Measure what is asked for, then write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/reliability.md"))
    parser.add_argument("--only", choices=PARTS, action="append", help="a part, else all")
    parser.add_argument("--study", nargs=2, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--dask", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.study or options.dask:
        one_study(*(options.study or options.dask), dask=bool(options.dask))
        return
    for part in options.only or PARTS:
        lines = PARTS[part]()
        print("\n".join(lines), flush=True)
        fill(options.page, part, lines)


if __name__ == "__main__":
    main()
