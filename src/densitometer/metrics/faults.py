"""What is wrong with samples: one question a fault, each asked as sharply as n points allow.

A fault bends the truth p by a size θ, q = p + θ g + O(θ²). The mean over samples of s = g/p then
moves away from its mean under p, and no other mean moves further in units of its own scatter: it is
Rao's score test (Rao, 1948), and the fault whose score stands out most is the one that is there.
Each metric is the size that fits,

    θ̂ = (mean of s over the samples − E_p s) / (how fast E_q s grows with θ).

g and p are taken after smoothing by 0.1 standard deviations, so that edges have slopes, and the
denominator is mixed with 1 % of a uniform law, so that one stray point does not drown the rest;
both cost sharpness, neither biases θ̂ for small θ. Where faults come together each size holds some
of the others. A size is right to first order: of samples that are far from the truth it says that
they are, and no more. The errors are those of a mean. Two dimensions only.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.grids import GridLaw

Array = np.ndarray
Field = Float[np.ndarray, "ny nx"]

BACKGROUND = 0.01
"""Share of the uniform law in the denominator of a score."""


class Score(NamedTuple):
    """s on the grid, its mean under the truth, and how fast that grows with the fault."""

    field: Field
    mean: float
    response: float


def shift(samples: Float[Array, "n 2"], truth: GridLaw) -> Estimate:
    """How far the samples lie from where they belong: ‖δ‖ if q(x) = p(x − δ).

    In standard deviations of the truth, axis by axis; 0 for the truth, larger is worse, and above 0
    by chance (a length). Cost O(n + cells). A law with narrow parts shows a shift of a fraction of
    their width. Where most samples lie beyond the truth its slopes are 0 and say nothing; the shift
    is then that of the mean. Source: Rao (1948).
    """
    if np.mean(truth.at(samples, truth.smoothed) < BACKGROUND * _uniform(truth)) > 0.5:
        return _shift_of_mean(np.asarray(samples, np.float64), truth)
    sizes, errors = [], []
    for axis, sd in enumerate(truth.sds):
        s = -sd * _slope(truth, truth.smoothed, axis) / _mixed(truth)
        response = sd * _mean(truth, _slope(truth, s, axis))
        size, error = _size(samples, truth, Score(s, _mean(truth, s), response))
        sizes.append(size)
        errors.append(error)
    return _length(np.array(sizes), np.array(errors), samples)


def _shift_of_mean(samples: Float[Array, "n 2"], truth: GridLaw) -> Estimate:
    with np.errstate(invalid="ignore"):  # a mean of infinite samples is none
        sizes = (samples.mean(axis=0) - truth.means) / truth.sds
        errors = samples.std(axis=0, ddof=1) / truth.sds / math.sqrt(len(samples))
    return _length(sizes, errors, samples)


def _length(
    sizes: Float[Array, " 2"], errors: Float[Array, " 2"], samples: Float[Array, "n 2"]
) -> Estimate:
    length = math.hypot(*sizes)
    along = math.hypot(*(sizes * errors))
    return Estimate(length, along / length if length else float(errors.max()), _provenance(samples))


def blur(samples: Float[Array, "n 2"], truth: GridLaw) -> Estimate:
    """How much noise has been added: τ² if q is p convolved with N(0, τ² diag(sd²)).

    In units of the truth's variance, axis by axis: a blur by a tenth of a standard deviation is
    0.01. 0 for the truth; below 0 the samples are too sharp. Cost O(n + cells). Source: Rao (1948).
    """
    return Estimate(*_size(samples, truth, blur_score(truth)), _provenance(samples))


def blur_score(truth: GridLaw) -> Score:
    """The score of `blur`."""
    x, y = truth.sds**2 / 2
    curve = lambda f, axis: _slope(truth, _slope(truth, f, axis), axis)
    second = lambda f: x * curve(f, 0) + y * curve(f, 1)
    s = second(truth.smoothed) / _mixed(truth)
    return Score(s, _mean(truth, s), _mean(truth, second(s)))


def temperature(samples: Float[Array, "n 2"], truth: GridLaw) -> Estimate:
    """T if q ∝ p^(1/T): 1 for the truth, above it for samples too spread over what is likely.

    0 where all samples are at the likeliest point, and never below. Cost O(n + cells). Not for laws
    of constant density, which no temperature changes. It hardly sees missing modes. Source: Rao
    (1948).
    """
    size, error = _size(samples, truth, temperature_score(truth))
    return Estimate(max(1 + size, 0.0), error, _provenance(samples))


def temperature_score(truth: GridLaw) -> Score:
    """The score of `temperature`, whose size is T − 1."""
    s = -np.log(_mixed(truth))
    mean = _mean(truth, s)
    with np.errstate(divide="ignore", invalid="ignore"):
        surprise = np.where(truth.cells > 0, -np.log(truth.cells), 0.0)
    return Score(s, mean, _mean(truth, (s - mean) * surprise))


def leak(
    samples: Float[Array, "n 2"],
    truth: GridLaw,
    box: tuple[tuple[float, ...], tuple[float, ...]],
) -> Estimate:
    """The share of samples spread evenly over the box: λ if q = (1 − λ) p + λ u.

    At most 1; 0 for the truth, and below it by chance. It sees what `off_support` sees, and
    strays inside the support besides; what is outside the box counts as much as what is in its
    emptiest part. Cost O(n + cells). Source: Rao (1948).
    """
    s = (_uniform(truth) - truth.smoothed) / _mixed(truth)
    x, y = ((a >= low) & (a <= high) for a, low, high in zip(truth.grid, *box, strict=True))
    mean = _mean(truth, s)
    score = Score(s, mean, float(s[np.ix_(y, x)].mean()) - mean)
    size, error = _size(samples, truth, score)
    return Estimate(min(size, 1.0), error, _provenance(samples))


FAULTS = ("shift", "blur", "temperature", "leak", "mode_weights")
"""The metrics that are the size of a fault; the last one counts, and lives in `modes`."""


def describe(fault: str, size: float) -> str | None:
    """A fault of some size in words; None if no fault has such a size."""
    if fault == "shift":
        return f"shifted by {size:.2g} standard deviations"
    if fault == "blur" and size > 0:
        return f"blurred by noise of {math.sqrt(size):.2g} standard deviations"
    if fault == "blur":
        return f"too sharp, as if noise of {math.sqrt(-size):.2g} standard deviations were missing"
    if fault == "temperature" and size > 1:
        return f"too hot, too often where the truth is thin (temperature {size:.2f})"
    if fault == "temperature":
        return f"too cold, too often where the truth is dense (temperature {size:.2f})"
    if fault == "leak" and size > 0:
        return f"leaking, {percent(size)} strewn over the box"
    if fault == "mode_weights":
        share = f"{percent(size)} of the mass in the wrong one"
        return f"sharing itself wrongly among the modes, {share}"
    return None


def percent(share: float) -> str:
    """A share in per cent, with two digits, or more where it is nearly all."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def _uniform(truth: GridLaw) -> float:
    return 1 / (truth.cells.size * truth.grid.cell)


def _mixed(truth: GridLaw) -> Field:
    return (1 - BACKGROUND) * truth.smoothed + BACKGROUND * _uniform(truth)


def _mean(truth: GridLaw, values: Field) -> float:
    return float(np.sum(truth.cells * values))


def _slope(truth: GridLaw, values: Field, axis: int) -> Field:
    """The derivative along x (axis 0) or y (axis 1), by central differences."""
    return np.gradient(values, truth.grid[axis], axis=1 - axis)


def _size(samples: Float[Array, "n 2"], truth: GridLaw, score: Score) -> tuple[float, float]:
    values = truth.at(samples, score.field)
    error = float(values.std(ddof=1)) / math.sqrt(len(values)) / abs(score.response)
    return (float(values.mean()) - score.mean) / score.response, error


def _provenance(samples: Float[Array, "n 2"]) -> str:
    return f"samples(n={len(samples)})"
