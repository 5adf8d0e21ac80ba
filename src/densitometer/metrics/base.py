"""What a metric is: a number about a model, and all that is known about that number.

A metric is a class. Its attributes say what its numbers mean, its call computes one from the
evidence about a model, and `of` is the formula on plain arrays. Floors, verdicts, consistency
checks, tables and help texts read the attributes, so that a new metric is one file and one line in
the registry.
"""

import abc
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate, Provenance

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

__all__ = ["Metric", "mean", "of_samples", "percent"]

ERRORS = 3.0
"""By how many standard errors a number must be out of bounds before it is called impossible."""

ROUNDING = 1e-6
"""By how much rounding may take a number out of its range."""

NORMAL = 1.96
"""Standard errors to either end of a 95 % interval."""


OF_MODELS = frozenset(
    ("log_q", "heavy_tail", "mass", "scores", "elbo", "importance", "acceptance", "nfe")
)
"""What of the evidence samples alone do not have."""


class Metric(abc.ABC):
    """How far a model is from the truth, or what its sampler costs, as one number.

    Class attributes are literals wherever possible: they are read from source, without importing.
    """

    name: ClassVar[str]
    """The identifier: in the registry, in ``results.csv``, on the command line."""

    label: ClassVar[str]
    """What people read, as in "KL divergence"."""

    unit: ClassVar[str] = ""
    """What its values are in, such as "nats"; empty for a pure number."""

    better: ClassVar[Literal["lower", "higher", "neither"]] = "lower"
    """Which of two values is the better one."""

    needs: ClassVar[tuple[str, ...]] = ()
    """What of the evidence it cannot do without (the names in `scoring.evidence.ABSENT`)."""

    dims: ClassVar[tuple[int, int | float]] = (1, math.inf)
    """The fewest and the most dimensions that it is for."""

    perfect: ClassVar[float | Literal["entropy"] | None] = None
    """What the truth scores, at whatever points: a number, or H(p). None if that scatters, or if
    there is no such value: the floor of a metric on samples is then measured."""

    tolerance: ClassVar[float | None] = None
    """How far from `perfect` a correct number may be; None for what its standard error allows."""

    range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    """Between what the number lies for any model."""

    below_by_chance: ClassVar[bool] = False
    """Whether an estimate may be below its range by chance, as a mean of terms of either sign."""

    limit: ClassVar[float | None] = None
    """Of a metric that takes all samples, however many: what n true ones tend to as n grows."""

    rate: ClassVar[float] = 0.5
    """With which power of 1/n they tend to the `limit`, or scatter the less: 1 for squares."""

    floorless: ClassVar[bool] = False
    """Whether it has no floor that is measured, though `perfect` is None."""

    one_sided: ClassVar[bool] = False
    """Whether a value that is better than chance brings about is no fault either."""

    bounds: ClassVar[str] = ""
    """The metric that it is an upper bound on; empty for none."""

    title: ClassVar[str] = ""
    """Of its block in the headline table, for a metric that belongs there."""

    aspect: ClassVar[str] = ""
    """What a model that has the best value is best by, in a sentence; for headline metrics."""

    glance: ClassVar[str] = ""
    """The name beside its value where there is room for two numbers a model; most have none."""

    scale: ClassVar[float] = 1.0
    """What tables multiply its values by: 100 for per cent."""

    of: ClassVar[Callable[..., Estimate]]
    """The formula, on plain arrays."""

    @abc.abstractmethod
    def __call__(self, evidence: "Evidence") -> Estimate:
        """The number, for a model of which `absence` has nothing to say."""

    @classmethod
    def terms(
        cls,
        log_p: Float[np.ndarray, " n"],
        log_q: Float[np.ndarray, " n"],
        overlap: Estimate | None = None,
    ) -> Float[np.ndarray, " n"] | None:
        """Of a mean over fresh true points its terms, so that models are compared point by point.

        Args:
            log_p: log-density of the truth at the points, nats.
            log_q: of the model.
            overlap: E_p[min(q/p, 2)], where it is known.
        """
        return None

    @property
    def takes_samples(self) -> bool:
        """Whether samples are all that it needs, whoever drew them."""
        return not OF_MODELS.intersection(self.needs)

    @property
    def floor_is_measured(self) -> bool:
        """Whether what the truth scores is found by judging true samples."""
        return self.takes_samples and self.perfect is None and not self.floorless

    def absence(self, evidence: "Evidence") -> str | None:
        """Why there is no such number for a model and a target; None if there is one."""
        fewest, most = self.dims
        if not fewest <= evidence.target.dim <= most:
            return f"it is defined in {_dimensions(fewest, most)}"
        return next((why for need in self.needs if (why := evidence.lacks(need))), None)

    def truth(self, entropy: Estimate | None) -> float | None:
        """`perfect` as a number, given H(p); None if it is not known."""
        if self.perfect == "entropy":
            return None if entropy is None else entropy.value
        return self.perfect

    def allowed(self, estimate: Estimate, entropy: Estimate | None) -> tuple[float, float] | None:
        """Between what a correct estimate for the truth lies; None where `perfect` is not known."""
        truth = self.truth(entropy)
        if truth is None:
            return None
        half = NORMAL * (estimate.stderr if math.isfinite(estimate.stderr) else 0.0)
        if self.tolerance is not None:
            half = self.tolerance
        low = truth - half if self.below_by_chance else max(truth - half, self.range[0])
        return low, truth + half

    def violations(
        self, estimate: Estimate, card: Mapping[str, Estimate], entropy: Estimate | None
    ) -> Iterator[str]:
        """Why no correct program could print this number, a sentence for each reason.

        Args:
            estimate: the number.
            card: all estimates of the same model, by metric.
            entropy: H(p) of the truth, nats; None if it is not known.
        """
        low, high = self.range
        slack = ERRORS * estimate.stderr if math.isfinite(estimate.stderr) else 0.0
        if not math.isfinite(estimate.value):
            yield f"{self.label} is not finite"
        elif self.below_by_chance and estimate.value < low - slack:
            yield f"{self.shown(estimate)}, negative beyond its error"
        elif estimate.value > high + ROUNDING + slack or (
            estimate.value < low - ROUNDING and not self.below_by_chance
        ):
            yield f"{self.shown(estimate)}, outside {low:g} to {high:g}"

    def remark(self, estimate: Estimate) -> str | None:
        """What is worth knowing about samples beside the verdict on them; None if nothing is."""
        return None

    def gross(self, beyond: Mapping[str, Estimate]) -> str | None:
        """What is so wrong with samples that no other number means much; None if nothing is.

        Args:
            beyond: the estimates that are beyond their floors, by metric; this is one of them.
        """
        return None

    def shown(self, estimate: Estimate) -> str:
        """The start of a sentence about a number."""
        return f"{self.label} is {estimate.value:.4f} ± {estimate.stderr:.4f}"


