"""Comparisons of log-densities, for models that have one. All in nats, data coordinates."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import Metric, mean
from densitometer.metrics.control import controlled
from densitometer.metrics.grids import Grid

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray

MARGIN = 0.05
"""How far the grid of densities reaches beyond the target's box, in units of the box's side."""

CUT = 2.0
"""Where q/p is cut off to be a control variate: bounded, yet nearly a function of log p − log q."""

HEAVY = 0.1
"""Share of one point in Σ |log p − log q| above which a mean of it is flagged."""

TRIMMED = 1e-3
"""Share of the points that `TrimmedKL` leaves out."""

MASS_TOLERANCE = 1e-3
"""How far from 1 a density may integrate before it is called wrong."""


class OfDensities(Metric):
    """A mean over fresh true points of a function of log p and log q."""

    needs = ("log_q",)
    perfect = 0.0

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_p, evidence.log_q, evidence.provenance)

    @classmethod
    def of(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: Provenance
    ) -> Estimate:
        """From both log-densities at fresh true points."""
        terms = cls.terms(log_p, log_q)
        assert terms is not None, cls
        return mean(terms, provenance)


class KL(OfDensities):
    """KL(p‖q) = E_p[log p(x) − log q(x)].

    Nats; 0 for the truth, larger is worse; cost one density evaluation a point. It punishes what
    the model misses, and hardly sees mass that the model puts where the truth has none. Source:
    Kullback & Leibler (1951).

    The mean over fresh true points gets a control variate where there is one: r = q/p has mean 1,
    and min(r, 2) one that a quadrature gives, ∫ min(q, 2 p). Cut off at 2 it takes two thirds of
    the error away and leaves the stated error right; r itself has tails so heavy that intervals of
    95 % hold in 78 to 93 % of cases.
    """

    name = "kl"
    label = "KL divergence"
    unit = "nats"
    range = (0.0, math.inf)
    below_by_chance = True
    title = "KL(p ‖ q) in nats: 0 is perfect"
    aspect = "density"
    glance = "KL"

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_p, evidence.log_q, evidence.provenance, evidence.overlap)

    @classmethod
    def of(
        cls,
        log_p: Float[Array, " n"],
        log_q: Float[Array, " n"],
        provenance: Provenance,
        overlap: Estimate | None = None,
    ) -> Estimate:
        """From both log-densities at fresh true points.

        Args:
            log_p: of the truth, nats.
            log_q: of the model.
            provenance: where log q comes from.
            overlap: E_p[min(q/p, 2)], for the control variate.
        """
        share = largest_share(log_p, log_q)
        if share > HEAVY:
            provenance = provenance.with_details(largest=f"{share:.2f}")
        terms, slope = _kl_terms(log_p, log_q, overlap)
        found = mean(terms, provenance)
        if overlap is None:
            return found
        return found._replace(stderr=math.hypot(found.stderr, slope * overlap.stderr))

    @classmethod
    def terms(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None = None
    ) -> Float[Array, " n"]:
        """Terms whose mean the divergence is, one a point."""
        return _kl_terms(log_p, log_q, overlap)[0]


class TrimmedKL(OfDensities):
    """KL(p‖q) without the thousandth of the points at which |log p(x) − log q(x)| is largest.

    Nats; beside `KL` only where one point makes more than a tenth of Σ |log p − log q|: the mean
    then hangs on points that another test set would not have, and its error is not to be trusted.
    It is below the divergence: what the model misses in the tails is left out.
    """

    name = "kl_trimmed"
    label = "Trimmed KL divergence"
    unit = "nats"
    needs = ("log_q", "heavy_tail")
    below_by_chance = True

    @classmethod
    def of(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: Provenance
    ) -> Estimate:
        """From both log-densities at fresh true points."""
        terms = np.asarray(log_p, np.float64) - np.asarray(log_q, np.float64)
        most = np.argsort(np.abs(terms))[: len(terms) - math.ceil(TRIMMED * len(terms))]
        return mean(terms[np.sort(most)], provenance)


class JensenShannon(OfDensities):
    """½ KL(p‖m) + ½ KL(q‖m) with m = ½ (p + q).

    Between 0 and log 2 nats, 0 for the truth, larger is worse. With r = q/p it is

        E_p[log 2 − ½ log(1 + r) − ½ r log(1 + 1/r)],

    in which the mass that q has where p vanishes is counted as 1 − E_p[r], so it believes that q
    integrates to 1 (see `Mass`). Cost one density evaluation a point. Bounded, so it hardly tells
    bad from very bad. Source: Lin (1991), doi:10.1109/18.61115.
    """

    name = "jensen_shannon"
    label = "Jensen–Shannon divergence"
    unit = "nats"
    range = (0.0, math.log(2))
    below_by_chance = True

    @classmethod
    def terms(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None = None
    ) -> Float[Array, " n"]:
        """Terms whose mean the divergence is, one a point."""
        t = _log_ratio(log_p, log_q)
        with np.errstate(invalid="ignore"):  # a NaN stays one
            missed, invented = np.logaddexp(0, t), np.exp(t) * np.logaddexp(0, -t)
        return math.log(2) - 0.5 * missed - 0.5 * invented


class TotalVariation(OfDensities):
    """½ ∫ |p − q| = E_p[(1 − q/p)₊].

    Between 0 and 1, 0 for the truth, larger is worse: the largest difference between the two
    probabilities of any one event. Cost one density evaluation a point. It believes that q
    integrates to 1 (see `Mass`), and does not see how far off misplaced mass is.
    """

    name = "total_variation"
    label = "Total variation"
    range = (0.0, 1.0)

    @classmethod
    def terms(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None = None
    ) -> Float[Array, " n"]:
        """Terms whose mean the variation is, one a point."""
        return np.maximum(-np.expm1(_log_ratio(log_p, log_q)), 0.0)


class BhattacharyyaExact(OfDensities):
    """∫ √(p q) = E_p √(q/p) of two densities.

    Between 0 and 1, larger is better, 1 for the truth; cost one density evaluation a point, in any
    dimension. Nothing is smoothed and no grid is needed: where p vanishes, so does the integrand.
    It believes that q integrates to 1 (see `Mass`). It is blunt: 1 − ε²/8 for a q that is off by a
    factor 1 ± ε. Source: Bhattacharyya (1943).
    """

    name = "bhattacharyya_exact"
    label = "Bhattacharyya coefficient of the densities"
    better = "higher"
    perfect = 1.0
    range = (0.0, 1.0)

    @classmethod
    def terms(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None = None
    ) -> Float[Array, " n"]:
        """Terms whose mean the coefficient is, one a point."""
        return np.exp(_log_ratio(log_p, log_q) / 2)


class Hellinger(OfDensities):
    """√(1 − ∫ √(p q)).

    Between 0 and 1, 0 for the truth, larger is worse; a metric in the mathematical sense. Cost and
    blind spots are those of `BhattacharyyaExact`, from which it follows. Where the coefficient is
    above 1 by chance the distance is 0. Source: Hellinger (1909).
    """

    name = "hellinger"
    label = "Hellinger distance"
    range = (0.0, 1.0)

    @classmethod
    def of(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: Provenance
    ) -> Estimate:
        """From both log-densities at fresh true points."""
        coefficient = BhattacharyyaExact.of(log_p, log_q, provenance)
        distance = math.sqrt(max(1 - coefficient.value, 0.0))
        # d√h = dh / (2√h), but near 0 no more than the root of the error itself
        error = math.sqrt(coefficient.stderr)
        if distance > 0:
            error = min(error, coefficient.stderr / (2 * distance))
        return Estimate(distance, error, provenance)


class NLL(Metric):
    """−E_p[log q(x)] = KL(p‖q) + H(p).

    Nats; H(p) for the truth. Its error is larger than that of `KL`, which takes the truth's own
    scatter away.
    """

    name = "nll"
    label = "Negative log-likelihood"
    unit = "nats"
    needs = ("log_q",)
    perfect = "entropy"

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_q, evidence.provenance)

    @staticmethod
    def of(log_q: Float[Array, " n"], provenance: Provenance) -> Estimate:
        """From log-densities at fresh true points."""
        return mean(-np.asarray(log_q), provenance)

    @classmethod
    def terms(
        cls, log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None = None
    ) -> Float[Array, " n"]:
        """Terms whose mean it is, one a point."""
        return -np.asarray(log_q, np.float64)


class TrainingNLL(NLL):
    """−mean log q(xᵢ) over the points that the model was fitted to.

    Nats. Below `NLL` as far as the model has learnt its points by heart; read it beside that of the
    truth at the same points, which differs from H(p) by their chance. It has no floor.
    """

    name = "nll_train"
    label = "Negative log-likelihood of the training points"
    better = "neither"
    needs = ("log_q", "train")
    perfect = None

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.log_q_train, evidence.provenance)


class Mass(Metric):
    """∫ q(x) dx by the midpoint rule; 1 for any density that deserves the name.

    The fine grid covers the target's box and a margin; eight coarse ones around it catch tails.
    The stated error is the scatter of the four interleaved subgrids of half the resolution, which
    overstates that of the whole. Two dimensions only, and of no density that is exact.
    """

    name = "mass"
    label = "Mass of the density"
    better = "neither"
    needs = ("mass",)
    dims = (2, 2)
    perfect = 1.0
    tolerance = MASS_TOLERANCE
    range = (0.0, math.inf)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return evidence.mass

    @staticmethod
    def of(
        log_q: Callable[[Float[Array, "n 2"]], Float[Array, " n"]],
        grid: Grid,
        log_density: Float[Array, "ny nx"],
        provenance: Provenance,
    ) -> Estimate:
        """From a log-density and its values at the midpoints of a grid."""
        around = grid.around(16)
        with np.errstate(over="ignore", invalid="ignore"):  # a broken density is infinite or NaN
            density = np.exp(log_density.astype(np.float64))
            subgrids = [4 * grid.cell * density[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
            points = np.concatenate([g.points for g in around])
            beyond = np.exp(np.asarray(log_q(points), np.float64))
            tails = sum(
                g.cell * float(d.sum()) for g, d in zip(around, np.split(beyond, 8), strict=True)
            )
            error = float(np.std(subgrids, ddof=1) / 2)
        return Estimate(float(np.mean(subgrids) + tails), error, provenance)

    def violations(
        self, estimate: Estimate, card: Mapping[str, Estimate], entropy: Estimate | None
    ) -> Iterator[str]:
        """Beside those of every metric: a mass that is not 1."""
        found = list(super().violations(estimate, card, entropy))
        yield from found
        slack = 3 * estimate.stderr if math.isfinite(estimate.stderr) else 0.0
        if not found and abs(estimate.value - 1) > MASS_TOLERANCE + slack:
            yield f"the density integrates to {estimate.value:.4f}, not to 1"


def largest_share(log_p: Float[Array, " n"], log_q: Float[Array, " n"]) -> float:
    """The largest share of one point in Σ |log p − log q|; 1 where that is infinite or NaN."""
    terms = np.abs(np.asarray(log_p, np.float64) - np.asarray(log_q, np.float64))
    total = float(terms.sum())
    if not math.isfinite(total):
        return 1.0
    return float(terms.max()) / total if total > 0 else 0.0


def common(log_p: Float[Array, "*n"], log_q: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """min(q/p, 2), the control variate of `KL` before its mean is taken away."""
    with np.errstate(invalid="ignore"):  # a NaN stays one
        ratio = np.asarray(log_q, np.float64) - np.asarray(log_p, np.float64)
    return np.exp(np.minimum(ratio, math.log(CUT)))


def _kl_terms(
    log_p: Float[Array, " n"], log_q: Float[Array, " n"], overlap: Estimate | None
) -> tuple[Float[Array, " n"], float]:
    """The terms of `KL`, and the slope of the control variate; 0 without one."""
    terms = np.asarray(log_p, np.float64) - np.asarray(log_q, np.float64)
    if overlap is None:
        return terms, 0.0
    return controlled(terms, common(log_p, log_q) - overlap.value)


def _log_ratio(log_p: Float[Array, " n"], log_q: Float[Array, " n"]) -> Float[Array, " n"]:
    """log q/p at points where p is positive; bounded, so that its exponential is a number.

    NaN where q is infinite: no density is, and a bound would call it perfect there.
    """
    ratio = np.asarray(log_q, np.float64) - np.asarray(log_p, np.float64)
    return np.where(ratio == np.inf, np.nan, np.clip(ratio, -700.0, 700.0))
