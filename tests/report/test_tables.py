"""What marks a number in a table."""

import base64
from types import SimpleNamespace

import numpy as np
import pytest

from densitometer import metrics, report
from densitometer.findings import ranking
from densitometer.findings.results import Results
from densitometer.report import animation, figures, tables, writeup
from densitometer.report.gallery import page, pictures
from densitometer.scoring.floors import Floor
from densitometer.scoring.verdict import Verdict


@pytest.fixture(scope="module")
def results(finished_study):
    return Results.read(finished_study)


def test_a_star_marks_what_is_within_its_floor(results):
    marked = []
    for block in tables.headline(results).blocks[1:]:
        (metric,) = [m.name for m in metrics.every() if m.title == block.title]
        for row in block.rows:
            if row.name == "floor":
                continue
            for target, entry in zip(results.targets, row.entries, strict=False):
                measure = results.measure(target, row.name, metric)
                assert measure is not None
                floor = results.floor(target, metric, measure)
                assert floor is not None
                assert ("*" in entry.mark) == floor.holds(measure.value)
                marked.append("*" in entry.mark)
    assert {True, False} == {*marked}


def test_the_floor_of_a_number_with_an_error_of_its_own_is_the_truths_alone():
    always = tables._span(Floor(0.0, 0.0, 0.0), 1.0)
    assert tables._span(Floor(-0.1, 0.0, 0.1, True), 1.0) == always
    assert tables._span(Floor(-0.1, 0.0, 0.1), 1.0) != always


@pytest.mark.parametrize(
    ("metric", "floor", "shown"),
    [
        ("kl", Floor(-0.0085, 0.001, 0.0059), "0.0000 to 0.0059"),
        ("bhattacharyya", Floor(0.991, 0.997, 1.006), "0.9910 to 1.0000"),
    ],
)
def test_a_floor_is_printed_without_values_that_cannot_be(metric, floor, shown):
    results = SimpleNamespace(families=["vae"], measure=lambda *_: object(), floor=lambda *_: floor)
    (row,) = tables.floor_row(results, metric, ["spiral"])  # pyright: ignore[reportArgumentType]
    assert [entry.text for entry in row.entries] == [shown]


def test_every_file_of_a_figure_shows_that_figure(monkeypatch):
    monkeypatch.setattr(figures, "ALL", {name: lambda _, n=name: n for name in figures.ALL})
    monkeypatch.setattr(figures, "render", lambda figure, kind: f"{figure} as {kind}".encode())
    for name in ("curves", "samples", "densities", "faults"):
        monkeypatch.setattr(figures, name, lambda *_, n=name: n)
    monkeypatch.setattr(writeup, "pdf", lambda results, vectors: b"")
    monkeypatch.setattr(page, "page", lambda results: b"")
    monkeypatch.setattr(animation, "svg", lambda results: b"")
    errors = {}
    files = report._drawn(None, errors)  # pyright: ignore[reportArgumentType]
    assert errors == {}
    for name in figures.ALL:
        for kind in ("pdf", "png"):
            assert files[f"figures/{name}.{kind}"] == f"{name} as {kind}".encode()


@pytest.mark.parametrize(
    ("good", "seeds", "passes"), [(2, 3, True), (1, 3, False), (4, 5, True), (3, 5, False)]
)
def test_a_family_passes_if_chance_explains_the_seeds_that_fail(monkeypatch, good, seeds, passes):
    judged = lambda floors, card: Verdict(0.0 if card["seed"] < good else 2.0, None, "")
    monkeypatch.setattr(ranking, "verdict", judged)
    cells = [SimpleNamespace(done=True, scorecard={"seed": seed}) for seed in range(seeds)]
    results = SimpleNamespace(floors=lambda target: object(), cells=lambda target, family: cells)
    assert ranking.passes(results, "spiral", "vae") is passes  # pyright: ignore


def test_who_is_among_the_best_by_both_is_chosen_though_the_first_by_neither(monkeypatch):
    leaders = {"kl": ("dsm", "vae"), "bhattacharyya": ("gan", "vae")}
    monkeypatch.setattr(ranking, "best", lambda results, target, metric: leaders[metric])
    found = ranking.choice(None, "spiral")  # pyright: ignore[reportArgumentType]
    assert found == ("vae", "vae")


def test_an_arrow_is_the_root_of_its_score(study, monkeypatch):
    monkeypatch.setattr(pictures, "_steepness", lambda results, target: 2.0)
    field = np.tile(np.array([[0.72, 0.0], [0.0, -50.0]], np.float32), (8, 1))
    np.save(study / "cells" / "spiral" / "dsm" / "0" / "score.npy", field)
    results = Results.read(study)
    files = results.cell("spiral", "dsm")
    found = pictures.score_of(results, files, results.picture_box("spiral"))
    arrows = np.frombuffer(base64.b64decode(found["arrows"]), "i1").reshape(-1, 2)
    assert {tuple(arrow) for arrow in arrows.tolist()} == {(76, 0), (0, -127)}  # 127 √0.36, 127
