"""Disks that fill up, memory that runs out, clocks that are set back: nothing is lost."""

import errno
import itertools
import time

import fake_cells
import pytest
from rich.console import Console

from densitometer import cli
from densitometer.errors import UsageError
from densitometer.study import runner
from densitometer.study.store import opened
from densitometer.system import files


def study(folder, work=fake_cells.good):
    with opened(folder, fake_cells.plan(seeds=1)) as store:
        return runner.run(store, Console(quiet=True), workers=2, work=work)


@pytest.fixture(scope="module")
def left_alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert study(folder) == {}
    return (folder / "results.csv").read_bytes()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_a_disk_that_refuses_is_a_sentence_and_the_study_goes_on_later(
    left_alone, tmp_path, monkeypatch, error
):
    write, room = files._write, 0

    def full(path, content):
        nonlocal room
        room -= 1
        if room < 0:
            path.write_bytes(content[: len(content) // 2])  # half of it still fitted
            raise OSError(error, "refused", str(path))
        write(path, content)

    monkeypatch.setattr(files, "_write", full)
    done = 0
    for room in (3, 17, 29):  # noqa: B007 (`full` counts it down)
        with pytest.raises(UsageError, match=r"cannot write .*refused"):
            study(tmp_path)
        whole = len(list(tmp_path.glob("cells/*/*/*/scorecard.json")))
        assert whole >= done, "what was kept before is kept"
        done = whole
    assert done > 0
    monkeypatch.undo()
    assert study(tmp_path) == {}
    assert (tmp_path / "results.csv").read_bytes() == left_alone
    assert not list(tmp_path.rglob("*.damaged")), "no half of a file was ever taken for a file"


def test_a_cell_that_needs_too_much_memory_is_recorded_and_the_others_run(tmp_path):
    failed = study(tmp_path, work=fake_cells.exhausts)
    assert [str(cell) for cell in failed] == ["spiral/gan/0"]
    assert "MemoryError" in (tmp_path / "cells/spiral/gan/0/error.txt").read_text()
    done = len(list(tmp_path.glob("cells/*/*/*/scorecard.json")))
    assert done == len(fake_cells.plan(seeds=1).cells()) - 1


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: out of memory allocating 7 bytes")]
)
def test_memory_that_is_exhausted_is_a_sentence(monkeypatch, capsys, tmp_path, error):
    def exhaust(*_, **__):
        raise error

    monkeypatch.setattr(runner, "run", exhaust)
    assert cli.main(["study", "--out", str(tmp_path / "study")]) == 2
    assert capsys.readouterr().err == "densitometer: not enough memory.\n"


def test_a_clock_that_is_set_back_changes_nothing(left_alone, tmp_path, monkeypatch):
    hours = itertools.count(start=0, step=-3600)
    monkeypatch.setattr(time, "time", lambda: 1e9 + next(hours))
    assert study(tmp_path) == {}
    assert (tmp_path / "results.csv").read_bytes() == left_alone
