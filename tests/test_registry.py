"""Names to objects, without importing them."""

import ast
import dataclasses
import subprocess
import sys
from typing import cast

import pytest

import densitometer as dm
from densitometer.metrics import METRICS
from densitometer.registry import Registry
from densitometer.targets import STUDIED, TARGETS


def test_members_by_name():
    assert list(TARGETS) == [*STUDIED, "two_moons", "rings", "swiss_roll"]
    assert len(TARGETS) == 7
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


@pytest.mark.parametrize("name", list(METRICS))
def test_what_a_metric_is_does_not_repeat_its_label(name):
    """The two stand one after the other, with a colon between."""
    summary = METRICS.summary(name).lower().removeprefix("the ")
    assert not summary.startswith(METRICS.label(name).split(" of ")[0].lower())


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


@pytest.mark.parametrize("registry", [dm.families.FAMILIES, TARGETS], ids=["families", "targets"])
def test_class_attributes_are_read_as_the_class_has_them(registry):
    for name in registry:
        facts, made = registry.facts(name), registry[name]
        assert facts["name"] == name
        assert facts == {word: getattr(made, word) for word in facts}
        assert not set(facts) & {field.name for field in dataclasses.fields(made)}


OUTSIDE = {
    "__init__": "",
    "api": "from .things import Thing, Unset",
    "things": """
import typing

class Unset:
    '''What all are.'''
    label: typing.ClassVar[str] = ""
    papers: typing.ClassVar[tuple[str, ...]] = ()

class Left(Unset):
    steps: Count = 5
    '''How many.'''

class Right(Unset):
    papers = ("right2001",)
    steps: Count = 3

class Thing(Left, Right):
    '''A thing.'''
    label = "Thing"
    size = len(label)
    """,
    "mine": """
import densitometer.families.ddpm
from densitometer.families import vae as bayes
from outside import api
from outside.things import Thing

class Again(Thing):
    steps: Count = 7

class Thing(Thing):
    pass

class Exported(api.Thing):
    label: ClassVar[str] = "Exported"

class Chain(densitometer.families.ddpm.DDPM):
    steps: Steps = 10
    width: Count = 4
    '''How wide here.'''

class Bound(bayes.VAE):
    label = "Bound"

class Lost(api.nothing.Thing, bayes.Nothing, unknown.Thing, len("x")):
    '''Of bases that nobody finds.'''
    """,
}


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """Another package, whose classes extend its own and those of this one."""
    (tmp_path / "outside").mkdir()
    for name, text in OUTSIDE.items():
        (tmp_path / "outside" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    places = {"thing": "things:Thing", "left": "things:Left"} | {
        name: f"mine:{name.capitalize()}"
        for name in ("again", "exported", "chain", "bound", "lost")
    }
    yield Registry("thing", "things", {n: f"outside.{place}" for n, place in places.items()})
    assert not {"outside.things", "outside.mine"} & set(sys.modules)


def test_a_subclass_of_a_family_has_its_hyperparameters_and_their_help(outside):
    ours = {field.name: field for field in dm.families.FAMILIES.fields("ddpm")}
    chain = {field.name: field for field in outside.fields("chain")}
    assert list(chain) == list(ours)
    steps = dataclasses.replace(ours["steps"], default=10)  # stated again, without its help
    width = dataclasses.replace(ours["width"], default=4, doc="How wide here.")
    assert chain == ours | {"steps": steps, "width": width}
    assert outside.fields("bound") == dm.families.FAMILIES.fields("vae")
    assert outside.summary("bound") == dm.families.FAMILIES.summary("vae")
    assert outside.facts("bound") == dm.families.FAMILIES.facts("vae") | {"label": "Bound"}


def test_what_bases_share_does_not_hide_what_one_of_them_states(outside):
    """As Python looks attributes up: a base of both comes after both."""
    assert outside.facts("thing") == {"label": "Thing", "papers": ("right2001",)}
    assert [(f.default, f.doc) for f in outside.fields("thing")] == [(5, "How many.")]
    assert outside.facts("exported") == {"label": "Exported", "papers": ("right2001",)}
    assert outside.summary("exported") == "A thing."
    assert outside.summary("left") == "What all are."


def test_a_base_that_is_not_found_adds_nothing(outside):
    assert outside.facts("lost") == {}
    assert outside.fields("lost") == []
    assert outside.summary("lost") == "Of bases that nobody finds."


def test_no_two_members_have_the_same_label(outside):
    """One without a label, or that inherits that of another member, is read as its name."""
    labels = {name: outside.label(name) for name in outside}
    assert labels == {
        "thing": "Thing",
        "left": "left",
        "again": "again",
        "exported": "Exported",
        "chain": "DDPM",
        "bound": "Bound",
        "lost": "lost",
    }
