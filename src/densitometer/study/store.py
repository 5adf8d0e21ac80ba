"""The folder of a study: what has been computed, whole cells only, one process at a time."""

import contextlib
import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from densitometer.errors import UsageError
from densitometer.study.plan import Cell, Plan
from densitometer.system.files import (
    PARTIAL,
    check_folder,
    read_sealed,
    remove_partial,
    sealed,
    set_aside,
    write_file,
    write_folder,
    writing,
)

COLUMNS = ("target", "family", "seed", "metric", "value", "stderr", "provenance")
"""The columns of `results.csv`, and the keys of a row of `scorecard.json`."""

CHECKPOINT = "checkpoint.safetensors"
"""The name of an unfinished cell's checkpoint in its folder."""

LOCK = ".lock"


class Store:
    """The folder of one plan. Only the process that holds its lock writes to it."""

    def __init__(self, folder: Path, plan: Plan):
        self.folder = folder
        self.plan = plan
        self.damaged: list[str] = []
        """Sentences about what was not as it was written, and where that has been put."""
        self._rows: dict[Cell, list[dict[str, Any]]] = {}
        for cell in plan.cells():
            if "scorecard.json" in (files := self._read(cell)):
                self._rows[cell] = json.loads(files["scorecard.json"])

    def path(self, cell: Cell) -> Path:
        """The folder of a cell."""
        return self.folder / "cells" / str(cell)

    def missing(self) -> list[Cell]:
        """The cells that are still to be computed."""
        return [cell for cell in self.plan.cells() if cell not in self._rows]

    def rows(self, cell: Cell) -> list[dict[str, Any]]:
        """The rows of a finished cell's scorecard."""
        return self._rows[cell]

    def checkpoint(self, cell: Cell) -> bytes | None:
        """The last checkpoint of an unfinished cell, if it has one."""
        return self._read(cell).get(CHECKPOINT)

    def put_checkpoint(self, cell: Cell, checkpoint: bytes) -> None:
        """Store the checkpoint of an unfinished cell, in place of an earlier one."""
        write_folder(self.path(cell), sealed({CHECKPOINT: checkpoint}))

    def put(self, cell: Cell, files: Mapping[str, bytes]) -> None:
        """Store the files of a finished cell."""
        write_folder(self.path(cell), sealed(files))
        self._rows[cell] = json.loads(files["scorecard.json"])

    def put_error(self, cell: Cell, error: str) -> None:
        """Store why a cell failed, where its files would be; it stays missing, so it is retried."""
        write_folder(self.path(cell), sealed({"error.txt": error.encode()}))

    def write_results(self) -> None:
        """Write `results.csv`: the rows of every finished cell, in the plan's order."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")  # floats by repr, which loses nothing
        writer.writerow(COLUMNS)
        for cell in self.plan.cells():
            for row in self._rows.get(cell, []):
                writer.writerow("nan" if row[name] is None else row[name] for name in COLUMNS)
        write_file(self.folder / "results.csv", text.getvalue().encode())

    def _read(self, cell: Cell) -> dict[str, bytes]:
        """The files of a cell, empty if there are none; a damaged folder is set aside."""
        path = self.path(cell)
        if not path.exists():
            return {}
        try:
            return read_sealed(path)
        except UsageError as error:
            aside = set_aside(path)
            self.damaged.append(f"{error} It is now in {aside}, and computed again.")
            return {}


@contextlib.contextmanager
def opened(folder: Path, plan: Plan) -> Iterator[Store]:
    """The store of `plan` in `folder`, new or to be continued, locked while it is open.

    Raises:
        UsageError: the folder cannot be written, holds something else or another plan, or a study
            is already running in it.
    """
    check_folder(folder)
    path = folder / "plan.json"
    strangers = {p.name for p in folder.iterdir() if not p.name.endswith(PARTIAL)} - {LOCK}
    if strangers and not path.exists():
        raise UsageError(
            f"{folder} is not empty and holds no study; give --out a new folder or that of a study."
        )
    with _lock(folder):
        remove_partial(folder)
        if path.exists():
            _check_same(path, plan)
        else:
            write_file(path, plan.to_json().encode())
        yield Store(folder, plan)


def read_plan(folder: Path) -> Plan:
    """The plan of the study in `folder`.

    Raises:
        UsageError: there is no study in it.
    """
    path = folder / "plan.json"
    try:
        return Plan.from_json(path.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{folder} holds no study: it has no readable plan.json.") from None
    except ValueError:
        raise UsageError(f"{path} is no plan of a study.") from None


def _check_same(path: Path, plan: Plan) -> None:
    if difference := read_plan(path.parent).difference(plan):
        raise UsageError(
            f"{path.parent} holds another study ({difference}); give another --out, or remove it."
        )


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; the system releases it when the process ends, however it ends."""
    from filelock import FileLock, Timeout  # here, because reading a plan needs no lock

    lock = FileLock(folder / LOCK, timeout=0)
    with writing(folder):
        try:
            lock.acquire()
        except Timeout:
            raise UsageError(
                f"another study is running in {folder}; wait for it, or give another --out."
            ) from None
    try:
        yield
    finally:
        lock.release()
