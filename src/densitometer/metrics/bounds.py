"""Bounds on the negative log-likelihood, for models whose density is known by a bound."""

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, below, mean

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray


class Bound(Metric):
    """An upper bound on `NLL`: never below it, nor below the entropy of the truth."""

    unit = "nats"
    perfect = "entropy"
    bounds = "nll"

    def violations(
        self, estimate: Estimate, card: Mapping[str, Estimate], entropy: Estimate | None
    ) -> Iterator[str]:
        """Beside those of every metric: a bound that is below what it bounds."""
        yield from super().violations(estimate, card, entropy)
        bounded = f"{self.shown(estimate)}: a bound, and below"
        if (exact := card.get(self.bounds)) and below(estimate, exact):
            yield f"{bounded} the exact {exact.value:.4f}"
        elif entropy and below(estimate, entropy):
            yield f"{bounded} the truth's entropy, {entropy.value:.4f}"


class NegativeELBO(Bound):
    """−E_p[ELBO(x)]: an upper bound on `NLL`, the evidence lower bound with its sign changed.

    Nats. Never to be compared with an exact value without its label. Source: Kingma & Welling
    (2014), arXiv:1312.6114.
    """

    name = "nll_elbo"
    label = "Negative ELBO"
    needs = ("elbo",)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.elbo)

    @staticmethod
    def of(elbo: Float[Array, " n"]) -> Estimate:
        """From the bound at fresh true points."""
        return mean(-np.asarray(elbo), Provenance("bound"))


class BoundGap(Metric):
    """How loose the bound is: E_p[log q(x) − ELBO(x)].

    Nats; 0 for a perfect encoder, never below. Cost two evaluations a point. It is the mean
    KL(encoder ‖ posterior) and says nothing of how near q is to p. Source: Kingma & Welling
    (2014), arXiv:1312.6114.
    """

    name = "bound_gap"
    label = "Gap of the ELBO"
    unit = "nats"
    needs = ("elbo", "log_q")
    perfect = 0.0
    range = (0.0, math.inf)
    below_by_chance = True

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.elbo, evidence.log_q)

    @staticmethod
    def of(elbo: Float[Array, " n"], log_q: Float[Array, " n"]) -> Estimate:
        """From bound and log-density at the same fresh true points."""
        gap = np.asarray(log_q, np.float64) - np.asarray(elbo, np.float64)
        return mean(gap, Provenance("bound"))


class NegativeImportanceBound(Bound):
    """−E_p of the k-sample importance-weighted bound: between the likelihood and the ELBO.

    Nats. Source: Burda, Grosse & Salakhutdinov (2016), arXiv:1509.00519.
    """

    name = "nll_importance"
    label = "Negative importance-weighted bound"
    needs = ("importance",)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(*evidence.importance)

    @staticmethod
    def of(bound: Float[Array, " n"], k: int) -> Estimate:
        """From the bound of k samples at fresh true points."""
        return mean(-np.asarray(bound), Provenance.of("importance", k=k))
