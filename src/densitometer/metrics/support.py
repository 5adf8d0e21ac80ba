"""The share of samples where the truth has no mass."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, binomial, of_samples, percent

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence


class OffSupport(Metric):
    """How many of the model's samples lie outside the truth's 99.9 % highest-density region.

    The region is {x : log p(x) ≥ the target's `hdr_log_density`}. Between 0 and 1; a perfect model
    scores 0.001, and 0 where the truth is uniform. A rounded sample is off the support only if all
    of its cell is (see `Rounding`). It sees leaks, not missing modes. The error is that of a
    binomial share; where there is none it is that of one, so that it is not zero when nothing
    leaks.
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
        n, share = len(log_p), float(np.mean(~(np.asarray(log_p) >= hdr_log_density)))
        return Estimate(share, binomial(share, n), of_samples(log_p))

    def gross(self, beyond: Mapping[str, Estimate]) -> str | None:
        """Most of them off it, unless there are copies, which are named in its place."""
        share = beyond[self.name].value
        if share <= 0.5 or "duplicates" in beyond:
            return None
        words = f"far from the truth, {percent(share)} of them off its support"
        return words + (
            f", and {beyond['w2'].value:.3g} away from it (w2)" if "w2" in beyond else ""
        )
