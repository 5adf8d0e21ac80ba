"""Cells that cost nothing, well- and ill-behaved; also a program that runs a study of them."""

import functools
import json
import os
import signal
import sys
import time
import zlib
from pathlib import Path

from densitometer.study.plan import Plan


def plan(seeds=2):
    return Plan.make({"dsm": {}, "gan": {}}, ["spiral", "checkerboard"], range(seeds), "smoke")


def good(desk, seconds=0.0):
    """Numbers that depend on the cell alone, and on no round decimals."""
    for step in range(int(desk.kept or 0), 4):
        desk.report("training", step, 4, 1 / (step + 1))
        time.sleep(seconds / 4)
        desk.keep(str(step + 1).encode())
    value = zlib.crc32(str(desk.cell).encode()) / 7
    numbers = {"metric": "kl", "value": value, "stderr": 0.1, "provenance": "ode(rtol=1, mass=1)"}
    row = desk.cell._asdict() | numbers
    rows = [row, row | {"metric": "nll", "value": None}]
    return {"scorecard.json": json.dumps(rows).encode(), "samples.npy": os.urandom(1000)}


def keeps_on(desk):
    while True:
        desk.keep(bytes(1 << 20))


def raises(desk):
    if (desk.cell.family, desk.cell.seed) == ("dsm", 1):
        raise ValueError("this cell is ill")
    return good(desk)


def raises_with_a_note(desk):
    """Raises as what JAX runs does: with a note that says nothing of why."""
    error = ValueError("\nthis cell is ill\nand this is how")
    error.add_note("For simplicity, JAX has removed its internal frames from the traceback.")
    raise error


def exhausts(desk):
    if str(desk.cell) == "spiral/gan/0":
        bytearray(1 << 60)
    return good(desk)


def kills_itself(desk, marks, times):
    """Ends its own process, brutally, the first `times` times that one of the cells runs.

    Each time it leaves a step more, and a mark with the step at which it began.
    """
    if str(desk.cell) == "spiral/dsm/0":
        starts = len(list(marks.iterdir()))
        (marks / str(starts)).write_bytes(desk.kept or b"0")
        if starts < times:
            desk.keep(str(starts + 1).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    return good(desk)


if __name__ == "__main__":  # workers import this file too, and need none of these
    from rich.console import Console

    from densitometer.study.runner import run
    from densitometer.study.store import opened

    with opened(Path(sys.argv[1]), plan()) as store:
        work = functools.partial(good, seconds=float(sys.argv[2]))
        sys.exit(len(run(store, Console(), workers=2, work=work)))
