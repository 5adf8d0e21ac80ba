"""What a table of samples betrays that no density would: repeated rows, their order, rounding."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, binomial, of_samples, percent
from densitometer.metrics.order import duplicated

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

DECIMALS = 6
"""The most decimals that are looked for: float32 has no more."""

CHANCE = 4.0
"""Standard errors up to which rows are taken to be in no order."""


class Duplicates(Metric):
    """How many of the model's samples repeat another one exactly: 1 − distinct / n.

    Less the share that rounding makes of as many true samples, where the samples are rounded (see
    `Rounding`). Between 0 and 1; 0 for every distribution with a density. Cost O(n log n). It sees
    a generator that has collapsed onto a few points, and samples drawn with replacement from a
    table. The error is that of a binomial share; where there is none it is that of one.
    """

    name = "duplicates"
    label = "Share of repeated samples"
    perfect = 0.0
    range = (0.0, 1.0)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples, evidence.rounded_truth)

    @staticmethod
    def of(
        samples: Float[np.ndarray, "n d"], rounded: Float[np.ndarray, "n d"] | None = None
    ) -> Estimate:
        """From samples, and true ones that are rounded as they are."""
        n = len(samples)
        expected = 0 if rounded is None else duplicated(rounded)
        count = max(duplicated(np.asarray(samples)) - expected, 0)
        error = math.hypot(binomial(count / n, n), math.sqrt(expected) / n)
        return Estimate(count / n, error, of_samples(samples))

    def gross(self, beyond: Mapping[str, Estimate]) -> str:
        """Copies, however few: no density gives any."""
        return f"repeating themselves, {percent(beyond[self.name].value)} of them are copies"


class Rounding(Metric):
    """What all coordinates are multiples of: 10^−k with k ≤ 6, or 0 if they are not rounded.

    In the units of the data. It is no fault of a model but of a file, so no verdict counts it: a
    sample off the support is one only if all of its cell is, and repeated samples are those that
    rounding does not explain.
    """

    name = "rounding"
    label = "Step of rounding"
    better = "neither"
    range = (0.0, 1.0)
    floorless = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        return Estimate(evidence.step, 0.0, of_samples(evidence.samples))

    @staticmethod
    def of(samples: Float[np.ndarray, "n d"]) -> Estimate:
        """From samples."""
        return Estimate(step_of(samples), 0.0, of_samples(samples))

    def remark(self, estimate: Estimate) -> str | None:
        """The step, if there is one."""
        if not estimate.value:
            return None
        return f"rounded to steps of {estimate.value:g}"


class Order(Metric):
    """How alike neighbouring rows are: the mean over axes of their autocorrelation at lag 1.

        r = 1/d Σ_j Σ_i (x_ij − x̄_j) (x_i+1,j − x̄_j) / Σ_i (x_ij − x̄_j)²

    Between −1 and 1; for independent draws 0, with the error √(Σ_jk ρ_jk² / n) / d, ρ the
    correlations of the axes (Bartlett, 1946). It sees a Markov chain, and a sorted or grouped
    file. All other metrics take rows as a set, so no verdict counts it; but where rows come from a
    chain, their errors, which are for independent draws, are too small.
    """

    name = "order"
    label = "Correlation of neighbouring rows"
    better = "neither"
    range = (-1.0, 1.0)
    floorless = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples)

    @staticmethod
    def of(samples: Float[np.ndarray, "n d"]) -> Estimate:
        """From samples in the order in which they came."""
        n, d = samples.shape
        x = np.asarray(samples, np.float64)
        with np.errstate(invalid="ignore"):  # of infinite samples
            x = x - x.mean(axis=0)
            spread = x.std(axis=0)
            x = x / np.where(spread == 0, 1.0, spread)
            alike = float((x[1:] * x[:-1]).sum() / (n * d))
            correlations = x.T @ x / n
        error = math.sqrt(float((correlations**2).sum()) / n) / d
        return Estimate(alike, error, Provenance.of("rows", n=n))

    def remark(self, estimate: Estimate) -> str | None:
        """Beyond chance, with what it may mean."""
        if not abs(estimate.value) > CHANCE * estimate.stderr:
            return None
        return (
            f"neighbouring rows depend on each other (correlation {estimate.value:.2f}): if they "
            "come from a chain, and not from a sorted file, the errors are too small"
        )


def step_of(samples: Float[np.ndarray, "n d"]) -> float:
    """The coarsest 10^−k whose multiples all coordinates are, as float32 has them; 0 if none is."""
    points = np.asarray(samples, np.float32)
    wide = np.asarray(samples, np.float64)
    for decimals in range(DECIMALS + 1):
        if np.array_equal(np.round(wide, decimals).astype(np.float32), points):
            return 10.0**-decimals
    return 0.0
