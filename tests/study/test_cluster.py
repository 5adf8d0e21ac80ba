import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_cells
import pytest
from distributed.protocol.pickle import dumps
from rich.console import Console

import densitometer
from densitometer import cli
from densitometer.errors import UsageError
from densitometer.study.cluster import _describing, _difference, connected, run_on
from densitometer.study.runner import run
from densitometer.study.store import opened

STUDY = str(fake_cells.__file__).rsplit("/", 1)[0]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler and two workers, as a person would start them; its address, and their numbers."""
    folder = tmp_path_factory.mktemp("cluster")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([STUDY, *filter(None, sys.path)])}
    with contextlib.ExitStack() as stack:

        def start(*words):
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + words[0], *words[1:]],
                cwd=folder,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(process.wait)
            stack.callback(lambda: os.killpg(process.pid, signal.SIGKILL))
            return process

        file = folder / "scheduler.json"
        start("scheduler", "--port", "0", "--no-dashboard", "--scheduler-file", str(file))
        for _ in range(2):
            start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard")
        deadline = time.monotonic() + 60
        while not file.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        with connected(address, 1) as client:
            client.wait_for_workers(2, timeout=60)
        yield address


def study(folder, address, work=fake_cells.good):
    with opened(folder, fake_cells.plan()) as store, connected(address, 2) as client:
        execute = functools.partial(run_on, client)
        return run(store, Console(quiet=True), workers=2, work=work, execute=execute)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    with opened(folder, fake_cells.plan()) as store:
        run(store, Console(quiet=True), workers=2, work=fake_cells.good)
    return (folder / "results.csv").read_bytes()


def test_a_cluster_gives_what_one_machine_gives(cluster, local, tmp_path):
    assert study(tmp_path, cluster) == {}
    assert (tmp_path / "results.csv").read_bytes() == local


def test_a_cell_that_raises_on_a_cluster_is_recorded(cluster, tmp_path):
    failures = study(tmp_path, cluster, fake_cells.raises)
    assert len(failures) == 2
    traceback = (tmp_path / "cells/spiral/dsm/1/error.txt").read_text()
    assert traceback.rstrip().endswith("ValueError: this cell is ill")
    _, *lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 2 * (len(fake_cells.plan().cells()) - 2)


def test_a_worker_that_dies_under_a_cell_is_survived(cluster, local, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    work = functools.partial(fake_cells.kills_itself, marks=marks, times=1)
    assert study(tmp_path / "out", cluster, work) == {}
    assert len(list(marks.iterdir())) == 2
    assert (tmp_path / "out/results.csv").read_bytes() == local


def test_a_worker_of_another_version_is_refused_with_both_versions(cluster, tmp_path, monkeypatch):
    here = _describing()()
    monkeypatch.setattr("densitometer.__version__", "0.0.7")
    with pytest.raises(UsageError) as told:
        study(tmp_path, cluster)
    assert re.fullmatch(
        rf"the Dask worker tcp://[\d.:]+ has densitometer {re.escape(here['densitometer'])}, and "
        r"this study densitometer 0\.0\.7; give every worker the same\.",
        str(told.value),
    )
    assert not list(tmp_path.glob("cells/*/*/*"))


def test_one_changed_line_makes_another_package(tmp_path, monkeypatch):
    here = _describing()()
    copy = shutil.copytree(Path(densitometer.__file__).parent, tmp_path / "densitometer")
    monkeypatch.setattr(densitometer, "__file__", str(copy / "__init__.py"))
    assert _describing()() == here
    with (copy / "metrics" / "two_sample.py").open("a") as file:
        file.write("MATCHED = 300\n")
    there = _describing()()
    assert _difference(here, there) == (
        f"has source {there['source']}, and this study source {here['source']}"
    )


@pytest.mark.parametrize(
    ("theirs", "why"),
    [
        ({"densitometer": "1", "jax": "2"}, None),
        ({"densitometer": "0", "jax": "2"}, "has densitometer 0, and this study densitometer 1"),
        ({"densitometer": "1"}, "has jax none, and this study jax 2"),
        ({"missing": "ImportError: no"}, "cannot import densitometer (ImportError: no)"),
        (
            TypeError("code"),
            "cannot tell what it has (TypeError: code), where this study has densitometer 1, jax 2",
        ),
    ],
)
def test_in_what_a_worker_differs_is_told(theirs, why):
    assert _difference({"densitometer": "1", "jax": "2"}, theirs) == why


def test_a_worker_without_the_package_can_run_what_describes_it():
    code = "import sys, pickle; sys.modules['densitometer'] = None; "
    code += "print(pickle.load(sys.stdin.buffer)())"
    told = subprocess.run(
        [sys.executable, "-c", code], input=dumps(_describing()), capture_output=True
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.decode().startswith("{'missing': 'ModuleNotFoundError: ")


class Lonely:
    """A client of a scheduler that has no worker but one that is gone when it is asked."""

    class scheduler:
        address = "tcp://here:1"

    def __init__(self):
        self.looks = 0

    def nthreads(self):
        self.looks += 1
        if self.looks > 12:
            raise KeyboardInterrupt
        return {"tcp://gone:1": 1} if self.looks == 1 else {}

    def run(self, function, workers, on_error):
        return dict.fromkeys(workers, OSError("gone"))

    def subscribe_topic(self, *_):
        pass

    def unsubscribe_topic(self, *_):
        pass

    def cancel(self, *_, **__):
        pass


def test_a_scheduler_without_workers_is_told_once_and_waited_for(monkeypatch):
    monkeypatch.setattr("densitometer.study.cluster.PATIENCE", 0.02)
    monkeypatch.setattr("densitometer.study.cluster.CHECK_WORKERS", 0.01)
    told, cells = [], fake_cells.plan().cells()
    with pytest.raises(KeyboardInterrupt):
        list(
            run_on(
                Lonely(), cells, fake_cells.good, lambda _: None, lambda _: None, warn=told.append
            )
        )
    assert told == [
        "the Dask scheduler at tcp://here:1 has had no worker for 0 seconds, and the study waits; "
        "start one with `dask worker tcp://here:1`."
    ]


def test_no_scheduler_is_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("densitometer.study.cluster.CONNECT", 0.5)
    with pytest.raises(UsageError, match="no Dask scheduler answers"), connected("nowhere", 1):
        pass
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
