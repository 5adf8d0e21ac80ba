"""What is released is looked into before it is installed."""

import importlib.util
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py",
    "py.typed",
    "scoring/floors.json",
    "report/gallery/gallery.js",
    "report/report.typ",
}
INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
TRACKED = {"LICENSE", "tests/test_it.py"} | {f"src/densitometer/{name}" for name in PACKAGE}


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location(
        "release", Path(__file__).parents[1] / ".ci" / "release.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(release, folder, *, sdist=frozenset(), wheel=frozenset(), tracked=TRACKED):
    """Look into a right source distribution and wheel, each with these names more or less."""
    path = folder / "densitometer-1.tar.gz", folder / "densitometer-1-py3-none-any.whl"
    with tarfile.open(path[0], "w:gz") as archive:
        for name in sorted((TRACKED | {"PKG-INFO"}) ^ sdist):
            archive.addfile(tarfile.TarInfo(f"densitometer-1/{name}"), io.BytesIO())
    right = {f"densitometer/{n}" for n in PACKAGE} | {f"densitometer-1.dist-info/{n}" for n in INFO}
    with zipfile.ZipFile(path[1], "w") as archive:
        for name in sorted(right ^ wheel):
            archive.writestr(name, "")
    release.check_contents(*path, tracked)


def test_what_holds_the_tracked_files_and_nothing_else_may_be_released(release, tmp_path):
    check(release, tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"sdist": {"LICENSE"}}, r"tar.gz lacks LICENSE\."),
        ({"sdist": {"out/study/plan.json"}}, r"tar.gz holds out/study/plan.json, which nobody"),
        ({"wheel": {"densitometer/py.typed"}}, r"whl lacks densitometer/py.typed\."),
        ({"wheel": {"densitometer-1.dist-info/licenses/LICENSE"}}, r"whl lacks .*LICENSE\."),
        ({"wheel": {"tests/test_it.py"}}, r"whl holds tests/test_it.py, which nobody"),
        # What is promised must be there, known to git or not.
        (
            {
                "sdist": {"src/densitometer/scoring/floors.json"},
                "wheel": {"densitometer/scoring/floors.json"},
                "tracked": TRACKED - {"src/densitometer/scoring/floors.json"},
            },
            r"whl lacks densitometer/scoring/floors.json\.",
        ),
    ],
)
def test_what_lacks_a_file_or_holds_another_may_not(release, tmp_path, changes, sentence):
    with pytest.raises(SystemExit, match=sentence):
        check(release, tmp_path, **changes)
