import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import fake_cells
import pytest

from densitometer.errors import UsageError
from densitometer.study.events import CellContext
from densitometer.study.plan import Cell, Plan
from densitometer.study.store import opened, read_plan
from densitometer.system.files import check_folder, write_file, write_folder

CELL = Cell("spiral", "dsm", 0)


def test_a_plan_survives_json():
    plan = fake_cells.plan()
    assert Plan.from_json(plan.to_json()).difference(plan) is None
    assert Plan.from_json(plan.to_json()).cells() == plan.cells()


def test_a_plan_holds_every_hyper_parameter():
    from densitometer import families

    plan = Plan.make({"dsm": {"width": 7}}, ["spiral"])
    assert plan.families["dsm"] == families.get("dsm", width=7).hyperparameters()


def test_budgets_of_plans_are_those_of_training():
    from densitometer.preparation import BUDGETS
    from densitometer.study.plan import PROTOCOLS

    assert set(PROTOCOLS) == set(BUDGETS)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"targets": 1}', "[" * 100_000])
def test_what_is_no_plan_is_refused(tmp_path, text):
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(UsageError, match="no plan of a study"):
        read_plan(tmp_path)


def test_a_folder_with_another_study_is_refused_and_kept(tmp_path):
    with opened(tmp_path, fake_cells.plan()):
        pass
    before = (tmp_path / "plan.json").read_bytes()
    with (
        pytest.raises(UsageError, match=r"another study \(seeds \[0, 1\], not \[0, 1, 2\]\)"),
        opened(tmp_path, fake_cells.plan(seeds=3)),
    ):
        pass
    assert (tmp_path / "plan.json").read_bytes() == before


def test_a_folder_that_is_no_study_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="holds no study"), opened(tmp_path, fake_cells.plan()):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UsageError, match="cannot write"), opened(folder, fake_cells.plan()):
            pass


def test_two_studies_cannot_run_in_one_folder(tmp_path):
    plan = fake_cells.plan()
    with (
        opened(tmp_path, plan),
        pytest.raises(UsageError, match="another study is running"),
        opened(tmp_path, plan),
    ):
        pass
    with opened(tmp_path, plan):
        pass


def test_a_study_killed_before_its_plan_was_written_can_start_again(tmp_path):
    (tmp_path / ".lock").touch()
    (tmp_path / ".plan.json.partial").write_text("{")
    with opened(tmp_path, fake_cells.plan()) as store:
        assert store.missing() == fake_cells.plan().cells()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_study_killed_while_it_tried_its_folder_can_start_again(tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(tempfile, "_O_TMPFILE_WORKS", False)  # as on many network file systems
        killed.setattr(os, "unlink", lambda *_, **__: None)
        check_folder(tmp_path)
    assert list(tmp_path.iterdir())
    with opened(tmp_path, fake_cells.plan()):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "plan.json"]


def damage(folder, how):
    card = folder / "scorecard.json"
    match how:
        case "truncated":
            card.write_bytes(card.read_bytes()[:-7])
        case "flipped":
            card.write_bytes(card.read_bytes().replace(b"0.1", b"0.2"))
        case "foreign":
            card.write_text("[]")
        case "lost":
            (folder / "samples.npy").unlink()
        case "unlisted":
            (folder / "manifest.json").unlink()
        case "list of nothing":
            (folder / "manifest.json").write_text("[" * 100_000)
        case "list of others":
            (folder / "manifest.json").write_text('{"../../../plan.json": "00"}')


@pytest.mark.parametrize(
    "how",
    ["truncated", "flipped", "foreign", "lost", "unlisted", "list of nothing", "list of others"],
)
def test_a_cell_that_is_not_as_it_was_written_is_named_set_aside_and_missing(tmp_path, how):
    plan = fake_cells.plan()
    with opened(tmp_path, plan) as store:
        store.put(CELL, fake_cells.good(CellContext(CELL)))
        path = store.path(CELL)
        damage(path, how)
        left = sorted(p.name for p in path.iterdir())
    with opened(tmp_path, plan) as store:
        assert CELL in store.missing()
        [sentence] = store.damaged
        assert str(path) in sentence
        aside = path.with_name("0.damaged")
        assert str(aside) in sentence
        assert sorted(p.name for p in aside.iterdir()) == left
        assert not path.exists()
        store.put(CELL, fake_cells.good(CellContext(CELL)))
    with opened(tmp_path, plan) as store:
        assert (CELL in store.missing(), store.damaged) == (False, [])


