"""A study, run: cells in, files kept, progress shown, failures counted."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence

from rich.console import Console

from densitometer.study.display import Display
from densitometer.study.events import Event, Failed, Finished, Kept, Work
from densitometer.study.executors import run_locally
from densitometer.study.plan import Cell, Plan
from densitometer.study.store import Store

Execute = Callable[
    [Sequence[Cell], Work, Callable[[Cell], bytes | None], Callable[[Cell], Hashable]],
    Generator[Event, None, None],
]
"""Runs cells, given what runs one, its checkpoint if any and its compile key; yields events."""

WRITE_EVERY = 5.0
"""Seconds after which `results.csv` may be behind."""


def run(
    store: Store,
    console: Console,
    *,
    workers: int,
    work: Work | None = None,
    execute: Execute | None = None,
) -> dict[Cell, str]:
    """Run the cells that `store` lacks and write `results.csv`.

    Interrupted anywhere, by anything, and run again, it ends with the same `results.csv`.

    Args:
        store: the open folder of the study, and its plan.
        console: where progress is shown.
        workers: how many cells run at once.
        work: what runs a cell, if not `cells.run_cell`.
        execute: where cells run, if not in so many processes of this machine.

    Returns:
        Why each cell failed that did; their tracebacks are in their folders.
    """
    if work is None:
        from densitometer.study.cells import run_cell

        work = functools.partial(run_cell, plan=store.plan)
    missing = in_order(store.missing(), store.plan.work, workers)
    done = len(store.plan.cells()) - len(missing)
    failures: dict[Cell, str] = {}
    log = store.folder / "workers.log"
    if execute is None:
        execute = functools.partial(run_locally, workers=workers, log=log, device=store.plan.device)
    with (
        Display(missing, store.plan, console, workers=workers, done=done) as display,
        contextlib.closing(execute(missing, work, store.kept, _compile_key(store.plan))) as events,
    ):
        written = time.monotonic()
        for event in events:
            if isinstance(event, Finished):
                store.put(event.cell, event.files)
            elif isinstance(event, Kept):
                store.keep(event.cell, event.checkpoint)
            elif isinstance(event, Failed):
                store.put_error(event.cell, event.trace or event.error)
                failures[event.cell] = event.error
            display.show(event, store.rows(event.cell) if isinstance(event, Finished) else ())
            if time.monotonic() - written > WRITE_EVERY:
                store.write_results()
                written = time.monotonic()
    store.write_results()
    if log.exists() and log.stat().st_size == 0:
        log.unlink()
    return failures


def _compile_key(plan: Plan) -> Callable[[Cell], str | None]:
    """The family of a cell that is trained; the references, which are quick, fill gaps wherever."""
    return lambda cell: cell.family if plan.work(cell) else None


def in_order(cells: Iterable[Cell], work: Callable[[Cell], int], workers: int) -> list[Cell]:
    """The order to start cells in: one of each family, then the rest, each the longest first.

    The first cell of a family compiles what the others find compiled, so no two workers are to
    begin with the same family. One worker alone takes the seeds of a family and target in a row.
    """
    longest = sorted(cells, key=work, reverse=True)
    if workers == 1:
        return longest
    first: dict[str, Cell] = {}
    for cell in longest:
        first.setdefault(cell.family, cell)
    return [*first.values(), *(cell for cell in longest if cell not in first.values())]
