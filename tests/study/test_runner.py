import functools
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import fake_cells
import pytest
from rich.console import Console

from densitometer.errors import UsageError, cause
from densitometer.study import executors
from densitometer.study.executors import _serve, take
from densitometer.study.plan import REFERENCES, Cell, Plan
from densitometer.study.runner import in_order, run
from densitometer.study.store import opened

PROGRAM = Path(fake_cells.__file__)


def study(folder, work=fake_cells.good, workers=2):
    with opened(folder, fake_cells.plan()) as store:
        return run(store, Console(quiet=True), workers=workers, work=work)


def test_results_have_every_cell_in_the_order_of_the_plan(tmp_path):
    assert study(tmp_path) == {}
    header, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert header == "target,family,seed,metric,value,stderr,provenance"
    cells = fake_cells.plan().cells()
    assert len(cells) == 2 * (len(REFERENCES) + 2) * 2
    assert [tuple(line.split(",")[:4]) for line in lines] == [
        (cell.target, cell.family, str(cell.seed), metric)
        for cell in cells
        for metric in ("kl", "nll")
    ]
    assert not (tmp_path / "workers.log").exists()


def test_no_two_workers_begin_with_the_same_family():
    cells = fake_cells.plan().cells()
    work = {"gan": 3, "dsm": 2}
    order = in_order(cells, lambda cell: work.get(cell.family, 0), workers=2)
    families = len({cell.family for cell in cells})
    assert len({cell.family for cell in order[:families]}) == families
    assert [cell.family for cell in order[:2]] == ["gan", "dsm"]
    rest = [work.get(cell.family, 0) for cell in order[families:]]
    assert rest == sorted(rest, reverse=True)
    assert sorted(order) == sorted(cells)


def test_one_worker_takes_the_seeds_of_a_family_and_target_in_a_row():
    order = in_order(fake_cells.plan(seeds=3).cells(), lambda cell: len(cell.family), workers=1)
    runs = [(cell.target, cell.family) for cell in order[::3]]
    assert [(cell.target, cell.family) for cell in order] == [run for run in runs for _ in range(3)]


def test_a_worker_keeps_to_what_it_has_compiled_then_begins_what_nobody_has():
    cells = [Cell("spiral", family, 0) for family in ("cnf", "gan", "vae", "kde", "sm")]
    compile_key = lambda cell: None if cell.family == "kde" else cell.family

    def taken(mine, *others):
        queue, compiled = deque(cells), set(mine)
        cell = take(queue, compile_key, compiled, [compiled, *others])
        assert compiled == mine | {compile_key(cell)}
        assert [*queue] == [one for one in cells if one != cell]
        return cell.family

    assert taken(set()) == "cnf"
    assert taken({"vae"}, {"cnf"}) == "vae"
    assert taken({"dsm"}, {"cnf"}) == "gan"
    assert taken({"dsm"}, {"cnf", "gan"}, {"vae", "sm"}) == "cnf"  # longest first
    assert taken({None}, {"cnf"}) == "gan"  # what shares nothing does not count


def test_a_finished_study_runs_nothing_again(tmp_path):
    study(tmp_path)
    before = (tmp_path / "results.csv").read_bytes()
    (tmp_path / "results.csv").unlink()
    assert study(tmp_path, fake_cells.raises) == {}
    assert (tmp_path / "results.csv").read_bytes() == before


def test_results_do_not_depend_on_the_number_of_workers(tmp_path):
    for workers in (1, 3):
        study(tmp_path / str(workers), workers=workers)
    assert (tmp_path / "1/results.csv").read_bytes() == (tmp_path / "3/results.csv").read_bytes()


def test_a_cell_that_raises_is_recorded_and_retried(tmp_path):
    failures = study(tmp_path, fake_cells.raises)
    assert set(failures) == {Cell("spiral", "dsm", 1), Cell("checkerboard", "dsm", 1)}
    traceback = (tmp_path / "cells/spiral/dsm/1/error.txt").read_text()
    assert "fake_cells.py" in traceback
    assert traceback.rstrip().endswith("ValueError: this cell is ill")
    _, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 * (len(fake_cells.plan().cells()) - 2)

    assert study(tmp_path) == {}
    assert not (tmp_path / "cells/spiral/dsm/1/error.txt").exists()
    study(tmp_path / "other")
    assert (tmp_path / "results.csv").read_bytes() == (tmp_path / "other/results.csv").read_bytes()