def test_what_an_unfinished_cell_left_is_given_back_or_set_aside(tmp_path):
    plan = fake_cells.plan()
    with opened(tmp_path, plan) as store:
        assert store.checkpoint(CELL) is None
        store.put_checkpoint(CELL, b"half")
    with opened(tmp_path, plan) as store:
        assert (store.checkpoint(CELL), CELL in store.missing()) == (b"half", True)
        (store.path(CELL) / "checkpoint.safetensors").write_bytes(b"hulf")
        assert store.checkpoint(CELL) is None
        assert "checkpoint.safetensors is not as it was written" in store.damaged[0]
        store.put(CELL, fake_cells.good(CellContext(CELL)))
        assert store.checkpoint(CELL) is None


def test_floats_reach_the_results_without_a_loss(tmp_path):
    with opened(tmp_path, fake_cells.plan()) as store:
        store.put(CELL, fake_cells.good(CellContext(CELL)))
        store.write_results()
        value = store.rows(CELL)[0]["value"]
    _, first, second = (tmp_path / "results.csv").read_text().splitlines()
    assert first == f'spiral,dsm,0,kl,{value!r},0.1,"ode(rtol=1, mass=1)"'
    assert second.startswith("spiral,dsm,0,nll,nan,0.1,")


def test_files_and_folders_are_replaced_whole(tmp_path):
    path = tmp_path / "a" / "b"
    write_folder(path, {"one": b"1", "two": b"2"})
    write_folder(path, {"three": b"3"})
    assert {p.name: p.read_bytes() for p in path.iterdir()} == {"three": b"3"}
    write_file(path / "three", b"4")
    assert (path / "three").read_bytes() == b"4"
    assert [p.name for p in path.parent.iterdir()] == ["b"]


def test_a_full_disk_is_a_sentence(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match=r"cannot write .*results.csv: no space left on device"):
        write_file(tmp_path / "results.csv", b"1")
    with pytest.raises(UsageError, match="no space left"):
        write_folder(tmp_path / "cell", {"scorecard.json": json.dumps([]).encode()})
    assert not (tmp_path / "results.csv").exists()
    assert not (tmp_path / "cell").exists()


@pytest.mark.parametrize("lacking", [None, "fcntl"])  # as Windows does
def test_a_folder_is_free_again_when_the_process_that_studied_in_it_is_killed(tmp_path, lacking):
    program = f"""if True:
        import pathlib, sys, time
        if {lacking is not None}:
            sys.modules["{lacking}"] = None
        sys.path.insert(0, {str(Path(fake_cells.__file__).parent)!r})
        import fake_cells
        from densitometer.errors import UsageError
        from densitometer.study.store import opened
        try:
            with opened(pathlib.Path({str(tmp_path)!r}), fake_cells.plan()):
                print("open", flush=True)
                time.sleep(float(sys.argv[1]))
        except UsageError as error:
            print(error, flush=True)
    """
    run = lambda seconds: subprocess.Popen(
        [sys.executable, "-c", program, str(seconds)], stdout=subprocess.PIPE, text=True
    )
    with run(60) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with run(0) as second:
            assert second.communicate()[0].startswith("another study is running in")
        first.kill()
    with run(0) as third:
        assert third.communicate()[0] == "open\n"


def test_where_no_folder_can_be_opened_files_are_written_all_the_same(tmp_path, monkeypatch):
    opened_by_system = os.open

    def refuse(path, *args, **kwargs):
        if Path(path).is_dir():
            raise PermissionError(13, os.strerror(13))
        return opened_by_system(path, *args, **kwargs)

    monkeypatch.delattr(os, "O_DIRECTORY")  # as on Windows
    monkeypatch.setattr(os, "open", refuse)
    write_file(tmp_path / "one", b"1")
    assert (tmp_path / "one").read_bytes() == b"1"
