"""Differences of two measures, with their 95 % confidence intervals."""

import math
import statistics
from typing import NamedTuple

from scipy.stats import norm as normal
from scipy.stats import t as student_t

from densitometer.findings.results import Measure

CONFIDENCE = 0.975
"""Quantile at either end of a 95 % interval."""


class Difference(NamedTuple):
    """a − b of one metric on one target, with a 95 % confidence interval."""

    value: float
    low: float
    high: float
    seeds: int
    """Seeds behind it; 1 where the interval comes from the test samples alone."""

    @property
    def sign(self) -> int:
        """That of a − b; 0, a tie, if the interval contains 0."""
        return int(self.low > 0) - int(self.high < 0)


def difference(a: Measure, b: Measure) -> Difference:
    """a − b with its 95 % interval, paired by seed where both have several.

    A seed gives all families the same points, so the mean of the paired differences gets Student's
    interval. With one seed the interval follows from the two standard errors as if the test samples
    were independent; since they share their points, it is too wide and favours a tie.
    """
    pairs = [a.by_seed[seed] - b.by_seed[seed] for seed in a.by_seed if seed in b.by_seed]
    if len(pairs) > 1 and all(map(math.isfinite, pairs)):
        value = statistics.fmean(pairs)
        half = float(student_t.ppf(CONFIDENCE, len(pairs) - 1)) * statistics.stdev(pairs)
        half /= math.sqrt(len(pairs))
        return Difference(value, value - half, value + half, len(pairs))
    value = 0.0 if a.value == b.value else a.value - b.value  # two infinities are a tie
    half = float(normal.ppf(CONFIDENCE)) * math.hypot(_finite(a.stderr), _finite(b.stderr))
    return Difference(value, value - half, value + half, 1)


def compare(a: Measure, b: Measure) -> int:
    """The sign of a − b, or 0 where the two cannot be distinguished."""
    return difference(a, b).sign


def _finite(x: float) -> float:
    return x if math.isfinite(x) else 0.0
