"""Log-densities at the model's own samples: E_q of log p and of log q, nats, data coordinates."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, mean, of_samples

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray


class ReverseKL(Metric):
    """KL(q‖p) = E_q[log q(x) − log p(x)].

    Nats; 0 for the truth, larger is worse; cost one density evaluation a point. It punishes what
    the model invents and hardly sees modes that it drops. Infinite where the truth has an edge and
    the model leaks over it, so it is taken only of targets that are positive everywhere. It trusts
    the sampler: see `SelfBhattacharyya`. Source: Kullback & Leibler (1951).
    """

    name = "reverse_kl"
    label = "Reverse KL divergence"
    unit = "nats"
    needs = ("log_q", "smooth")
    perfect = 0.0
    range = (0.0, math.inf)
    below_by_chance = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_p_own, evidence.log_q_own, evidence.provenance)

    @staticmethod
    def of(
        log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: Provenance
    ) -> Estimate:
        """From both log-densities at the model's own samples."""
        return mean(np.asarray(log_q, np.float64) - np.asarray(log_p, np.float64), provenance)


class LogTrueDensity(Metric):
    """How much likelier the model's samples are under the truth than its own: E_q[log p] + H(p).

    Nats; 0 for the truth, below it for samples that stray, above it for samples that crowd where
    the truth is dense: a collapsed model is far above 0. Cost one evaluation of p a sample. Taken
    only of targets that are positive everywhere. It sees neither missing modes nor wrong weights.
    """

    name = "log_true_density"
    label = "True log-density of the samples"
    unit = "nats"
    better = "neither"
    needs = ("smooth",)
    limit = 0.0

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_p_own, evidence.target.entropy)

    @staticmethod
    def of(log_p: Float[Array, " n"], entropy: Estimate) -> Estimate:
        """From the true log-density at the model's samples, and H(p)."""
        values = mean(log_p, of_samples(log_p))
        error = math.hypot(values.stderr, entropy.stderr)
        return Estimate(values.value + entropy.value, error, values.provenance)
