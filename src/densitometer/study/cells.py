"""One cell: fit its model, score it, return its files.

A cell is a function of (plan, target, family, seed) and returns named bytes, so it can run in any
process on any machine; only the store writes to the study's folder.
"""

import io
import json
import os
import time
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from densitometer import families, targets
from densitometer.blocks.nets import parameter_count
from densitometer.checkpoint import encode_model
from densitometer.metrics import density
from densitometer.metrics.grids import Grid
from densitometer.models import HasPath, HasScore, Model
from densitometer.randomness import key_for
from densitometer.scoring.baselines import BASELINES, Truth
from densitometer.scoring.evidence import Evidence
from densitometer.scoring.scorecard import score
from densitometer.study.events import CellContext
from densitometer.study.plan import Cell, Plan, family_of
from densitometer.system.compiling import seconds_compiling
from densitometer.targets.base import Target
from densitometer.training import Fit, fit_seeds

PATHS, FRAMES = 300, 41
"""``path.npy``: PATHS draws at FRAMES moments from noise to sample, (FRAMES, PATHS, d)."""

ARROWS = 32
"""``score.npy``: ∇ log q at the midpoints of a grid of ARROWS cells a side, of the same extent and
order as that of ``log_density.npy``, (ARROWS², 2)."""


def run_cell(context: CellContext, *, plan: Plan) -> dict[str, bytes]:
    """Fit and score one cell; its files by name.

    All of them but ``timing.json`` are functions of the plan and the cell, byte for byte, whether
    and wherever it was stopped and resumed.
    """
    cell = context.cell
    timing: dict[str, float] = {"began": time.time(), "worker": os.getpid()}
    started = time.perf_counter()
    protocol, target = plan.protocol, targets.get(cell.target)
    files: dict[str, bytes] = {}
    train = _points(plan, cell, "train")
    if cell.family in plan.families:
        context.report("compiling")
        fitted = _fit(context, plan)
        model = fitted.model
        files |= _fit_files(fitted, cell, plan)
        timing |= fitted.seconds
    else:
        context.report("fitting")
        model = _reference(plan, cell, train)
    trained, compiling = time.perf_counter(), seconds_compiling(started)
    context.report("scoring")
    card = score(
        model,
        target,
        cell.seed,
        family=cell.family,
        n_test=protocol.n_test,
        n_samples=protocol.n_samples,
        n_grid=protocol.grid,
        train=train,
    )
    assert card.evidence is not None
    files |= {"scorecard.json": card.to_json().encode()}
    files |= {"samples.npy": _npy(card.evidence.samples)}
    if not card.evidence.lacks("log_q"):
        files["test_densities.npz"] = _test_densities(card.evidence)
    if card.evidence.log_density is not None:
        files["log_density.npy"] = _npy(card.evidence.log_density)
    if cell.family in plan.families:
        files |= _pictures(model, target, cell.seed)
    timing |= {"fit": trained - started, "score": time.perf_counter() - trained}
    timing |= {"compile": seconds_compiling(started), "fit_compile": compiling}
    return files | {"timing.json": _json(timing)}


def _fit(context: CellContext, plan: Plan) -> Fit:
    """The fit of a cell, made together with those of all seeds that the plan fits together.

    They are cached until a cell needs others, since their cells come next. All are made, whichever
    are missing, so that the result of a cell depends on the plan and the cell alone.
    """
    cell = context.cell
    seeds = plan.together(cell)
    wanted = (plan.to_json(), cell.target, cell.family, seeds)
    if wanted not in _LAST:
        cells = [cell._replace(seed=seed) for seed in seeds]
        fits = fit_seeds(
            families.get(family_of(cell.family), **plan.families[cell.family]),
            [_points(plan, cell, "train") for cell in cells],
            [_points(plan, cell, "holdout") for cell in cells],
            seeds=seeds,
            budget=plan.budget,
            progress=lambda step, steps, loss: context.report("training", step, steps, loss),
            resume=context.checkpoint,
            keep=context.save,
        )
        _LAST.clear()
        _LAST[wanted] = fits
    return _LAST[wanted][seeds.index(cell.seed)]


_LAST: dict[tuple[Any, ...], list[Fit]] = {}
"""The fits that `_fit` made last, by what they depend on."""


def _points(plan: Plan, cell: Cell, which: str) -> Float[Array, "n d"]:
    n = {"train": plan.protocol.n_train, "holdout": plan.protocol.n_holdout}[which]
    return targets.get(cell.target).sample(key_for(cell.seed, which), n)


def _reference(plan: Plan, cell: Cell, train: Float[Array, "n d"]) -> Model:
    if cell.family == "truth":
        return Truth(targets.get(cell.target))
    return BASELINES[cell.family](train, _points(plan, cell, "holdout"))


def _fit_files(fitted: Fit, cell: Cell, plan: Plan) -> dict[str, bytes]:
    details = {"target": cell.target, "seed": cell.seed, "budget": plan.budget}
    model = fitted.model
    derived = [getattr(model, field) for field in model.derived]
    facts = {
        "selected_step": fitted.selected_step,
        "diverged_at": fitted.diverged_at,
        "hyperparameters": fitted.family.hyperparameters(),
        "parameters": parameter_count(model) - sum(map(parameter_count, derived)),
    }
    return {
        "model.safetensors": encode_model(model, fitted.family, details=details),
        "curves.csv": fitted.curves_csv().encode(),
        "fit.json": _json(facts),
    }


def _pictures(model: Model, target: Target, seed: int) -> dict[str, bytes]:
    """What pictures show beside samples and densities: the sampling path, and the score."""
    files = {}
    if isinstance(model, HasPath):
        files["path.npy"] = _npy(model.path(key_for(seed, "samples"), PATHS, FRAMES))
    if isinstance(model, HasScore) and target.dim == 2:
        grid = Grid.over(target.box, ARROWS, density.MARGIN)
        files["score.npy"] = _npy(model.score(jnp.asarray(grid.points)))
    return files


def _test_densities(evidence: Evidence) -> bytes:
    """``log_p`` and ``log_q`` at the test points, the same ones for all cells of a seed.

    `overlap` is E_p[min(q/p, 2)] and its standard error, NaN where there is no control variate:
    with it the terms of `KL` follow.
    """
    file = io.BytesIO()
    np.savez_compressed(
        file,
        log_p=np.asarray(evidence.log_p, np.float32),
        log_q=np.asarray(evidence.log_q, np.float32),
        overlap=np.array(evidence.overlap[:2] if evidence.overlap else (np.nan, np.nan)),
    )
    return file.getvalue()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def _npy(array: np.ndarray | Array) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array, np.float32), allow_pickle=False)
    return file.getvalue()
