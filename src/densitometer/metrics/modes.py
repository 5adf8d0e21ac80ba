"""Whether each mode gets its share."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, of_samples

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

REPEATS = 1000
"""Draws of shares behind the error."""


class ModeWeights(Metric):
    """Total variation ½ Σ_k |ŵ_k − w_k| between the modes' shares of the samples and the true ones.

    A sample belongs to the mode of the nearest centre. Between 0 and 1; a perfect sampler scores
    about √(modes / (2π n)), and an ideal learner of as many training points √2 times that, so read
    it beside the truth's row. Shares nearer to the true ones than chance brings them are no fault.
    It is blind to the shape of a mode. The error is the
    scatter of multinomial shares about w + c (ŵ − w), where c² = (1 − Σ_k ŵ_k (1 − ŵ_k) / (n ‖ŵ −
    w‖²))₊ takes away what chance adds to ‖ŵ − w‖²; for the truth it is a tenth too large.
    """

    name = "mode_weights"
    label = "Error of the modes’ weights"
    needs = ("modes",)
    range = (0.0, 1.0)
    limit = 0.0
    one_sided = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, *evidence.modes)

    @staticmethod
    def of(
        samples: Float[np.ndarray, "n d"],
        centres: Float[np.ndarray, "modes d"],
        weights: Float[np.ndarray, " modes"],
    ) -> Estimate:
        """From samples, and the modes' centres and true weights."""
        samples = np.asarray(samples, np.float64)
        squares = ((samples[:, None, :] - centres[None]) ** 2).sum(axis=2)
        shares = np.bincount(np.argmin(squares, axis=1), minlength=len(weights)) / len(samples)
        off = shares - weights
        noise = np.sum(shares * (1 - shares)) / len(samples)
        kept = math.sqrt(max(1 - noise / np.sum(off**2), 0.0)) if off.any() else 0.0
        again = np.random.default_rng(0).multinomial(len(samples), weights + kept * off, REPEATS)
        values = np.abs(again / len(samples) - weights).sum(axis=1) / 2
        return Estimate(
            float(np.abs(off).sum() / 2), float(values.std(ddof=1)), of_samples(samples)
        )
