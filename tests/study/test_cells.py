import io

import numpy as np
import pytest

from densitometer.study.cells import run_cell
from densitometer.study.plan import REFERENCES, Cell, Plan

PLAN = Plan.make({"gan": {"steps": 4000, "width": 8}}, ["gaussian_mixture"], budget="smoke")


@pytest.mark.parametrize("family", [*REFERENCES, "gan"])
def test_a_cell_gives_its_files_and_the_same_again(family):
    cell, heard = Cell("gaussian_mixture", family, 0), []
    files = run_cell(cell, lambda *at: heard.append(at), plan=PLAN)
    fitted = {"model.safetensors", "curves.csv", "fit.json"} if family == "gan" else set()
    density = {"log_density.npy"} if family in REFERENCES else set()
    assert files.keys() == {"scorecard.json", "samples.npy", "timing.json"} | fitted | density
    samples = np.load(io.BytesIO(files["samples.npy"]))
    assert samples.shape == (PLAN.protocol.n_samples, 2)
    assert heard[-1][0] == "scoring"
    assert (("training", 50, 50) in [at[:3] for at in heard]) == (family == "gan")

    again = run_cell(cell, lambda *_: None, plan=PLAN)
    del files["timing.json"], again["timing.json"]
    assert again == files
