"""Events of cells that run, and the context that a running cell reports to."""

import dataclasses
import math
import traceback
from collections.abc import Callable
from typing import NamedTuple

from densitometer.errors import cause
from densitometer.study.plan import Cell


class Running(NamedTuple):
    """A cell has got this far."""

    cell: Cell
    stage: str
    step: int = 0
    steps: int = 0
    loss: float = math.nan


class Checkpointed(NamedTuple):
    """A cell can be resumed from here, given these bytes."""

    cell: Cell
    checkpoint: bytes


class Finished(NamedTuple):
    """A cell is done; these are its files."""

    cell: Cell
    files: dict[str, bytes]


class Failed(NamedTuple):
    """A cell raised, or its workers died; this is why, in one line."""

    cell: Cell
    error: str
    trace: str = ""
    """The traceback, if it raised."""

    @classmethod
    def by(cls, cell: Cell, error: Exception) -> "Failed":
        """A cell that raised."""
        return cls(cell, cause(error), "".join(traceback.format_exception(error)))


Event = Running | Checkpointed | Finished | Failed


@dataclasses.dataclass(frozen=True)
class CellContext:
    """A cell to run, the checkpoint to resume it from, and where its events go."""

    cell: Cell
    checkpoint: bytes | None = None
    """The last checkpoint of the cell, if it was stopped before."""
    emit: Callable[[Event], None] = lambda event: None

    def report(self, stage: str, step: int = 0, steps: int = 0, loss: float = math.nan) -> None:
        """Report how far the cell is."""
        self.emit(Running(self.cell, stage, step, steps, loss))

    def save(self, checkpoint: bytes) -> None:
        """Hand out a checkpoint from which the cell can be resumed."""
        self.emit(Checkpointed(self.cell, checkpoint))


Work = Callable[[CellContext], dict[str, bytes]]
"""Runs the cell of a context; returns the cell's files. Picklable."""
