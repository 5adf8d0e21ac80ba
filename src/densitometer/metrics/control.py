"""Control variates: the same mean with less scatter.

Where h has mean 0, the terms v − c h have the mean of the terms v for any c, and the least variance
for c = cov(v, h) / var(h). The c of a term is fitted without the fold that the term is in, so that
it cannot bias the mean. Source: Glasserman (2004), Monte Carlo Methods in Financial Engineering,
section 4.1, doi:10.1007/978-0-387-21617-1.
"""

import numpy as np
from jaxtyping import Float

FOLDS = 5
"""Parts of the terms, every fifth of them; each is corrected with the slope of the others."""


def controlled(
    terms: Float[np.ndarray, " n"], control: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " n"], float]:
    """Terms of the same mean that scatter less, v − c h, and the mean of c over the folds.

    Args:
        terms: independent terms v of a mean; if one is infinite or NaN they come back as they are.
        control: h, of mean 0 in expectation, bounded if the error of the mean is to be trusted.
    """
    if not (np.isfinite(terms).all() and np.isfinite(control).all()):
        return terms, 0.0
    fold = np.arange(len(terms)) % FOLDS

    def others(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " folds"]:
        """The mean of x over all folds but one, for each."""
        sums, counts = np.bincount(fold, x, FOLDS), np.bincount(fold, minlength=FOLDS)
        return (sums.sum() - sums) / (counts.sum() - counts)

    covariance = others(terms * control) - others(terms) * others(control)
    variance = others(control**2) - others(control) ** 2
    slopes = np.divide(covariance, variance, out=np.zeros(FOLDS), where=variance > 0)
    return terms - slopes[fold] * control, float(slopes.mean())
