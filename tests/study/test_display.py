"""What a person sees while cells run."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from densitometer.study import display as module
from densitometer.study.display import Display, headline
from densitometer.study.events import Finished, Running
from densitometer.study.plan import Plan

ROWS = [
    {"metric": "nll", "value": 1.2, "stderr": 0.1},
    {"metric": "kl", "value": 0.1031, "stderr": 0.0042},
]


@pytest.fixture
def clock(monkeypatch):
    """The time, in seconds."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def cells():
    plan = Plan.make({"vae": {}}, ["spiral"], seeds=range(4))
    return plan, [cell for cell in plan.cells() if cell.family == "vae"]


def test_a_finished_cell_is_one_line_with_its_numbers_and_its_time(clock, cells):
    plan, waiting = cells
    out = io.StringIO()
    shown = Display(waiting, plan, Console(file=out, width=200), workers=2, done=7)
    shown.show(Running(waiting[0], "fit"))
    clock.now = 600.0
    shown.show(Finished(waiting[0], {}), ROWS)
    assert out.getvalue() == f" 8/11  {waiting[0]}  KL 0.103 ± 0.004   600 s\n"


def test_the_time_left_is_that_of_the_cells_that_are_left_on_all_workers(clock, cells):
    plan, waiting = cells
    shown = Display(waiting, plan, Console(file=io.StringIO()), workers=2)
    assert shown._time_left() == ""
    shown.show(Running(waiting[0], "fit"))
    clock.now = 600.0
    shown.show(Finished(waiting[0], {}))
    assert shown._time_left() == "about 15 min left"  # 3 × 600 s by two
    shown.show(Running(waiting[1], "fit"))
    clock.now = 960.0
    assert shown._time_left() == "about 12 min left"  # (2 × 600 + 240) s by two


def test_how_far_the_first_cell_is_says_how_long_it_takes(clock, cells):
    plan, waiting = cells
    shown = Display(waiting, plan, Console(file=io.StringIO()), workers=1)
    shown.show(Running(waiting[0], "fit", 25, 100, 0.5))
    clock.now = 150.0
    assert shown._time_left() == "about 38 min left"  # (3 × 600 + 450) s


def test_the_headline_has_the_metrics_that_have_a_name_for_a_glance():
    assert headline(ROWS) == ["KL 0.103 ± 0.004"]
