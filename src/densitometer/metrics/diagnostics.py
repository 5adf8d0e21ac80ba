"""What a model's sampler tells of itself: neither better nor worse, but worth knowing."""

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.density import mean


def acceptance(shares: Float[np.ndarray, " n"]) -> Estimate:
    """The mean share of accepted Metropolis moves, over draws.

    Between 0 and 1; Langevin moves mix fastest near 0.57 (Roberts & Rosenthal, 1998), and near 0
    the sampler stands still.
    """
    return mean(shares, f"samples(n={len(shares)})")


def nfe(evaluations: Float[np.ndarray, " n"]) -> Estimate:
    """The mean number of function evaluations of the network that one draw costs."""
    return mean(evaluations, f"samples(n={len(evaluations)})")
