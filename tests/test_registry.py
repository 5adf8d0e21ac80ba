"""Names to objects, without importing them."""

import ast
import dataclasses
import subprocess
import sys
from typing import cast

import pytest

import densitometer as dm
from densitometer.registry import Registry
from densitometer.targets import TARGETS


def test_members_by_name():
    assert list(TARGETS) == ["spiral", "pinwheel", "checkerboard", "gaussian_mixture"]
    assert len(TARGETS) == 4
    assert "spiral" in TARGETS
    assert "Spiral" not in TARGETS


@pytest.mark.parametrize(
    ("registry", "wrong", "right", "kind"),
    [
        (dm.targets.TARGETS, "sprial", "spiral", "target"),
        (dm.targets.TARGETS, "gaussian-mixture", "gaussian_mixture", "target"),
        (dm.families.FAMILIES, "dms", "dsm", "family"),
        (dm.metrics.METRICS, "bhattacharya", "bhattacharyya", "metric"),
    ],
)
def test_unknown_name_names_the_nearest(registry, wrong, right, kind):
    with pytest.raises(dm.UsageError, match=f"no {kind} '{wrong}'; did you mean '{right}'"):
        registry[wrong]


def test_unknown_name_near_nothing_lists_all():
    with pytest.raises(dm.UsageError, match="choose from spiral, pinwheel, checkerboard"):
        dm.targets.get("zzz")


@pytest.mark.parametrize("name", list(TARGETS))
def test_source_says_what_the_class_is(name):
    read, imported = TARGETS.fields(name), dataclasses.fields(TARGETS[name])
    assert [f.name for f in read] == [f.name for f in imported]
    assert [f.default for f in read] == [f.default for f in imported]
    assert [f.annotation for f in read] == [cast(type, f.type).__name__ for f in imported]
    assert all(f.doc for f in read)
    assert TARGETS.summary(name) == TARGETS[name].__doc__.split("\n")[0]


def test_reading_and_listing_import_neither_jax_nor_matplotlib():
    program = """
import sys
import densitometer as dm
for name in dm.targets.TARGETS:
    dm.targets.TARGETS.summary(name), dm.targets.TARGETS.fields(name)
list(dm.families.FAMILIES), list(dm.metrics.METRICS)
print(sorted({"jax", "matplotlib"} & set(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ast.literal_eval(run.stdout) == []


PACKAGE = {
    "__init__": "",
    "base": """
class Base:
    steps: Count
    """,
    "middle": """
from jaxtyping import Array
from own.base import Base as Root

class Other(Array, Root[int]):
    colour: ClassVar[str] = "blue"
    rate: Positive = 0.1
    '''How fast.'''
    width: Count = 8
    '''How wide.'''
    """,
    "end": """
from own.middle import Other

class Mine(Other):
    width: int = 16
    '''How wide it is here.'''
    steps: Count = 3
    depth: Depth = 2
    """,
}


def test_fields_of_bases_are_read_from_their_source(tmp_path, monkeypatch):
    """In the order that `dataclasses.fields` would give, of what the package itself defines."""
    (tmp_path / "own").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "own" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("thing", "things", {"mine": "own.end:Mine", "other": "own.middle:Other"})
    mine = [(f.name, f.annotation, f.default, f.doc) for f in registry.fields("mine")]
    assert mine == [
        ("steps", "Count", 3, ""),
        ("rate", "Positive", 0.1, "How fast."),
        ("width", "int", 16, "How wide it is here."),
        ("depth", "Depth", 2, ""),
    ]
    assert [f.name for f in registry.fields("other")] == ["rate", "width"]  # steps has no value
    assert not {"own.middle", "own.end"} & set(sys.modules)