def test_a_cell_that_fails_says_why_in_its_line(tmp_path):
    plan, out = Plan.make({"gan": {}}, ["spiral"], budget="smoke"), io.StringIO()
    with opened(tmp_path, plan) as store:
        failures = run(store, Console(file=out), workers=2, work=fake_cells.raises_with_a_note)
    assert set(failures.values()) == {"ValueError: this cell is ill"}
    lines = out.getvalue().splitlines()
    assert len(lines) == len(REFERENCES) + 1
    for place, line in enumerate(lines, start=1):
        assert line.startswith(f"{place}/{len(lines)}  spiral/")
        assert line.endswith("  failed: ValueError: this cell is ill")
    trace = (tmp_path / "cells/spiral/gan/0/error.txt").read_text()
    assert trace.startswith("Traceback")
    assert "and this is how" in trace


def test_an_error_that_says_nothing_is_told_by_its_line():
    with pytest.raises(StopIteration) as raised:
        next(iter(()))
    assert cause(raised.value) == "StopIteration: next(iter(()))"
    assert cause(KeyError()) == "KeyError"
    assert cause(UsageError("do this.\nAnd that.")) == "UsageError: do this."


@pytest.mark.parametrize(("times", "fails"), [(1, False), (2, False), (3, True)])
def test_a_cell_whose_worker_dies_is_run_again_at_most_thrice(tmp_path, times, fails):
    marks = tmp_path / "marks"
    marks.mkdir()
    work = functools.partial(fake_cells.kills_itself, marks=marks, times=times)
    failures = study(tmp_path / "out", work)
    begun = [path.read_text() for path in sorted(marks.iterdir())]
    assert begun == ["0", "1", "2"][: times + 1]  # each time where the last one had come to
    assert set(failures) == ({Cell("spiral", "dsm", 0)} if fails else set())
    if fails:
        assert "SIGKILL" in failures[Cell("spiral", "dsm", 0)]


def start(folder, seconds):
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder, str(seconds)], stdout=subprocess.PIPE, text=True
    )


def children(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def test_killing_it_at_any_moment_changes_nothing(tmp_path):
    study(tmp_path / "whole")
    moments = random.Random(0)
    for _ in range(6):
        with start(tmp_path / "killed", 0.2) as process:
            time.sleep(moments.uniform(0.1, 1.2))
            workers = children(process)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{worker}").exists() for worker in workers):
            assert time.monotonic() < deadline, "a worker outlived its study"
            time.sleep(0.02)
    study(tmp_path / "killed")
    for name in ("plan.json", "results.csv"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize("speaks", ["the worker", "the study"])
def test_a_worker_whose_study_is_gone_ends_without_a_word(tmp_path, speaks):
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    worker = spawn.Process(target=_serve, args=(theirs, None, tmp_path / "log", "cpu"))
    worker.start()
    theirs.close()
    if speaks == "the worker":
        ours.send((Cell("spiral", "dsm", 0), None))
        ours.send(fake_cells.keeps_on)
        assert ours.poll(60)  # it is sending, and more than a pipe holds
    else:
        os.write(ours.fileno(), (1000).to_bytes(4) + b"half a message")
    ours.close()
    worker.join(60)
    assert worker.exitcode == 0
    assert (tmp_path / "log").read_text() == ""


def test_a_worker_killed_from_outside_is_replaced(tmp_path):
    with start(tmp_path / "killed", 0.4) as process:
        assert process.stdout is not None
        process.stdout.readline()  # a cell has finished, so the workers work
        for child in children(process):
            if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text():
                os.kill(int(child), signal.SIGKILL)
        process.stdout.read()
    assert process.returncode == 0
    study(tmp_path / "whole")
    whole = (tmp_path / "whole/results.csv").read_bytes()
    assert (tmp_path / "killed/results.csv").read_bytes() == whole


def test_a_study_needs_no_signal_masks_nor_processors_to_choose(tmp_path, monkeypatch):
    """As on Windows (neither) and on macOS (no choice of processors)."""
    monkeypatch.delattr(signal, "pthread_sigmask")
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.setattr(executors, "cores", lambda: [0, 1])
    assert study(tmp_path, workers=2) == {}
    _, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 * len(fake_cells.plan().cells())
