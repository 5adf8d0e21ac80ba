"""A new metric is one file and one line: everything that shows metrics shows it."""

import csv
import json

import fabricated
import numpy as np
import pytest

import densitometer as dm
from densitometer import cli
from densitometer.findings.overall import overview
from densitometer.findings.results import Results
from densitometer.findings.sentences import of_family
from densitometer.metrics import METRICS
from densitometer.report import tables
from densitometer.report.gallery import page as gallery
from densitometer.scoring import floors
from densitometer.study.cells import run_cell
from densitometer.study.display import headline
from densitometer.study.events import CellContext
from densitometer.study.plan import REFERENCES, Plan
from densitometer.study.store import opened

SIZES = {"n_train": 100, "n_holdout": 50, "n_test": 120, "n_samples": 110, "grid": 16}


@pytest.fixture
def spread(monkeypatch, tmp_path):
    """The toy metric in the registry, by the one line; floors of a few repeats."""
    monkeypatch.setattr(METRICS, "_members", METRICS._members | {"spread": "toy_metric:Spread"})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(floors, "_MEASURED", {})
    monkeypatch.setattr(floors, "REPEATS", 6)
    monkeypatch.setattr(floors, "_pool", lambda workers: None)  # others know only the real line


def test_a_new_metric_is_in_scorecards_verdicts_and_the_command_line(spread, tmp_path, capsys):
    target = dm.targets.get("gaussian_mixture")
    np.save(tmp_path / "x.npy", 3 * np.random.default_rng(0).normal(size=(110, 2)) + 20)
    command = ["score", "--samples", str(tmp_path / "x.npy"), "--target", "gaussian_mixture"]
    assert cli.main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (ours, true) = [row for row in rows if row["metric"] == "spread"]
    assert (ours["family"], true["family"]) == ("samples", "truth")
    assert ours["value"] > ours["floor_high"] > true["value"] > ours["floor_low"]
    assert ours["within_floor"] is False
    assert true["within_floor"] is True
    assert ours["note"].startswith("Spread of the samples is ")
    known = floors.known_floors(target, 110)
    assert known is not None
    assert known.metrics["spread"].holds(true["value"])
    # of more samples it shrinks to its own limit by its own rate
    assert cli.main(["list", "metrics", "--json"]) == 0
    assert "spread" in [member["name"] for member in json.loads(capsys.readouterr().out)]


def test_floors_that_lack_a_metric_are_measured_with_it(spread):
    target = dm.targets.get("gaussian_mixture")
    shipped = floors.known_floors(target, 500, 1000)
    assert shipped is not None
    assert "spread" not in shipped.metrics
    assert "spread" in floors.of(target, 500, 1000).metrics
    found = floors.known_floors(target, 500, 1000)
    assert found is not None
    assert "spread" in found.metrics


def test_a_new_metric_is_in_a_study_its_tables_and_its_gallery(spread, tmp_path):
    floors.of(dm.targets.get("gaussian_mixture"), SIZES["n_samples"], SIZES["n_test"])
    plan = Plan.make({"gan": {}}, ["gaussian_mixture"], budget="smoke", protocol=SIZES)
    truth, *others = plan.cells()
    gan = others[-1]
    scored = run_cell(CellContext(truth), plan=plan)
    with opened(tmp_path / "study", plan) as store:
        store.put(truth, scored)
        assert any(text.startswith("Spread ") for text in headline(store.rows(truth)))
        # what a family's cell has beside these numbers is not what is tested
        for cell in others:
            rows = [row | {"family": cell.family} for row in json.loads(scored["scorecard.json"])]
            store.put(cell, scored | {"scorecard.json": json.dumps(rows).encode()})
        fabricated.write_curves(
            store.path(gan), "gan", plan.families["gan"], np.random.default_rng(0)
        )
        store.write_results()
    with (tmp_path / "study" / "results.csv").open() as file:
        found = [row["family"] for row in csv.DictReader(file) if row["metric"] == "spread"]
    assert found == [*REFERENCES, "gan"]

    results = Results.read(tmp_path / "study")
    (block,) = [b for b in tables.headline(results).blocks if b.title.startswith("Spread of")]
    names = [row.name for row in block.rows]
    assert names == [*REFERENCES, "gan", "floor"]
    assert block.rows[-1].entries[0].text != "–"
    (whole,) = [b for b in tables.complete(results).blocks if "for no purpose" in b.title]
    assert whole.title.startswith("Spread of the samples: ")
    shown = gallery.content(results)
    (column,) = [i for i, metric in enumerate(shown["metrics"]) if metric["name"] == "spread"]
    assert [column, "Spread"] in shown["headlines"]
    (line,) = [n for n in shown["cells"]["gaussian_mixture/gan/0"]["card"] if n[0] == column]
    assert line[3]  # the floor
    assert "Best of these fits, alone or tied, by" in " ".join(
        f.text for found in of_family(results, "gan").values() for f in found
    )
    assert overview(results)
