"""What the scripts in `benchmarks/` write that the package or its pages ship."""

import json
from importlib import resources
from types import SimpleNamespace
from typing import cast

import pytest

import floors as floors_script
import quality
from densitometer.findings.results import Results
from densitometer.scoring import floors
from densitometer.targets import STUDIED, TARGETS
from densitometer.targets.rings import Rings


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A copy of the floors that are shipped; judging a true sample takes no time."""
    monkeypatch.setattr(floors_script, "configure_numerics", lambda: None)
    quick = lambda target, n, n_test, seeds, **_: [{"w2": seed % 7.0} for seed in seeds]
    monkeypatch.setattr(floors, "true_scores", quick)
    path = tmp_path / "floors.json"
    path.write_text(resources.files("densitometer.scoring").joinpath("floors.json").read_text())
    return path


def test_floors_of_one_target_leave_the_rows_of_the_others(shipped, tmp_path):
    before = json.loads(shipped.read_text())
    before["floors"].pop(repr(Rings()), None)
    shipped.write_text(json.dumps(before, indent=1) + "\n")
    common = shipped.read_text().removesuffix("\n }\n}\n")
    floors_script.main(["--targets", "rings", f"--out={shipped}", f"--keep={tmp_path}"])
    assert shipped.read_text().startswith(common + ",\n")
    after = json.loads(shipped.read_text())
    rows = after["floors"].pop(repr(Rings()))
    assert after == before
    assert [(row["n"], row["n_test"]) for row in rows] == list(floors_script.SIZES)
    assert [row["repeats"] for row in rows] == list(floors_script.FEWER_REPEATS)


def test_floors_of_one_target_are_not_added_to_those_of_fewer_metrics(shipped, tmp_path):
    known = json.loads(shipped.read_text())
    known["metrics"].remove("w2")
    shipped.write_text(json.dumps(known))
    with pytest.raises(SystemExit):
        floors_script.main(["--targets", "rings", f"--out={shipped}", f"--keep={tmp_path}"])
    assert json.loads(shipped.read_text()) == known


def test_an_entry_is_the_mean_over_seeds_beside_the_extremes_and_its_goal():
    assert quality.entry([0.1, 0.2, 0.6], None, quality.three, min) == "0.300 [0.100, 0.600]"
    assert quality.entry([0.1, 0.2, 0.6], 0.25, quality.three, min).endswith("(goal 0.250)")
    assert quality.entry([0.1, 0.2, 0.6], 0.35, quality.three, min).endswith("✓")
    assert quality.entry([], 0.1, quality.three, min) == "–"
    assert quality.lacking(2, 3) == " of 2 seeds only"
    assert quality.lacking(3, 3) == quality.lacking(0, 3) == ""


def test_a_family_is_behind_a_baseline_if_its_mean_is_larger(monkeypatch):
    found = {"kde": [0.2, 0.4], "near": [0.1, 0.2], "far": [0.1, 0.6], "gan": []}
    monkeypatch.setattr(quality, "values", lambda other, target, name, metric: found[name])
    other = SimpleNamespace(targets=("rings",), families=("near", "far", "gan"))
    head, _, row = quality.behind(cast("Results", other), ["kde"]).splitlines()
    assert head == "| further than | rings |"
    assert row == "| `kde` | `far` |"


def test_no_hyper_parameter_was_chosen_on_the_targets_of_transfer():
    assert set(quality.TRANSFER) == set(TARGETS) - set(STUDIED)
    assert all(len(goals) == len(STUDIED) for g in quality.GOALS.values() for goals in g.values())
