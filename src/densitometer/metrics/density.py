"""Comparisons of log-densities, for models that have one. All in nats, data coordinates."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.grids import Grid

Array = np.ndarray


MARGIN = 0.05
"""How far the grid of densities reaches beyond the target's box, in units of the box's side."""

MASS_TOLERANCE = 1e-3
"""How far from 1 a density may integrate before it is called wrong."""


def mean(values: Float[Array, " n"], provenance: str) -> Estimate:
    """The mean of independent values and its standard error, sd/√n."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # a −inf makes the mean infinite and the error undefined
        return Estimate(
            float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), provenance
        )


def kl(log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """KL(p‖q) = E_p[log p(x) − log q(x)], from both log-densities at fresh true points.

    Nats; 0 for the truth, larger is worse; cost one density evaluation a point. It punishes what
    the model misses, and hardly sees mass that the model puts where the truth has none. Source:
    Kullback & Leibler (1951).
    """
    return mean(np.asarray(log_p, np.float64) - np.asarray(log_q, np.float64), provenance)


def nll(log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """Negative log-likelihood −E_p[log q(x)] at fresh true points: KL(p‖q) + H(p). Nats.

    Its error is larger than that of `kl`, which takes the truth's own scatter away.
    """
    return mean(-np.asarray(log_q), provenance)


def nll_elbo(elbo: Float[Array, " n"]) -> Estimate:
    """−E_p[ELBO(x)] at fresh true points: an upper bound on `nll`. Nats.

    Source: Kingma & Welling (2014). Never to be compared with an exact value without its label.
    """
    return mean(-np.asarray(elbo), "bound")


def nll_importance(bound: Float[Array, " n"], k: int) -> Estimate:
    """−E_p of the k-sample importance-weighted bound: between `nll` and `nll_elbo`. Nats.

    Source: Burda, Grosse & Salakhutdinov (2016).
    """
    return mean(-np.asarray(bound), f"importance(k={k})")


def bound_gap(elbo: Float[Array, " n"], log_q: Float[Array, " n"]) -> Estimate:
    """How loose the bound is: E_p[log q(x) − ELBO(x)], from both at the same fresh true points.

    Nats; 0 for a perfect encoder, never below. Cost two evaluations a point. It is the mean
    KL(encoder ‖ posterior) and says nothing of how near q is to p. Source: Kingma & Welling (2014).
    """
    return mean(np.asarray(log_q, np.float64) - np.asarray(elbo, np.float64), "bound")


def reverse_kl(log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """KL(q‖p) = E_q[log q(x) − log p(x)], from both log-densities at the model's own samples.

    Nats; 0 for the truth, larger is worse; cost one density evaluation a point. It punishes what
    the model invents and hardly sees modes that it drops. Infinite where the truth has an edge and
    the model leaks over it, so it is taken only of laws that are positive everywhere. It trusts the
    sampler: see `self_bhattacharyya`. Source: Kullback & Leibler (1951).
    """
    return mean(np.asarray(log_q, np.float64) - np.asarray(log_p, np.float64), provenance)


def bhattacharyya_exact(
    log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str
) -> Estimate:
    """The Bhattacharyya coefficient ∫ √(p q) = E_p √(q/p), at fresh true points.

    Between 0 and 1, larger is better, 1 for the truth; cost one density evaluation a point, in any
    dimension. Nothing is smoothed and no grid is needed: where p vanishes, so does the integrand.
    It believes that q integrates to 1 (see `mass`). It is blunt: 1 − ε²/8 for a q that is off by a
    factor 1 ± ε. Source: Bhattacharyya (1943).
    """
    return mean(np.exp(_log_ratio(log_p, log_q) / 2), provenance)


def hellinger(log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """The Hellinger distance √(1 − ∫ √(p q)), at fresh true points.

    Between 0 and 1, 0 for the truth, larger is worse; a metric in the mathematical sense. Cost and
    blind spots are those of `bhattacharyya_exact`, from which it follows. Where the coefficient is
    above 1 by chance the distance is 0. Source: Hellinger (1909).
    """
    coefficient = bhattacharyya_exact(log_p, log_q, provenance)
    distance = math.sqrt(max(1 - coefficient.value, 0.0))
    # d√h = dh / (2√h), but near 0 no more than the root of the error itself
    error = math.sqrt(coefficient.stderr)
    if distance > 0:
        error = min(error, coefficient.stderr / (2 * distance))
    return Estimate(distance, error, provenance)


def total_variation(
    log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str
) -> Estimate:
    """The total variation ½ ∫ |p − q| = E_p[(1 − q/p)₊], at fresh true points.

    Between 0 and 1, 0 for the truth, larger is worse: the largest difference between the two
    probabilities of any one event. Cost one density evaluation a point. It believes that q
    integrates to 1 (see `mass`), and does not see how far off misplaced mass is.
    """
    return mean(np.maximum(-np.expm1(_log_ratio(log_p, log_q)), 0.0), provenance)


def jensen_shannon(
    log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str
) -> Estimate:
    """The Jensen–Shannon divergence ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q), at fresh true points.

    Between 0 and log 2 nats, 0 for the truth, larger is worse. With r = q/p it is

        E_p[log 2 − ½ log(1 + r) − ½ r log(1 + 1/r)],

    in which the mass that q has where p vanishes is counted as 1 − E_p[r], so it believes that q
    integrates to 1 (see `mass`). Cost one density evaluation a point. Bounded, so it hardly tells
    bad from very bad. Source: Lin (1991).
    """
    t = _log_ratio(log_p, log_q)
    with np.errstate(invalid="ignore"):  # a NaN stays one
        missed, invented = np.logaddexp(0, t), np.exp(t) * np.logaddexp(0, -t)
    return mean(math.log(2) - 0.5 * missed - 0.5 * invented, provenance)


def log_true_density(log_p: Float[Array, " n"], entropy: Estimate) -> Estimate:
    """How much likelier the model's samples are under the truth than its own: E_q[log p] + H(p).

    Nats; 0 for the truth, below it for samples that stray, above it for samples that crowd where
    the truth is dense: a collapsed model is far above 0. Cost one evaluation of p a sample. Taken
    only of laws that are positive everywhere. It sees neither missing modes nor wrong weights.
    """
    values = mean(log_p, f"samples(n={len(log_p)})")
    error = math.hypot(values.stderr, entropy.stderr)
    return Estimate(values.value + entropy.value, error, values.provenance)


def fisher_divergence(
    score_p: Float[Array, "n d"], score_q: Float[Array, "n d"], provenance: str
) -> Estimate:
    """The Fisher divergence E_p ‖∇ log p(x) − ∇ log q(x)‖², from scores at fresh true points.

    In 1 / (data unit)²; 0 for the truth, larger is worse. It compares slopes alone: it hardly sees
    how mass is shared among modes with nothing between them, and it is defined only where the
    truth's density is smooth and vanishes at its border. Source: Johnson (2004); Hyvärinen (2005).
    """
    difference = np.asarray(score_p, np.float64) - np.asarray(score_q, np.float64)
    return mean(np.sum(difference**2, axis=1), provenance)


def _log_ratio(log_p: Float[Array, " n"], log_q: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p at points where p is positive; bounded, so that its exponential is a number.

    NaN where q is infinite: no density is, and a bound would call it perfect there.
    """
    ratio = np.asarray(log_q, np.float64) - np.asarray(log_p, np.float64)
    return np.where(ratio == np.inf, np.nan, np.clip(ratio, -700.0, 700.0))


def mass(
    log_q: Callable[[Float[Array, "n 2"]], Float[Array, " n"]],
    grid: Grid,
    log_density: Float[Array, "ny nx"],
    provenance: str,
) -> Estimate:
    """∫ q(x) dx by the midpoint rule; 1 for any density that deserves the name.

    The fine grid covers the target's box and a margin; eight coarse ones around it catch tails.
    The stated error is the scatter of the four interleaved subgrids of half the resolution, which
    overstates that of the whole. Two dimensions only.
    """
    around = grid.around(16)
    with np.errstate(over="ignore", invalid="ignore"):  # of a broken density it is infinite or NaN
        density = np.exp(log_density.astype(np.float64))
        subgrids = [4 * grid.cell * density[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
        beyond = np.exp(np.asarray(log_q(np.concatenate([g.points for g in around])), np.float64))
        tails = sum(
            g.cell * float(d.sum()) for g, d in zip(around, np.split(beyond, 8), strict=True)
        )
        error = float(np.std(subgrids, ddof=1) / 2)
    return Estimate(float(np.mean(subgrids) + tails), error, provenance)
