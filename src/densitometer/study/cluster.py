"""Where cells run when one machine is not enough: the workers of a Dask cluster.

The same generator of events as `executors.run_locally`. A cell travels with its plan and comes back
as bytes, all by way of the scheduler: a worker needs this package, and no disk that others see.
"""

import contextlib
import math
import pickle
import queue
import threading
import time
import uuid
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from typing import Any

from densitometer.errors import UsageError, cause
from densitometer.study.events import Desk, Event, Failed, Finished, Running, Work
from densitometer.study.executors import take
from densitometer.study.plan import Cell
from densitometer.system.processes import settle

CONNECT = 15
"""Seconds that a scheduler has to answer."""

PATIENCE = 10.0
"""Seconds without a worker after which a person is told."""

LOOK_ROUND = 1.0
"""Seconds after which workers that have come or gone are noticed."""

QUIET = {"distributed.worker.profile.enabled": False, "distributed.admin.tick.interval": "1s"}
"""What Dask asks itself a hundred times a second takes a tenth of a core that runs a cell."""

_ONE = threading.Lock()
"""Held while a cell runs: one at a time a process, however many threads a worker has."""


@contextlib.contextmanager
def connected(address: str | None, workers: int) -> Iterator[Any]:
    """A client of the scheduler at `address`; without one, of a cluster of this machine's own.

    Raises:
        UsageError: Dask is not installed, or no scheduler answers.
    """
    try:
        import dask.config
        from distributed import Client, LocalCluster
    except ImportError:
        raise UsageError(
            "a cluster needs Dask; get it with pip install 'densitometer[cluster]'."
        ) from None
    with contextlib.ExitStack() as stack:
        if address is None:
            settle("cpu")
            stack.enter_context(dask.config.set(QUIET))
            settings: Any = {"threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
            cluster: Any = stack.enter_context(LocalCluster(n_workers=workers, **settings))
            address = cluster.scheduler_address
        try:
            client = Client(address, timeout=CONNECT)
        except (OSError, ValueError, TimeoutError) as error:
            why = (str(error).splitlines() or ["no answer"])[0][:100]
            raise UsageError(
                f"no Dask scheduler answers at {address} ({why}); start one with `dask scheduler`."
            ) from None
        yield stack.enter_context(client)


def run_on(
    client: Any,
    cells: Sequence[Cell],
    work: Work,
    kept: Callable[[Cell], bytes | None],
    compile_key: Callable[[Cell], Hashable],
    *,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Generator[Event]:
    """Run cells on the workers that a Dask client knows, in the order that `run_locally` has.

    Each worker, and they may come and go, has one under way: what Dask is given at once it shares
    out at once, not knowing that one cell takes a minute and another a second. A cell whose worker
    is lost runs again elsewhere, from where it was when the study began. `tell` is given a sentence
    when there is no worker for a while.

    Raises:
        UsageError: a worker, there from the beginning or not, would not compute what we would.
    """
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    topic = f"densitometer-{uuid.uuid4()}"
    # As bytes, since what they are made of may be imported only after `settle`.
    cargo = pickle.dumps(work)
    client.subscribe_topic(topic, lambda event: events.put(_heard(event[1])))
    futures: dict[Cell, Any] = {}
    places: dict[Cell, str] = {}
    compiled: defaultdict[str, set[Hashable]] = defaultdict(set)
    waiting, workers, asked = deque(cells), [], -math.inf
    seen, known = time.monotonic(), set[str]()
    try:
        while waiting or futures:
            if (now := time.monotonic()) - asked >= LOOK_ROUND:
                known |= _same_as_here(client, set(client.nthreads()) - known)
                workers, asked = [w for w in client.nthreads() if w in known], now
                if workers:
                    seen = now
                elif now - seen >= PATIENCE:
                    address = client.scheduler.address
                    tell(
                        f"the Dask scheduler at {address} has had no worker for {PATIENCE:.0f} "
                        f"seconds, and the study waits; start one with `dask worker {address}`."
                    )
                    seen = math.inf
            busy = set(places.values())
            for worker in workers:
                if waiting and worker not in busy:
                    cell = take(waiting, compile_key, compiled[worker], compiled.values())
                    futures[cell] = client.submit(
                        *(_run, cargo, cell, kept(cell), topic),
                        key=f"{cell} {topic}",
                        pure=False,
                        workers=[worker],
                        allow_other_workers=True,
                    )
                    places[cell] = worker
                    ended = lambda done, cell=cell: events.put(_ended(cell, done))
                    futures[cell].add_done_callback(ended)
            try:
                event = events.get(timeout=LOOK_ROUND)
            except queue.Empty:
                continue
            if isinstance(event, Running):
                if event.cell in futures:  # its last words may come after its end
                    yield event
            else:
                del futures[event.cell], places[event.cell]  # and the cluster forgets its files
                yield event
    finally:
        client.unsubscribe_topic(topic)
        client.cancel(list(futures.values()), force=True)


def _same_as_here(client: Any, workers: set[str]) -> set[str]:
    """Those of some workers that are still there; all of them have what this process has.

    Raises:
        UsageError: one of them has not.
    """
    describe = _describing()
    mine = describe()
    found = client.run(describe, workers=list(workers), on_error="return") if workers else {}
    there = {worker: has for worker, has in found.items() if not isinstance(has, OSError)}
    for worker, has in there.items():
        if why := _difference(mine, has):
            raise UsageError(f"the Dask worker {worker} {why}; give every worker the same.")
    return set(there)


def _difference(mine: dict[str, str], theirs: dict[str, str] | Exception) -> str | None:
    """In what a worker differs from this process, None if in nothing that tells on numbers."""
    if isinstance(theirs, Exception):
        return f"cannot tell what it has ({cause(theirs)}), where this study has {_listed(mine)}"
    if "missing" in theirs:
        return f"cannot import densitometer ({theirs['missing']})"
    other = [name for name in mine if theirs.get(name) != mine[name]]
    if not other:
        return None
    one, two = ({name: has.get(name, "none") for name in other} for has in (theirs, mine))
    return f"has {_listed(one)}, and this study {_listed(two)}"


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _describing() -> Callable[[], dict[str, str]]:
    """What tells which package a process has: of which version, whose code, beside what.

    It is a function made within another, which Dask sends as it is, so that a worker can run it
    that has another package, or none.
    """

    def describe() -> dict[str, str]:
        import hashlib
        import importlib.metadata
        import pathlib
        import platform

        try:
            import densitometer
        except Exception as error:
            return {"missing": f"{type(error).__name__}: {error}"}
        root, digest = pathlib.Path(str(densitometer.__file__)).parent, hashlib.sha256()
        for path in sorted(root.rglob("*.py")):
            digest.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
        return {
            "densitometer": densitometer.__version__,
            "source": digest.hexdigest()[:12],
            "Python": platform.python_version(),
        } | {name: importlib.metadata.version(name) for name in ("jax", "numpy", "scipy")}

    return describe


def _heard(message: list[Any]) -> Running:
    cell, *at = message
    return Running(Cell(*cell), *at)


def _ended(cell: Cell, done: Any) -> Event:
    try:
        return done.result()
    except Exception as error:  # what Dask gives up on: three workers lost, or it was cancelled
        return Failed(cell, cause(error))


def _run(cargo: bytes, cell: Cell, kept: bytes | None, topic: str) -> Finished | Failed:
    """In a worker: run a cell, and tell how far it is."""
    from distributed import get_worker

    worker = get_worker()

    def tell(event: Event) -> None:
        # What a cell leaves is not sent: the scheduler would keep it all.
        if isinstance(event, Running):
            worker.log_event(topic, [list(event.cell), *event[1:]])

    with _ONE:
        try:
            settle("cpu")
            work: Work = pickle.loads(cargo)
            return Finished(cell, work(Desk(cell, kept, tell)))
        except Exception as error:
            return Failed.by(cell, error)
