"""Comparisons of scores, ∇ log p: of the truth, of the model's density, and of its network.

    E_p ‖∇ log p − ∇ log q‖²,      E_p ‖∇ log p − s‖²,      E_p ‖∇ log q − s‖²

are the Fisher divergence, the error of the network's score s, and how far the two are apart. The
gradient of `log_prob` belongs to the density that `kl` judges; the score that a network gives at
the smallest noise is what it was trained for. They are equal if the density follows from an energy.
Of a probability-flow ODE they are equal only as far as the network is exact at every noise level
(Song et al., 2021, arXiv:2011.13456).
"""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.metrics.base import Metric, mean

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray


class OfScores(Metric):
    """A mean squared distance of two scores over fresh true points.

    The smaller set decides how many points are compared: those of both are the first test points.
    """

    unit = "1 / (data unit)²"
    perfect = 0.0
    range = (0.0, math.inf)

    @staticmethod
    def of(
        one: Float[Array, "n d"], other: Float[Array, "m d"], provenance: Provenance
    ) -> Estimate:
        """From scores at fresh true points, of which the first min(n, m) are the same."""
        n = min(len(one), len(other))
        difference = np.asarray(one[:n], np.float64) - np.asarray(other[:n], np.float64)
        return mean(np.sum(difference**2, axis=1), provenance.with_details(n=n))


class FisherDivergence(OfScores):
    """E_p ‖∇ log p(x) − ∇ log q(x)‖².

    Of the q that `kl` judges: the gradient is that of `log_prob`, whatever a network says. In
    1 / (data unit)²; 0 for the truth, larger is worse. It compares slopes alone: it hardly sees
    how mass is shared among modes with nothing between them, and it is defined only where the
    truth's density is smooth and vanishes at its border. Cost one gradient of the density a point.
    Source: Johnson (2004); Hyvärinen (2005).
    """

    name = "fisher_divergence"
    label = "Fisher divergence"
    needs = ("log_q", "smooth")

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.score_p, evidence.gradient_q, evidence.provenance)


class ScoreError(OfScores):
    """E_p ‖∇ log p(x) − s(x)‖², with s the score that the model gives.

    A network of many noises gives it at the smallest. In
    1 / (data unit)²; 0 for the truth, larger is worse. Taken where the truth's density is smooth.
    Blind to the weights of far modes, as `FisherDivergence` is. Source: Hyvärinen (2005).
    """

    name = "score_error"
    label = "Error of the score"
    needs = ("scores", "smooth")

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.score_p, evidence.score_q, EXACT)


class ScoreConsistency(OfScores):
    """How far the model's score is from the gradient of its own density, E_p ‖∇ log q(x) − s(x)‖².

    In 1 / (data unit)²; 0 for an energy, and for a probability-flow ODE whose network is exact at
    every noise level. It says nothing about the truth, which only says where to look.
    """

    name = "score_consistency"
    label = "Distance of the score from the density’s own"
    needs = ("log_q", "scores")
    tolerance = 1e-6

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.gradient_q, evidence.score_q, evidence.provenance)
