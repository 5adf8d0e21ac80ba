"""What happens to cells, and the desk at which one is worked on."""

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


class Kept(NamedTuple):
    """A cell could go on from here, given these bytes."""

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
    """Where it was raised, if it was, in many lines."""

    @classmethod
    def by(cls, cell: Cell, error: Exception) -> "Failed":
        """A cell that raised."""
        return cls(cell, cause(error), "".join(traceback.format_exception(error)))


Event = Running | Kept | Finished | Failed


@dataclasses.dataclass(frozen=True)
class Desk:
    """Where one cell is worked on: what lies there from before, and whom to tell."""

    cell: Cell
    kept: bytes | None = None
    """What the cell left when it was stopped, if it was."""
    tell: Callable[[Event], None] = lambda event: None

    def report(self, stage: str, step: int = 0, steps: int = 0, loss: float = math.nan) -> None:
        """Tell how far the cell is."""
        self.tell(Running(self.cell, stage, step, steps, loss))

    def keep(self, checkpoint: bytes) -> None:
        """Leave what the cell could go on from."""
        self.tell(Kept(self.cell, checkpoint))


Work = Callable[[Desk], dict[str, bytes]]
"""Runs the cell of a desk; returns the cell's files. Picklable."""
