"""Shares of samples that no density would have: where the truth has no mass, and twice the same."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, binomial, of_samples, percent
from densitometer.metrics.order import duplicated

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence


class OffSupport(Metric):
    """How many of the model's samples lie outside the truth's 99.9 % highest-density region.

    The region is {x : log p(x) ≥ the target's `hdr_log_density`}. Between 0 and 1; a perfect model
    scores 0.001, and 0 where the truth is uniform. It sees leaks, not missing modes. The error is
    that of a binomial share; where there is none it is that of one, so that it is not zero when
    nothing leaks.
    """

    name = "off_support"
    label = "Share of samples off the support"
    range = (0.0, 1.0)
    limit = 0.001
    title = "Samples off the support, per cent: the truth row is the floor"
    aspect = "support"
    scale = 100.0

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_p_own, evidence.target.hdr_log_density)

    @staticmethod
    def of(log_p: Float[np.ndarray, " n"], hdr_log_density: float) -> Estimate:
        """From the true log-density at the model's samples, and the level of the region."""
        return _share(int(np.sum(~(np.asarray(log_p) >= hdr_log_density))), len(log_p))

    def gross(self, beyond: Mapping[str, Estimate]) -> str | None:
        """Most of them off it, unless there are copies, which are named in its place."""
        share = beyond[self.name].value
        if share <= 0.5 or "duplicates" in beyond:
            return None
        words = f"far from the truth, {percent(share)} of them off its support"
        return words + (
            f", and {beyond['w2'].value:.3g} away from it (w2)" if "w2" in beyond else ""
        )


class Duplicates(Metric):
    """How many of the model's samples repeat another one exactly: 1 − distinct / n.

    Between 0 and 1; 0 for every distribution with a density. Cost O(n log n). It sees a generator
    that has collapsed onto a few points, samples drawn with replacement from a table, and rounding
    so coarse that points coincide. The error is that of `OffSupport`.
    """

    name = "duplicates"
    label = "Share of repeated samples"
    perfect = 0.0
    range = (0.0, 1.0)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.samples)

    @staticmethod
    def of(samples: Float[np.ndarray, "n d"]) -> Estimate:
        """From samples."""
        return _share(duplicated(np.asarray(samples)), len(samples))

    def gross(self, beyond: Mapping[str, Estimate]) -> str:
        """Copies, however few: no density gives any."""
        return f"repeating themselves, {percent(beyond[self.name].value)} of them are copies"


def _share(count: int, n: int) -> Estimate:
    return Estimate(count / n, binomial(count / n, n), of_samples(range(n)))