def mean(values: Float[np.ndarray, " n"], provenance: Provenance) -> Estimate:
    """The mean of independent values and its standard error, sd/√n."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # a −inf makes the mean infinite and the error undefined
        return Estimate(
            float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), provenance
        )


def binomial(share: float, n: int) -> float:
    """The standard error of a share of n; of none and of all that of one, so that it is not 0."""
    share = min(max(share, 1 / n), 1 - 1 / n)
    return math.sqrt(share * (1 - share) / n)


def error_by_halves(whole: float, halves: float, n: int) -> float:
    """The standard error of a statistic near its extreme, where it is quadratic in the samples.

    Its influences, what each of n samples adds, then depend on the other samples, and scatter by

        v(n) = a + b/n,        while the variance of the statistic is        (a + b/(2n)) / n

    (a U-statistic of order two, Hoeffding, 1948). With v(n/2) that is (3 v(n) − v(n/2)) / (2n). At
    the least, where a = 0, it is half of what the influences say, at most all.

    Args:
        whole: v(n), the variance of the influences in all samples.
        halves: v(n/2), that in a half of them.
        n: how many samples there are.
    """
    return math.sqrt(min(max(1.5 * whole - 0.5 * halves, whole / 2), whole) / n)


def error_by_parts(whole: float, shared: float, n: int) -> float:
    """The standard error of a statistic near its extreme, by the influences found in parts of it.

    Let ψ be the influences of n points. In Hoeffding's (1948) decomposition f = Σ f_k into orders

        E ψ² / n = Σ k Var f_k,        E[ψ ψ′] / n = Var f_1,        Var f = Σ Var f_k,

    with ψ′ the influences in an independent sample (Efron & Stein, 1981). Where orders above the
    second have little Var f is the mean of the two. It serves where the influences in fewer points
    scatter no less, as those on the largest of many sums do.

    Args:
        whole: E ψ², the variance of the influences in all points.
        shared: E[ψ ψ′], the covariance of those in two parts, as functions of a point.
        n: how many points there are.
    """
    return math.sqrt(min(max((whole + shared) / 2, whole / 4), whole) / n)


def below(a: Estimate, b: Estimate) -> bool:
    """Whether a is less than b by more than chance allows."""
    return a.value < b.value - ERRORS * math.hypot(a.stderr, b.stderr)


def of_samples(samples: Any) -> Provenance:
    """The provenance of a number that comes from samples alone."""
    return Provenance.of("samples", n=len(samples))


def percent(share: float) -> str:
    """A share in per cent, with two digits, or more where it is nearly all."""
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %"


def _dimensions(fewest: int, most: int | float) -> str:
    if fewest == most:
        return f"{fewest} dimensions only"
    return (
        f"{fewest} dimensions or more" if most == math.inf else f"{fewest} to {most:g} dimensions"
    )
