"""What a model's sampler reports of itself: neither better nor worse, but worth knowing."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, mean, of_samples

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence


class Diagnostic(Metric):
    """The mean over draws of a number that the model's `diagnostics` have under this name."""

    better = "neither"

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.diagnostics[self.name])

    @staticmethod
    def of(values: Float[np.ndarray, " n"]) -> Estimate:
        """From the number of each draw."""
        return mean(np.asarray(values), of_samples(values))


class Acceptance(Diagnostic):
    """How many of the Metropolis moves of a draw are accepted, in the mean over draws.

    Between 0 and 1; Langevin moves mix fastest near 0.57 (Roberts & Rosenthal, 1998), and near 0
    the sampler stands still.
    """

    name = "acceptance"
    label = "Share of accepted moves"
    needs = ("acceptance",)
    range = (0.0, 1.0)


class NFE(Diagnostic):
    """How often one draw evaluates the network, in the mean over draws."""

    name = "nfe"
    label = "Number of function evaluations a draw"
    needs = ("nfe",)
    range = (0.0, float("inf"))
