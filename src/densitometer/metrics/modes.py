"""Whether each mode gets its share."""

import math

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate


def mode_weights(
    samples: Float[np.ndarray, "n d"],
    centres: Float[np.ndarray, "modes d"],
    weights: Float[np.ndarray, " modes"],
) -> Estimate:
    """Total variation ½ Σ_k |ŵ_k − w_k| between the modes' shares of the samples and the true ones.

    A sample belongs to the mode of the nearest of `centres`. Between 0 and 1; a perfect sampler
    scores about √(modes / (2π n)), and a perfect pupil of as many training points √2 times that,
    so read it beside the truth's row. It is blind to the shape of a mode. The error is that of the
    multinomial shares, to first order.
    """
    samples = np.asarray(samples, np.float64)
    squares = ((samples[:, None, :] - centres[None]) ** 2).sum(axis=2)
    shares = np.bincount(np.argmin(squares, axis=1), minlength=len(weights)) / len(samples)
    signs = np.sign(shares - weights) / 2
    variance = signs**2 @ weights - (signs @ weights) ** 2
    return Estimate(
        float(np.abs(shares - weights).sum() / 2),
        math.sqrt(max(variance, 0.0) / len(samples)),
        f"samples(n={len(samples)})",
    )
