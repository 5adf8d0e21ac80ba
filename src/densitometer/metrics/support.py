"""Shares of samples that no density would have: where the truth has no mass, and twice the same."""

import math

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.order import duplicated


def off_support(log_p: Float[np.ndarray, " n"], hdr_log_density: float) -> Estimate:
    """The share of the model's samples outside the truth's 99.9 % highest-density region.

    The region is {x : log p(x) ≥ `hdr_log_density`}; `log_p` is the true log-density at the model's
    samples. Between 0 and 1; a perfect model scores 0.001, and 0 where the truth is uniform. It
    sees leaks, not missing modes. The error is that of a binomial share with one success and one
    failure added, so that it is not zero when nothing leaks (cf. Agresti & Coull, 1998).
    """
    return _share(int(np.sum(~(np.asarray(log_p) >= hdr_log_density))), len(log_p))


def duplicates(samples: Float[np.ndarray, "n d"]) -> Estimate:
    """The share of the model's samples that repeat another one exactly: 1 − distinct / n.

    Between 0 and 1; 0 for every distribution with a density. Cost O(n log n). It sees a generator
    that has collapsed onto a few points, samples drawn with replacement from a table, and rounding
    so coarse that points coincide. The error is that of `off_support`.
    """
    return _share(duplicated(np.asarray(samples)), len(samples))


def _share(count: int, n: int) -> Estimate:
    padded = (count + 1) / (n + 2)
    return Estimate(count / n, math.sqrt(padded * (1 - padded) / n), f"samples(n={n})")
