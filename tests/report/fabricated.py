"""A study's folder made of numbers that look like a study's, without training anything."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from scipy.ndimage import gaussian_filter

from densitometer import targets
from densitometer.randomness import key_for
from densitometer.study.plan import REFERENCES, Plan

TARGETS = ("spiral", "pinwheel", "checkerboard", "gaussian_mixture")
FAMILIES = ("dsm", "vae", "gan")
GRID = 80
STEPS = 8000
KL = {
    "dsm": (0.081, 0.128, 0.171, 0.031),
    "vae": (0.213, 0.244, 0.292, 0.139),
    "kde": (0.089, 0.178, 0.156, 0.044),
    "kde_adaptive": (0.087, 0.160, 0.155, 0.041),
    "gmm": (0.079, 0.126, 0.216, 0.012),
    "gmm_mean": (0.078, 0.124, 0.214, 0.012),
}
BHATTACHARYYA = {
    "truth": (0.992, 0.993, 0.995, 0.997),
    "kde": (0.983, 0.984, 0.985, 0.991),
    "kde_adaptive": (0.983, 0.985, 0.985, 0.991),
    "gmm": (0.985, 0.986, 0.981, 0.997),
    "gmm_mean": (0.985, 0.986, 0.982, 0.997),
    "dsm": (0.988, 0.985, 0.985, 0.995),
    "vae": (0.961, 0.962, 0.966, 0.975),
    "gan": (0.984, 0.979, 0.983, 0.991),
}
OFF = {
    "truth": (0.001, 0.0015, 0.0, 0.0005),
    "kde": (0.018, 0.041, 0.062, 0.009),
    "kde_adaptive": (0.018, 0.040, 0.060, 0.009),
    "gmm": (0.021, 0.033, 0.081, 0.002),
    "gmm_mean": (0.021, 0.033, 0.080, 0.002),
    "dsm": (0.009, 0.012, 0.041, 0.0025),
    "vae": (0.071, 0.068, 0.105, 0.052),
    "gan": (0.023, 0.019, 0.070, 0.011),
}
BLUR = {
    "truth": 0,
    "dsm": 0.6,
    "kde": 2,
    "kde_adaptive": 1.8,
    "gmm": 1.5,
    "gmm_mean": 1.4,
    "vae": 3,
    "gan": 1,
}


def fabricate(
    folder: Path, *, seeds: Sequence[int] = (0,), names: tuple[str, ...] = TARGETS
) -> Path:
    """Write a complete study of three families on four targets into `folder`."""
    folder.mkdir(parents=True)
    plan = Plan.make({family: {} for family in FAMILIES}, names, seeds)
    (folder / "plan.json").write_text(plan.to_json())
    for index, name in enumerate(names):
        target = targets.get(name)
        truth_density = log_density_of(target)
        for seed in seeds:
            rng = np.random.default_rng([index, seed])
            for family in (*REFERENCES, *FAMILIES):
                cell = folder / "cells" / name / family / str(seed)
                cell.mkdir(parents=True)
                blur = BLUR[family]
                side = target.box[1][0] - target.box[0][0]
                jitter = 1.1 * blur * side / GRID
                drawn = np.asarray(target.sample(key_for(seed, family), 2000))
                samples = drawn + jitter * rng.normal(size=drawn.shape)
                np.save(cell / "samples.npy", samples.astype(np.float32))
                if family != "gan":
                    density = truth_density
                    if blur:
                        p = np.exp(np.minimum(truth_density, 6))
                        density = np.log(gaussian_filter(p, blur) + 1e-7)
                    np.save(cell / "log_density.npy", density.astype(np.float32))
                if family in FAMILIES:
                    write_curves(cell, family, plan.families[family], rng)
                rows = metrics(index, family, float(target.entropy.value) or 0.5, rng, seed)
                records = [
                    {"target": name, "family": family, "seed": seed, "metric": m}
                    | {"value": v, "stderr": e, "provenance": p}
                    for m, (v, e, p) in rows.items()
                ]
                (cell / "scorecard.json").write_text(json.dumps(records))
                (cell / "timing.json").write_text(
                    json.dumps({"fit": rng.uniform(5, 50), "score": 3.0})
                )
    return folder


def log_density_of(target) -> np.ndarray:
    lower, upper = np.array(target.box)
    margin = 0.05 * (upper - lower)
    edges = np.linspace(lower - margin, upper + margin, GRID + 1)
    axes = (edges[1:] + edges[:-1]) / 2
    x, y = np.meshgrid(axes[:, 0], axes[:, 1])
    points = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
    log_prob = jax.jit(lambda p: jax.lax.map(target.log_prob, p, batch_size=1600))
    return np.asarray(log_prob(points)).reshape(GRID, GRID)


def write_curves(cell: Path, family: str, fields, rng: np.random.Generator) -> None:
    step = np.arange(1, 41) * STEPS // 40
    t = step / STEPS
    decay, low = {"dsm": (6.0, 0.82), "vae": (5.0, 1.9), "gan": (9.0, math.log(2))}[family]
    noise = rng.normal(size=(3, 40))
    train = low + 0.6 * np.exp(-decay * t) - 0.02 * t + 0.004 * noise[0]
    holdout = low + 0.03 + 0.6 * np.exp(-decay * t) + 0.004 * noise[1]
    if family == "vae":
        holdout += 0.25 * np.maximum(t - 0.5, 0)
    kde_nll = 0.3 + np.exp(-decay * t) + 0.01 * noise[2]
    table = np.stack([step, train, holdout, kde_nll], axis=1)
    lines = ["step,train_loss,holdout_loss,holdout_kde_nll"]
    lines += [f"{int(s)},{','.join(repr(float(v)) for v in rest)}" for s, *rest in table]
    (cell / "curves.csv").write_text("\n".join(lines) + "\n")
    chosen = kde_nll if family == "gan" else holdout
    record = {
        "selected_step": int(step[np.argmin(chosen)]),
        "diverged_at": None,
        "hyperparameters": {**fields, "steps": STEPS},
        "parameters": 52_481,
    }
    (cell / "fit.json").write_text(json.dumps(record))


def metrics(index: int, family: str, entropy: float, rng: np.random.Generator, seed: int) -> dict:
    wobble = lambda size: size * rng.normal() if seed else 0.0
    rows = {}
    if family != "gan":
        kl = 0.0 if family == "truth" else KL[family][index] + wobble(0.006)
        error = 0.0 if family == "truth" else 0.004 + 0.02 * kl
        how = {
            "dsm": "ode(step=0.4, mass=1.0000)",
            "vae": "quadrature(nodes=480x480, mass=1.0000)",
        }
        how = how.get(family, "exact")
        rows["kl"] = (kl, error, how)
        rows["nll"] = (entropy + kl, 0.009, how)
        if how != "exact":
            rows["mass"] = (
                {"dsm": 0.99997, "vae": 1.00002}[family],
                1e-5,
                how.split(", mass")[0] + ")",
            )
        rows["self_bhattacharyya"] = (-0.0002 + wobble(0.0005), 0.0006, "samples(n=2000)")
    if family == "vae":
        exact = entropy + KL["vae"][index]
        rows["nll_elbo"] = (exact + 0.31, 0.01, "bound")
        rows["nll_importance"] = (exact + 0.01, 0.01, "importance(k=64)")
    rows["bhattacharyya"] = (BHATTACHARYYA[family][index], 0.0008, "samples(n=2000)")
    rows["kde_log_likelihood"] = (-entropy - 0.6, 0.011, "kde(h=0.22, n=2000)")
    rows["kde_cv_log_likelihood"] = (-entropy - 0.1, 0.01, "kde(h=0.05, n=2000)")
    off = OFF[family][index]
    rows["off_support"] = (off, math.sqrt(off * (1 - off) / 2000), "samples(n=2000)")
    return rows


def rewrite(folder: Path, target: str, family: str, seed: int = 0, **values) -> None:
    """Plant results: metric=(value, stderr) replaces a row of one cell's scorecard, or adds it.

    A third number of the tuple is its provenance, "samples(n=2000)" if there is none.
    """
    path = folder / "cells" / target / family / str(seed) / "scorecard.json"
    records = {record["metric"]: record for record in json.loads(path.read_text())}
    for metric, (value, stderr, *provenance) in values.items():
        new = {"target": target, "family": family, "seed": seed, "metric": metric}
        record = records.setdefault(metric, new | {"provenance": "samples(n=2000)"})
        record |= {"value": value, "stderr": stderr}
        record |= {"provenance": provenance[0]} if provenance else {}
    path.write_text(json.dumps([*records.values()]))
