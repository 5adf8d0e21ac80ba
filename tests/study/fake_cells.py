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


def good(context, seconds=0.0):
    """Numbers that depend on the cell alone, and on no round decimals."""
    for step in range(int(context.checkpoint or 0), 4):
        context.report("training", step, 4, 1 / (step + 1))
        time.sleep(seconds / 4)
        context.save(str(step + 1).encode())
    value = zlib.crc32(str(context.cell).encode()) / 7
    numbers = {"metric": "kl", "value": value, "stderr": 0.1, "provenance": "ode(rtol=1, mass=1)"}
    row = context.cell._asdict() | numbers
    rows = [row, row | {"metric": "nll", "value": None}]
    return {"scorecard.json": json.dumps(rows).encode(), "samples.npy": os.urandom(1000)}


def keeps_on(context):
    while True:
        context.save(bytes(1 << 20))


def raises(context):
    if (context.cell.family, context.cell.seed) == ("dsm", 1):
        raise ValueError("this cell is ill")
    return good(context)


def raises_with_a_note(context):
    """Raises as what JAX runs does: with a note that says nothing of why."""
    error = ValueError("\nthis cell is ill\nand this is how")
    error.add_note("For simplicity, JAX has removed its internal frames from the traceback.")
    raise error


def exhausts(context):
    if str(context.cell) == "spiral/gan/0":
        bytearray(1 << 60)
    return good(context)


def kills_itself(context, marks, times):
    """Ends its own process, brutally, the first `times` times that one of the cells runs.

    Each time it leaves a step more, and a mark with the step at which it began.
    """
    if str(context.cell) == "spiral/dsm/0":
        starts = len(list(marks.iterdir()))
        (marks / str(starts)).write_bytes(context.checkpoint or b"0")
        if starts < times:
            context.save(str(starts + 1).encode())
            os.kill(os.getpid(), signal.SIGKILL)
    return good(context)


if __name__ == "__main__":  # workers import this file too, and need none of these
    from rich.console import Console

    from densitometer.study.runner import run
    from densitometer.study.store import opened

    with opened(Path(sys.argv[1]), plan()) as store:
        work = functools.partial(good, seconds=float(sys.argv[2]))
        sys.exit(len(run(store, Console(), workers=2, work=work)))
