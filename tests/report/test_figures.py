"""A panel for every cell, showing that cell."""

import itertools
import json
import shutil
from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from densitometer.findings.results import Results
from densitometer.report import figures, style, wall


@pytest.fixture(scope="module")
def results(finished_study):
    return Results.read(finished_study)


def panels(figure: Figure) -> dict[str, Any]:
    return {name: ax for ax in figure.axes if (name := ax.get_gid())}


def words(ax):
    return [t.get_text() for t in ax.texts]


def test_curves_show_both_losses_and_the_selected_step(results):
    drawn = panels(figures.curves(results))
    assert set(drawn) == {f"{t}/{f}" for t in results.targets for f in results.families}
    for files in results.cells():
        lines = {
            line.get_label(): line
            for line in drawn[f"{files.cell.target}/{files.cell.family}"].get_lines()
        }
        np.testing.assert_array_equal(lines["training"].get_ydata(), files.curves["train_loss"])
        np.testing.assert_array_equal(lines["hold-out"].get_ydata(), files.curves["holdout_loss"])
        assert lines["selected state"].get_xdata() == [files.fit["selected_step"]]
        assert {line.get_color() for line in lines.values()} == {style.colour(files.cell.family)}


def test_samples_of_the_model_lie_over_those_of_the_truth(results):
    drawn = panels(figures.samples(results))
    rows = ("truth", *results.families)
    assert set(drawn) == {f"{t}/{f}" for t in results.targets for f in rows}
    for name, ax in drawn.items():
        target, family = name.split("/")
        if family == "truth":
            (truth,) = ax.get_lines()
            np.testing.assert_array_equal(truth.get_xydata(), results.cell(target, "truth").samples)
            continue
        truth, model = ax.get_lines()
        assert truth.get_color() == style.TRUTH_UNDER
        assert model.get_color() == style.colour(family)
        assert model.get_zorder() >= truth.get_zorder()
        np.testing.assert_array_equal(model.get_xydata(), results.cell(target, family).samples)
        assert np.size(truth.get_xdata()) == np.size(model.get_xdata())
        assert ax.get_aspect() == 1
        np.testing.assert_allclose(ax.get_xlim(), results.picture_box(target)[:, 0])


def test_the_number_of_samples_is_stated(results):
    (legend,) = figures.samples(results).legends
    assert [t.get_text() for t in legend.get_texts()] == ["truth, n = 2,000", "model, n = 2,000"]


def test_densities_share_their_targets_colour_scale(results):
    drawn = panels(figures.densities(results))
    rows = ("truth", *results.families)
    assert set(drawn) == {f"{t}/{f}" for t in results.targets for f in rows}
    for target in results.targets:
        images = [drawn[f"{target}/{f}"].get_images()[0] for f in ("truth", "dsm", "vae")]
        assert len({image.get_clim() for image in images}) == 1
        assert np.isfinite(np.asarray(images[0].get_array())).all()  # −inf off the support is drawn
        assert words(drawn[f"{target}/gan"]) == ["no density"]


def test_the_first_row_of_a_density_map_is_the_lowest(results):
    image = panels(figures.densities(results))["spiral/truth"].get_images()[0]
    assert image.origin == "lower"
    low, high = image.get_clim()
    expected = np.clip(results.cell("spiral", "truth").log_density, low, high)
    np.testing.assert_array_equal(image.get_array(), expected)


def test_what_is_missing_or_diverged_is_said_in_its_panel(study):
    shutil.rmtree(study / "cells" / "spiral" / "vae")
    path = study / "cells" / "spiral" / "dsm" / "0" / "fit.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"diverged_at": 4000}))
    results = Results.read(study)
    for draw in (figures.curves, figures.samples):
        drawn = panels(draw(results))
        assert words(drawn["spiral/vae"]) == ["not run"]
        assert words(drawn["spiral/dsm"]) == ["diverged at step 4,000"]
        assert words(drawn["pinwheel/vae"]) == []
    assert words(panels(figures.densities(results))["spiral/vae"]) == ["not run"]


