"""Where cells run: one single-threaded process a core.

An executor is a generator. It takes cells and the function that runs one, and yields what happens,
as it happens; closing it stops everything. It knows nothing of folders, screens or mathematics.
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

from densitometer.study.events import Desk, Event, Failed, Finished, Kept, Running, Work
from densitometer.study.plan import Cell
from densitometer.system.processes import cores, die_with_parent, settle

TRIES = 3
"""How often a cell is started whose worker dies under it."""


def run_locally(
    cells: Sequence[Cell],
    work: Work,
    kept: Callable[[Cell], bytes | None],
    compile_key: Callable[[Cell], Hashable],
    *,
    workers: int,
    log: Path,
    device: str = "cpu",
) -> Generator[Event]:
    """Run cells in processes of this machine, in the order given, but as `take` prefers.

    What a cell compiles serves all cells of the same `compile_key`; None stands for a cell that
    compiles nothing worth sharing. A worker that dies is replaced, and its cell goes on from what
    is `kept` of it. Whatever workers print, and the last words of one that crashes, go to the file
    `log`.
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
                    worker.give(cell, kept(cell))
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
                    working = isinstance(event, Running | Kept)
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

    The first for which it need not compile; else the first for which nobody has; else the first.
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

    def give(self, cell: Cell, kept: bytes | None) -> None:
        """Have it run `cell` from where it was. If it is dead, reading its pipe will tell."""
        self.cell = cell
        with contextlib.suppress(OSError):
            self.pipe.send((cell, kept))
            self.pipe.send(self._work)

    def replace(self) -> str:
        """Start another process in the place of one that died; how that one ended."""
        self._process.join(1)
        code = self._process.exitcode
        self.end()
        self.compiled.clear()
        self._start()
        if code is not None and code < 0:
            return f"killed by {signal.Signals(-code).name}"
        return f"exit code {code}"

    def end(self) -> None:
        """Kill it. Nothing is lost: cells are kept by who listens, whole."""
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
    """What starts here never sees Ctrl-C, not even while Python starts: it inherits the block.

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
    """The life of a worker: cells in, what happens to them out, until the parent is gone."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    if core is not None:
        os.sched_setaffinity(0, {core})
    settle(device)
    # Half a message, or nobody to answer: a study that was killed leaves no traceback in its log.
    with contextlib.suppress(EOFError, OSError):
        while True:
            cell, kept = pipe.recv()
            try:
                work: Work = pipe.recv()  # imports JAX, now that everything is settled
                event = Finished(cell, work(Desk(cell, kept, pipe.send)))
            except Exception as error:
                event = Failed.by(cell, error)
            pipe.send(event)
