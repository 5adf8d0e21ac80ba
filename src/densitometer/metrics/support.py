"""Mass where the truth has none."""

import math

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate


def off_support(log_p: Float[np.ndarray, " n"], hdr_log_density: float) -> Estimate:
    """The share of the model's samples outside the truth's 99.9 % highest-density region.

    The region is {x : log p(x) ≥ `hdr_log_density`}; `log_p` is the true log-density at the model's
    samples. Between 0 and 1; a perfect model scores 0.001, and 0 where the truth is uniform. It
    sees leaks, not missing modes. The error is that of a binomial share with one success and one
    failure added, so that it is not zero when nothing leaks (cf. Agresti & Coull, 1998).
    """
    n = len(log_p)
    outside = int(np.sum(~(np.asarray(log_p) >= hdr_log_density)))
    padded = (outside + 1) / (n + 2)
    return Estimate(outside / n, math.sqrt(padded * (1 - padded) / n), f"samples(n={n})")
