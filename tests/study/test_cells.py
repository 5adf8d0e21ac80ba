import io
import json
from dataclasses import replace
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from densitometer import targets
from densitometer.estimates import EXACT, Estimate
from densitometer.metrics.density import KL, MARGIN
from densitometer.metrics.grids import Grid
from densitometer.models import HasScore, Standardiser
from densitometer.study import cells as study_cells
from densitometer.study.cells import run_cell
from densitometer.study.events import CellContext, Checkpointed
from densitometer.study.plan import REFERENCES, Cell, Plan

PLAN = Plan.make(
    {"gan": {"steps": 4000, "width": 8, "depth": 1}}, ["gaussian_mixture"], budget="smoke"
)


@pytest.mark.parametrize("family", [*REFERENCES, "gan"])
def test_a_cell_gives_its_files_and_the_same_again(family):
    cell, heard = Cell("gaussian_mixture", family, 0), []
    files = run_cell(CellContext(cell, emit=heard.append), plan=PLAN)
    fitted = (
        {"model.safetensors", "curves.csv", "fit.json", "path.npy"} if family == "gan" else set()
    )
    density = {"log_density.npy", "test_densities.npz"} if family in REFERENCES else set()
    assert files.keys() == {"scorecard.json", "samples.npy", "timing.json"} | fitted | density
    samples = np.load(io.BytesIO(files["samples.npy"]))
    assert samples.shape == (PLAN.protocol.n_samples, 2)
    if density:
        kept = np.load(io.BytesIO(files["test_densities.npz"]))
        overlap = Estimate(float(kept["overlap"][0]), 0.0, EXACT)
        terms = KL.terms(kept["log_p"], kept["log_q"], overlap)
        card = {row["metric"]: row for row in json.loads(files["scorecard.json"])}
        assert terms.shape == (PLAN.protocol.n_test,)
        assert np.mean(terms) == pytest.approx(card["kl"]["value"], abs=1e-12)
    if "path.npy" in files:  # the ways of the first samples
        path = np.load(io.BytesIO(files["path.npy"]))
        assert path.shape == (study_cells.FRAMES, study_cells.PATHS, 2)
        np.testing.assert_allclose(path[-1], samples[: study_cells.PATHS], rtol=1e-4, atol=1e-5)
    assert heard[-1].stage == "scoring"
    assert (("training", 40, 40) in [event[1:4] for event in heard]) == (family == "gan")

    again = run_cell(CellContext(cell), plan=PLAN)
    del files["timing.json"], again["timing.json"]
    assert again == files


def test_compilation_is_timed_apart_up_to_the_end_of_the_fit(monkeypatch):
    compiling = iter([2.0, 5.0])
    monkeypatch.setattr(study_cells, "seconds_compiling", lambda since: next(compiling))
    files = run_cell(CellContext(Cell("gaussian_mixture", "truth", 0)), plan=PLAN)
    timing = json.loads(files["timing.json"])
    assert (timing["fit_compile"], timing["compile"]) == (2.0, 5.0)
    assert timing["fit"] >= 0


class Slope(HasScore):
    """A score that tells where it was asked for."""

    standardiser: Standardiser = Standardiser.identity(2)

    def _sample(self, key):
        return jnp.zeros(2)

    def _score(self, z):
        return z * jnp.array([1.0, 2.0])


def test_the_score_is_told_row_by_row_of_the_grid():
    target, side = targets.get("gaussian_mixture"), study_cells.ARROWS
    files = study_cells._pictures(Slope(), target, 0)
    field = np.load(io.BytesIO(files["score.npy"])).reshape(side, side, 2)
    x, y = Grid.over(target.box, side, MARGIN)
    np.testing.assert_allclose(field[3, 20], [x[20], 2 * y[3]], rtol=1e-5)


def test_on_an_accelerator_all_seeds_are_fitted_in_one_program(monkeypatch):
    """Here on the CPU: the plan decides, not the device. The rest is rounding, amplified."""
    plans = [replace(PLAN, seeds=(0, 1), device=device) for device in ("cpu", "gpu")]
    cells = [Cell("gaussian_mixture", "gan", seed) for seed in (0, 1)]
    together, calls = study_cells.fit_seeds, []
    monkeypatch.setattr(
        study_cells, "fit_seeds", lambda *a, **k: calls.append(k["seeds"]) or together(*a, **k)
    )
    alone, both = ([run_cell(CellContext(cell), plan=p) for cell in cells] for p in plans)
    assert calls == [(0,), (1,), (0, 1)]
    again = run_cell(CellContext(cells[1]), plan=plans[1])
    assert len(calls) == 3
    assert again["scorecard.json"] == both[1]["scorecard.json"]
    for one, other in zip(alone, both, strict=True):
        a, b = (np.load(io.BytesIO(files["samples.npy"])) for files in (one, other))
        np.testing.assert_allclose(a, b, atol=0.02)
    assert alone[0]["samples.npy"] != alone[1]["samples.npy"]


def test_a_cell_that_goes_on_gives_the_same_files(monkeypatch):
    always = partial(study_cells.fit_seeds, keep_every=0.0)
    monkeypatch.setattr(study_cells, "fit_seeds", always)
    cell, heard = Cell("gaussian_mixture", "gan", 0), []
    study_cells._LAST.clear()
    whole = run_cell(CellContext(cell, emit=heard.append), plan=PLAN)
    checkpoints = [event.checkpoint for event in heard if isinstance(event, Checkpointed)]
    for checkpoint in (checkpoints[0], checkpoints[-1]):
        study_cells._LAST.clear()
        again = run_cell(CellContext(cell, checkpoint), plan=PLAN)
        assert {**again, "timing.json": b""} == {**whole, "timing.json": b""}
