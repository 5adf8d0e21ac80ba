"""Samples of a target with known faults: which metrics find them, and what they are called."""

import dataclasses
import math
from typing import NamedTuple

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
"""One at a time, for the metrics' page."""


class Kind(NamedTuple):
    """What is done to samples, and what may be said of them."""

    words: str
    named: tuple[str, ...] = ()
    """The faults that are there, by the names that a verdict has for them."""
    harmless: bool = False
    """Whether it is no fault of the distribution."""
    says: str = ""
    """What a verdict should say, where the fault is not one of size."""


KINDS = {
    "truth": Kind("true samples", harmless=True),
    **{
        kind: Kind(words, (name,))
        for (kind, words), name in zip(
            FAULTS.items(),
            ("shift", "blur", "leak", "temperature", "temperature", "mode weights"),
            strict=True,
        )
    },
    "doubled": Kind("one mode of seven twice as likely", ("mode weights",)),
    "stretched": Kind("5 % too wide along x", ("stretch",)),
    "turned": Kind("turned by 3°", ("turn",)),
    "blur and leak": Kind("blurred by 10 %, then 3 % strewn over the box", ("blur", "leak")),
    "shift and blur": Kind("blurred by 10 %, then shifted by 8 %", ("shift", "blur")),
    "turn and leak": Kind("turned by 3°, then 3 % strewn over the box", ("turn", "leak")),
    "mirrored": Kind("15 % of the samples mirrored left to right"),
    "thinned": Kind("left half 30 % too thin"),
    "copies": Kind("half of the samples twice", says="repeating themselves"),
    "memorised": Kind("training points with noise 0.01", says="training points"),
    "rounded": Kind("three decimals", harmless=True, says="steps of 0.001"),
    "grouped": Kind("modes one after another, of equal shares", harmless=True, says="neighbouring"),
}
"""Everything whose verdict is judged."""


def faults_of(target: Target) -> list[str]:
    """Of `FAULTS` those that the distribution can have."""
    return [fault for fault in FAULTS if can_have(target, fault)]


def can_have(target: Target, kind: str) -> bool:
    """Only modes are dropped, and no heat moves a uniform distribution."""
    if kind in ("dropped", "doubled", "grouped"):
        return target.modes is not None
    return kind not in ("hot", "cold") or not on_grid(target).is_flat


def trained_on(target: Target, seed: int) -> Float[np.ndarray, "2000 2"]:
    """The training points that "memorised" repeats."""
    return np.asarray(target.sample(jax.random.key(2 * seed + 10**6), 2000))


def planted(target: Target, kind: str, n: int, seed: int) -> Float[np.ndarray, "n 2"]:
    """`n` samples with what is planted in them; of the truth if it is "truth"."""
    law, rng = on_grid(target), np.random.default_rng(seed)

    def true(stream: int) -> Float[np.ndarray, "n 2"]:
        return np.asarray(target.sample(jax.random.key(2 * seed + stream), n), np.float64)

    noise = lambda: 0.1 * law.sds * rng.normal(size=(n, 2))
    leaked = lambda x: np.where(rng.random((n, 1)) < 0.03, rng.uniform(*target.box, (n, 2)), x)
    if kind == "truth":
        x = true(0)
    elif kind == "shift":
        x = true(0) + np.array([0.05 * law.sds[0], 0.0])
    elif kind == "blur":
        x = true(0) + noise()
    elif kind == "leak":
        x = leaked(true(0))
    elif kind in ("hot", "cold"):
        weights = law.cells ** {"hot": 1 / 1.25, "cold": 1 / 0.77}[kind]
        x = dataclasses.replace(law, cells=weights / weights.sum()).draw(rng, n)
    elif kind == "dropped":
        x = np.concatenate([true(0), true(1)])
        x = x[_nearest(target, x) > 0][:n]
    elif kind == "doubled":
        x = np.concatenate([true(0), true(1)])
        x = x[(_nearest(target, x) == 0) | (rng.random(len(x)) < 0.5)]
        x = rng.permutation(x)[:n]
    elif kind == "grouped":
        x = np.concatenate([true(0), true(1)])
        nearest = _nearest(target, x)
        modes = nearest.max() + 1
        x = np.concatenate([x[nearest == k][: -(-n // modes)] for k in range(modes)])[:n]
    elif kind == "stretched":
        x = law.means + (true(0) - law.means) * np.array([1.05, 1.0])
    elif kind == "turned":
        x = _turned(true(0), law.means)
    elif kind == "blur and leak":
        x = leaked(true(0) + noise())
    elif kind == "shift and blur":
        x = true(0) + noise() + np.array([0.08 * law.sds[0], 0.0])
    elif kind == "turn and leak":
        x = leaked(_turned(true(0), law.means))
    elif kind == "mirrored":
        x = true(0)
        x[: round(0.15 * n), 0] = 2 * law.means[0] - x[: round(0.15 * n), 0]
    elif kind == "thinned":
        x = np.concatenate([true(0), true(1)])
        x = x[(x[:, 0] > law.means[0]) | (rng.random(len(x)) < 0.7)][:n]
    elif kind == "copies":
        x = np.concatenate([true(0)[: n // 2], true(0)[: n - n // 2]])
    elif kind == "memorised":
        x = trained_on(target, seed)[rng.integers(0, 2000, n)] + 0.01 * rng.normal(size=(n, 2))
    else:
        x = np.round(true(0), 3)
    return x.astype(np.float32)


def _nearest(target: Target, x: Float[np.ndarray, "n 2"]) -> np.ndarray:
    assert target.modes is not None
    return np.argmin(((x[:, None] - target.modes[0]) ** 2).sum(axis=2), axis=1)


def _turned(x: Float[np.ndarray, "n 2"], centre: Float[np.ndarray, " 2"]) -> np.ndarray:
    cos, sin = math.cos(math.radians(3)), math.sin(math.radians(3))
    return centre + (x - centre) @ np.array([[cos, sin], [-sin, cos]])
