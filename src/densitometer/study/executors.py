"""Where cells run: one single-threaded process a core.

An executor is a generator. It takes cells and the function that runs one, and yields events as they
happen; closing it stops everything. It knows nothing of folders, screens or mathematics.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from multiprocessing import connection
from pathlib import Path
from typing import Any

from densitometer.study.events import (
    CellContext,
    Checkpointed,
    Event,
    Failed,
    Finished,
    Running,
    Work,
)
from densitometer.study.plan import Cell
from densitometer.system.processes import configure_numerics, cores, die_with_parent

TRIES = 3
"""How often a cell whose worker dies is started."""


def run_locally(
    cells: Sequence[Cell],
    work: Work,
    checkpoint: Callable[[Cell], bytes | None],
    compile_key: Callable[[Cell], Hashable],
    *,
    workers: int,
    log: Path,
    device: str = "cpu",
) -> Generator[Event]:
    """Run cells in processes of this machine, in the order given but for what is compiled already.

    What a cell compiles serves all cells of the same `compile_key`, unless that is None. A worker
    that dies is replaced, and its cell resumes from its last `checkpoint`. Whatever workers print,
    and the traceback of one that crashes, goes to the file `log`.
    """
    queue, deaths = deque(cells), Counter[Cell]()
    workers, available = min(workers, len(cells)), cores()
    # Pinned only when every core has its worker: two small studies must not share one core.
    pinned = workers == len(available) and hasattr(os, "sched_setaffinity")
    pins = available if pinned else [None] * workers
    crew = [_Worker(work, pin, log, device) for pin in pins]
    try:
        while True:
            for worker in crew:
                if worker.cell is None and queue:
                    cell = take(queue, compile_key, worker.compiled, [one.compiled for one in crew])
                    worker.give(cell, checkpoint(cell))
            busy: dict[Any, _Worker] = {
                worker.pipe: worker for worker in crew if worker.cell is not None
            }
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]
                cell = worker.cell
                assert cell is not None
                try:
                    event = worker.pipe.recv()
                    working = isinstance(event, Running | Checkpointed)
                except (EOFError, OSError):
                    cause, working = worker.replace(), False
                    deaths[cell] += 1
                    if deaths[cell] < TRIES:
                        queue.appendleft(cell)
                        event = Running(cell, "starting again")
                    else:
                        event = Failed(cell, f"its worker died {TRIES} times: {cause}")
                if not working:
                    worker.cell = None
                yield event
    finally:
        for worker in crew:
            worker.end()


def take(
    queue: deque[Cell],
    compile_key: Callable[[Cell], Hashable],
    mine: set[Hashable],
    everyones: Iterable[set[Hashable]],
) -> Cell:
    """Take the next cell from the queue, for a worker that has compiled what is in `mine`.

    It is the first for which this worker need not compile; else the first for which none has
    compiled; else the first.
    """
    shared = lambda cell: compile_key(cell) is not None
    begun = set().union(*everyones)
    own = (cell for cell in queue if shared(cell) and compile_key(cell) in mine)
    new = (cell for cell in queue if shared(cell) and compile_key(cell) not in begun)
    cell = next(itertools.chain(own, new, queue))
    queue.remove(cell)
    mine.add(compile_key(cell))
    return cell


class _Worker:
    """A process that runs one cell after another."""

    def __init__(self, work: Work, core: int | None, log: Path, device: str):
        self.cell: Cell | None = None
        self.compiled: set[Hashable] = set()
        self._work, self._core, self._log, self._device = work, core, log, device
        self._start()

    def give(self, cell: Cell, checkpoint: bytes | None) -> None:
        """Have it run `cell` from a checkpoint. If it is dead, reading its pipe will fail."""
        self.cell = cell
        with contextlib.suppress(OSError):
            self.pipe.send((cell, checkpoint))
            self.pipe.send(self._work)

    def replace(self) -> str:
        """Start another process in place of one that died; returns how that one ended."""
        self._process.join(1)
        code = self._process.exitcode
        self.end()
        self.compiled.clear()
        self._start()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def end(self) -> None:
        """Kill it. Nothing is lost: whole cells are stored by whoever receives the events."""
        self._process.kill()
        self._process.join()
        self.pipe.close()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, self._core, self._log, self._device), daemon=True
        )
        with _interrupts_blocked():
            self._process.start()
        theirs.close()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in what is started here, even while its Python starts: it inherits the block.

    Where signals cannot be blocked (Windows), a worker ignores this one as soon as it runs.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _serve(pipe: connection.Connection, core: int | None, log: Path, device: str) -> None:
    """The loop of a worker: cells in, events out, until the parent is gone."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    if core is not None:
        os.sched_setaffinity(0, {core})
    configure_numerics(device)
    # Half a message, or none to answer to: a study that was killed leaves no traceback in its log.
    with contextlib.suppress(EOFError, OSError):
        while True:
            cell, checkpoint = pipe.recv()
            try:
                work: Work = pipe.recv()  # imports JAX, now that the numerics are configured
                event = Finished(cell, work(CellContext(cell, checkpoint, pipe.send)))
            except Exception as error:
                event = Failed.by(cell, error)
            pipe.send(event)
