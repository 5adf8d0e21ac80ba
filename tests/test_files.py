"""Files that several processes write at once, and a cache that may not be there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from densitometer.system import files
from densitometer.system.files import (
    cache_folder,
    keep_in_cache,
    read_from_cache,
    remove_partial,
    write_file,
    write_folder,
)


@pytest.fixture(autouse=True)
def _told_anew():
    files._warn_uncached.cache_clear()


def whenever(monkeypatch, module, name, meanwhile):
    """Have `meanwhile` happen before each call of a function, but not within itself."""
    original, within = getattr(module, name), []

    def called(*args):
        if not within:
            within.append(name)
            meanwhile()
            within.clear()
        return original(*args)

    monkeypatch.setattr(module, name, called)


@pytest.mark.parametrize(("module", "moment"), [(files, "_write"), (os, "replace")])
def test_who_writes_a_file_while_another_does_succeeds_and_so_does_the_other(
    tmp_path, monkeypatch, module, moment
):
    path = tmp_path / "floors.json"
    whenever(monkeypatch, module, moment, lambda: write_file(path, b"quick"))
    write_file(path, b"slow")
    assert path.read_bytes() == b"slow"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("module", "moment"), [(files, "_write"), (os, "replace")])
@pytest.mark.parametrize("there", [True, False])
def test_who_writes_a_folder_while_another_does_succeeds_and_so_does_the_other(
    tmp_path, monkeypatch, module, moment, there
):
    path, rounds = tmp_path / "cell", iter(range(3))

    def meanwhile():
        if next(rounds, None) is not None:
            write_folder(path, {"quick": b"1"})

    if there:
        write_folder(path, {"old": b"0"})
    whenever(monkeypatch, module, moment, meanwhile)
    write_folder(path, {"slow": b"2", "too": b"3"})
    assert {p.name: p.read_bytes() for p in path.iterdir()} == {"slow": b"2", "too": b"3"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_the_place_of_a_folder_is_a_sentence_and_stays(tmp_path):
    path = tmp_path / "cell"
    path.write_text("somebody's")
    with pytest.raises(ValueError, match=r"cannot write .*cell: not a directory"):
        write_folder(path, {"new": b"1"})
    assert path.read_text() == "somebody's"
    assert list(tmp_path.iterdir()) == [path]


KILLED = """
import os, sys
from pathlib import Path
from densitometer.system.files import write_file, write_folder
os.replace = lambda *_: os._exit(9)
path = Path(sys.argv[1])
write_file(path, b"1") if path.suffix else write_folder(path, {"a": b"1"})
"""


def test_what_killed_writers_left_is_found(tmp_path):
    for name in ("results.csv", "cell"):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)])
        assert killed.returncode == 9
    assert len(list(tmp_path.iterdir())) == 2
    remove_partial(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_kept_in_the_cache_is_read_from_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert read_from_cache("floors/one.json") is None
    keep_in_cache("floors/one.json", b"1")
    assert read_from_cache("floors/one.json") == b"1"
    assert (tmp_path / "densitometer/floors/one.json").read_bytes() == b"1"


def test_a_cache_that_cannot_be_written_is_told_once_and_stops_nothing(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        keep_in_cache("one.json", b"1")
    assert read_from_cache("one.json") is None
    assert capsys.readouterr().err == (
        f"densitometer: cannot write {tmp_path}/file/densitometer/one.json: not a directory; what "
        "was measured is not kept for the next time, set XDG_CACHE_HOME to a folder that can be "
        "written.\n"
    )


def test_nobody_without_a_home_has_no_cache_and_is_told_so(monkeypatch, capsys):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", home)
    assert cache_folder() is None
    assert read_from_cache("one.json") is None
    keep_in_cache("one.json", b"1")
    assert capsys.readouterr().err.startswith("densitometer: there is no home directory; what was")
