"""The runner of a study: runs its cells, stores their files, shows progress, counts failures."""

import contextlib
import functools
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence

from rich.console import Console

from densitometer.study.display import Display
from densitometer.study.events import Checkpointed, Event, Failed, Finished, Work
from densitometer.study.executors import run_locally
from densitometer.study.plan import Cell, Plan
from densitometer.study.store import Store

Execute = Callable[
    [Sequence[Cell], Work, Callable[[Cell], bytes | None], Callable[[Cell], Hashable]],
    Generator[Event, None, None],
]
"""Runs cells, given what runs one, the checkpoint of each and its compile key; yields events."""

WRITE_EVERY = 5.0
"""Seconds by which `results.csv` may lag behind."""


def run(
    store: Store,
    console: Console,
    *,
    workers: int,
    work: Work | None = None,
    execute: Execute | None = None,
) -> dict[Cell, str]:
    """Run the cells that `store` lacks and write `results.csv`.

    Interrupted at any moment and run again, it ends with the same `results.csv`.

    Args:
        store: the open folder of the study, and its plan.
        console: where progress is shown.
        workers: how many cells run at once.
        work: the function that runs a cell; by default `cells.run_cell`.
        execute: the executor; by default `workers` processes of this machine.

    Returns:
        Why cells failed, by cell; their tracebacks are in their folders.
    """
    if work is None:
        from densitometer.study.cells import run_cell

        work = functools.partial(run_cell, plan=store.plan)
    missing = in_order(store.missing(), store.plan.work, workers)
    done = len(store.plan.cells()) - len(missing)
    failures: dict[Cell, str] = {}
    log = store.folder / "workers.log"
    compile_key = _compile_key(store.plan)
    if execute is None:
        execute = functools.partial(run_locally, workers=workers, log=log, device=store.plan.device)
    with (
        Display(missing, store.plan, console, workers=workers, done=done) as display,
        contextlib.closing(execute(missing, work, store.checkpoint, compile_key)) as events,
    ):
        written = time.monotonic()
        for event in events:
            if isinstance(event, Finished):
                store.put(event.cell, event.files)
            elif isinstance(event, Checkpointed):
                store.put_checkpoint(event.cell, event.checkpoint)
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
    """A trained cell's family; None for the references, which are quick and fill gaps anywhere."""
    return lambda cell: cell.family if plan.work(cell) else None


def in_order(cells: Iterable[Cell], work: Callable[[Cell], int], workers: int) -> list[Cell]:
    """The order to start cells in: one of each family, then the rest, the longest first.

    The first cell of a family compiles what the others need, so no two workers should begin with
    the same family. A single worker takes the seeds of a family and target in a row.
    """
    longest = sorted(cells, key=work, reverse=True)
    if workers == 1:
        return longest
    first: dict[str, Cell] = {}
    for cell in longest:
        first.setdefault(cell.family, cell)
    return [*first.values(), *(cell for cell in longest if cell not in first.values())]
