"""Trends of hold-out curves: overfitting, a rise without it, a fall that has not ended."""

import dataclasses
import math
from typing import Literal

import numpy as np
from jaxtyping import Float

from densitometer.findings.digits import count, plus_minus
from densitometer.findings.results import CellFiles

RISE = 0.05
"""Smallest rise of a hold-out curve after its minimum that is reported, as a share of its fall."""

SHORTEST = 10
"""Evaluations that a curve needs for its trend to be read."""


@dataclasses.dataclass(frozen=True)
class Trend:
    """What a hold-out curve does after its minimum."""

    kind: Literal["overfits", "worsens", "falls"]
    curve: str
    step: int
    low: float
    end: float
    noise: float
    """Standard deviation of the noise on the curve."""

    def words(self) -> str:
        """When, and by how much; the error is that of the curve's noise."""
        name = {"holdout_loss": "hold-out loss", "holdout_kde_nll": "hold-out score of samples"}
        if self.kind == "falls":
            return f"{name[self.curve]} still falling at step {count(self.step)}, its last"
        rise = plus_minus(self.end - self.low, math.sqrt(2) * self.noise)
        change = f"from step {count(self.step)} on its {name[self.curve]} rises by {rise}"
        return change + (" while its training loss falls" if self.kind == "overfits" else "")


def trend(cell: CellFiles) -> Trend | None:
    """What the curve that selected a cell's model does after its minimum, if it is beyond noise.

    The curve is smoothed by a running median of five evaluations; its noise is estimated from how
    far each value is from the mean of its neighbours. A rise counts if it exceeds four times the
    noise and `RISE` of the curve's whole fall. It is overfitting if it is the family's own loss
    that rises on the hold-out set but not on the training set.
    """
    curve = cell.selecting_curve
    step, train = cell.curves["step"], cell.curves["train_loss"]
    values = cell.curves[curve]
    if len(values) < SHORTEST or not np.isfinite(values).all():
        return None
    smooth, smooth_train = _running_median(values), _running_median(train)
    at = int(np.argmin(values))  # the step of the dot in the figure
    low, end = float(smooth[at]), float(smooth[-1])
    noise = _noise(values)
    least = max(4 * noise, RISE * float(smooth[0] - low))
    if end - low > least:
        own = curve == "holdout_loss"
        kind = "overfits" if own and smooth_train[-1] < smooth_train[at] else "worsens"
        return Trend(kind, curve, int(step[at]), low, end, noise)
    fall_at_the_end = float(smooth[-len(smooth) // 5] - end)
    if fall_at_the_end > least:
        return Trend("falls", curve, int(step[-1]), low, end, noise)
    return None


def _running_median(values: Float[np.ndarray, " t"], width: int = 5) -> Float[np.ndarray, " t"]:
    padded = np.pad(values, width // 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)


def _noise(values: Float[np.ndarray, " t"]) -> float:
    """Standard deviation of the noise on a curve that is smooth but for it."""
    late = values[len(values) // 3 :]
    residuals = late[1:-1] - (late[2:] + late[:-2]) / 2  # of variance 3/2
    return float(1.4826 * np.median(np.abs(residuals)) / math.sqrt(1.5))
