"""Samples of a target with one known fault, to see which metrics find it."""

import dataclasses

import jax
import numpy as np
from jaxtyping import Float

from densitometer.scoring.evidence import on_grid
from densitometer.targets.base import Target

FAULTS = {
    "shift": "shifted by 5 % of a standard deviation",
    "blur": "blurred by 10 % of a standard deviation",
    "leak": "3 % strewn over the box",
    "hot": "temperature 1.25",
    "cold": "temperature 0.77",
    "dropped": "one mode of seven dropped",
}


def faults_of(target: Target) -> list[str]:
    """Those that the law can have: only modes are dropped, and no heat moves a uniform law."""
    without = {"dropped"} if target.modes is None else set()
    if on_grid(target).is_flat:
        without |= {"hot", "cold"}
    return [fault for fault in FAULTS if fault not in without]


def planted(target: Target, fault: str, n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """`n` samples with a fault; of the truth if it is "truth"."""
    law, rng = on_grid(target), np.random.default_rng(seed)

    def true(stream: int) -> Float[np.ndarray, "n 2"]:
        return np.asarray(target.sample(jax.random.key(2 * seed + stream), n), np.float64)

    if fault == "truth":
        x = true(0)
    elif fault == "shift":
        x = true(0) + np.array([0.05 * law.sds[0], 0.0])
    elif fault == "blur":
        x = true(0) + 0.1 * law.sds * rng.normal(size=(n, 2))
    elif fault == "leak":
        x = np.where(rng.random((n, 1)) < 0.03, rng.uniform(*target.box, (n, 2)), true(0))
    elif fault == "dropped":
        assert target.modes is not None
        x = np.concatenate([true(0), true(1)])
        mode = np.argmin(((x[:, None] - target.modes[0]) ** 2).sum(axis=2), axis=1)
        x = x[mode > 0][:n]
    else:
        weights = law.cells ** {"hot": 1 / 1.25, "cold": 1 / 0.77}[fault]
        x = dataclasses.replace(law, cells=weights / weights.sum()).draw(rng, n)
    return x.astype(np.float32)