def test_an_explosion_does_not_flatten_the_curve(study):
    path = study / "cells" / "spiral" / "dsm" / "0" / "curves.csv"
    lines = path.read_text().splitlines()
    lines[-2:] = ["7800,1e9,1e9,9", "8000,nan,nan,nan"]
    path.write_text("\n".join(lines))
    low, high = panels(figures.curves(Results.read(study)))["spiral/dsm"].get_ylim()
    assert high - low < 2


@pytest.mark.parametrize("draw", figures.ALL.values(), ids=figures.ALL)
def test_figures_fit_the_page_and_are_legible(results, draw):
    figure = draw(results)
    width, height = figure.get_size_inches() / wall.MM
    assert width <= style.TEXT_WIDTH + 0.01
    assert height <= style.TEXT_HEIGHT
    assert min(t.get_fontsize() for t in figure.findobj(Text) if t.get_text()) >= 6.5


@pytest.mark.parametrize("kind", ["pdf", "png"])
def test_files_do_not_depend_on_when_they_are_made(results, kind, monkeypatch):
    first = figures.render(figures.curves(results), kind)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    assert figures.render(figures.curves(results), kind) == first


@pytest.mark.parametrize("draw", figures.ALL.values(), ids=figures.ALL)
def test_nothing_overlaps_or_leaves_the_figure(study, draw):
    """Nor on one target alone, or with a variant's long name."""
    for files in Results.read(study).cells():  # losses whose ticks need many digits
        path = files.folder / "curves.csv"
        table = np.loadtxt(path, delimiter=",", skiprows=1)
        table[:, 1:3] = -0.9 + table[:, 1:3] / 100
        header = path.read_text().splitlines()[0]
        np.savetxt(path, table, delimiter=",", header=header, comments="")
    shutil.rmtree(study / "cells" / "pinwheel" / "dsm")
    assert_tidy(draw(Results.read(study)))
    rename(study, "vae", "vae.width=32,depth=2")
    results = Results.read(study)
    assert_tidy(draw(results) if draw is figures.faults else draw(results, (), ("spiral",)))


def test_walls_that_stand_side_by_side_are_level(results):
    """However many rows, and whether or not a family has a density."""
    for families in (results.families, ("gan", *results.families * 4)):
        places = []
        for draw in (figures.samples, figures.densities):
            figure = draw(results, families)
            height = figure.get_size_inches()[1]
            box = next(ax for ax in figure.axes if ax.get_gid() == "spiral/truth").get_position()
            places.append([(1 - box.y1) * height, (1 - box.y0) * height])
        np.testing.assert_allclose(*places)


def rename(study, family, name):
    plan = study / "plan.json"
    content = json.loads(plan.read_text())
    content["families"] = {name if f == family else f: v for f, v in content["families"].items()}
    plan.write_text(json.dumps(content))
    for folder in list(study.glob(f"cells/*/{family}")):
        folder.rename(folder.with_name(name))


def assert_tidy(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    parts = [*figure.legends, *figure.texts]
    for ax in figure.axes:
        parts += [ax.xaxis, ax.yaxis, ax.title, ax.patch]
    boxes = [(part.axes or part, part.get_tightbbox(renderer)) for part in parts]
    boxes = [(owner, box) for owner, box in boxes if box is not None and box.width > 0]
    assert len(boxes) >= 8
    boxes += [
        (ax, t.get_window_extent(renderer))
        for ax in figure.axes
        for t in ax.texts
        if t.get_position()[1] > 1  # the words over a fault
    ]
    for _, box in boxes:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= figure.bbox.x1 + 1
        assert box.y1 <= figure.bbox.y1 + 1
    for (owner, one), (stranger, other) in itertools.combinations(boxes, 2):
        assert owner is stranger or not one.padded(-1).overlaps(other.padded(-1))
