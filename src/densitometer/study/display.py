"""Progress of a study: bars on a terminal, and everywhere a line for each finished cell."""

import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from densitometer import metrics
from densitometer.study.events import Checkpointed, Event, Failed, Finished, Running
from densitometer.study.plan import Cell, Plan

Rows = Sequence[Mapping[str, Any]]


class Display:
    """A bar for each running cell, with its loss, and one for all of them, with the time left.

    Args:
        cells: those that will run.
        plan: the study's, for how much work each cell is.
        console: where to print; bars are drawn only if it is a terminal.
        workers: how many cells run at once.
        done: how many more cells of the study are finished already.
    """

    def __init__(
        self, cells: Sequence[Cell], plan: Plan, console: Console, *, workers: int, done: int = 0
    ):
        self._waiting, self._workers, self._done = list(cells), workers, done
        self._total = len(cells) + done
        self._work = {cell.family: plan.work(cell) for cell in cells}
        self._running: dict[Cell, tuple[TaskID, float]] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._width = max((len(str(cell)) for cell in cells), default=0)
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._all = self._bars.add_task("all", total=self._total, completed=done, note="")

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, event: Event, rows: Rows = ()) -> None:
        """Show what happened; `rows` is the scorecard of a cell that is finished."""
        if isinstance(event, Running):
            self._update(event)
        elif not isinstance(event, Checkpointed):
            self._finish(event, rows)
        self._bars.update(self._all, completed=self._done, note=self._time_left())

    def _update(self, event: Running) -> None:
        if event.cell not in self._running:
            bar = self._bars.add_task(str(event.cell), total=None, note="")
            self._running[event.cell] = bar, time.monotonic()
            self._waiting.remove(event.cell)
        note = event.stage if math.isnan(event.loss) else f"loss {event.loss:.4f}"
        bar, _ = self._running[event.cell]
        if event.steps:
            self._bars.update(bar, completed=event.step, total=event.steps)
        self._bars.update(bar, note=note)

    def _finish(self, event: Finished | Failed, rows: Rows) -> None:
        self._done += 1
        seconds = 0.0
        if event.cell in self._running:
            bar, started = self._running.pop(event.cell)
            self._bars.remove_task(bar)
            seconds = time.monotonic() - started
        if isinstance(event, Finished):
            self._seconds[event.cell.family].append(seconds)
            result = "   ".join(headline(rows)) + f"   {seconds:.0f} s"
        else:
            result = f"failed: {event.error}"
        count = f"{self._done:>{len(str(self._total))}}/{self._total}"
        line = f"{count}  {event.cell!s:<{self._width}}  {result}"
        self._console.print(line, soft_wrap=True)

    def _time_left(self) -> str:
        """By how long cells of a family took, or how far one is; else by the family's work."""
        now = time.monotonic()
        seconds = {family: sum(s) / len(s) for family, s in self._seconds.items()}
        for cell, (bar, started) in self._running.items():
            trained = self._bars.tasks[self._bars.task_ids.index(bar)].percentage / 100
            if trained > 0.05:
                seconds.setdefault(cell.family, (now - started) / trained)
        work = sum(self._work[family] for family in seconds)
        if work == 0:
            return ""
        pace = sum(s for family, s in seconds.items() if self._work[family]) / work

        def left(cell: Cell, spent: float = 0.0) -> float:
            return max(seconds.get(cell.family, pace * self._work[cell.family]) - spent, 0.0)

        total = sum(map(left, self._waiting))
        total += sum(left(cell, now - started) for cell, (_, started) in self._running.items())
        minutes = total / self._workers / 60
        return f"about {minutes:.0f} min left" if minutes > 1.5 else "about a minute left"


def headline(rows: Rows) -> list[str]:
    """The numbers of a scorecard that have a name for a glance, as "KL 0.103 ± 0.004"."""
    found = {row["metric"]: row for row in rows}
    return [
        f"{m.glance} {found[m.name]['value']:.3f} ± {found[m.name]['stderr']:.3f}"
        for m in metrics.every()
        if m.glance and m.name in found
    ]
