import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import time

import fake_cells
import pytest
from rich.console import Console

from densitometer import cli
from densitometer.errors import UsageError
from densitometer.study.cluster import connected, run_on
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
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 2 * 18


def test_a_worker_that_dies_under_a_cell_is_survived(cluster, local, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    work = functools.partial(fake_cells.kills_itself, marks=marks, times=1)
    assert study(tmp_path / "out", cluster, work) == {}
    assert len(list(marks.iterdir())) == 2
    assert (tmp_path / "out/results.csv").read_bytes() == local


def test_no_scheduler_is_a_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("densitometer.study.cluster.CONNECT", 0.5)
    with pytest.raises(UsageError, match="no Dask scheduler answers"), connected("nowhere", 1):
        pass
    monkeypatch.chdir(tmp_path)
    assert cli.main(["study", "--scheduler", "tcp://127.0.0.1:9"]) == 2
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in capsys.readouterr().err
