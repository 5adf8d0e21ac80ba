"""What no correct computation can give: the laws that the numbers of a scorecard must keep."""

import math
from collections.abc import Iterator, Mapping

from densitometer.estimates import Estimate
from densitometer.metrics.density import MASS_TOLERANCE

ERRORS = 3.0
"""By how many standard errors a law must be broken before a number is called impossible."""

DIVERGENCES = ("kl", "reverse_kl", "bound_gap")
"""Negative for no two laws."""

BOUNDS = ("nll_elbo", "nll_importance")
"""Never below `nll`, nor below the entropy of the truth. (`nll` itself has `kl` for its judge.)"""

LIKELIHOODS = ("kde_log_likelihood", "kde_cv_log_likelihood")
"""Mean log-densities under a density made of samples: never above −H(p)."""

LIKE_ENTROPY = ("nll", *BOUNDS)
"""Of the truth they are H(p)."""

PERFECT = {
    "kl": 0.0,
    "reverse_kl": 0.0,
    "jensen_shannon": 0.0,
    "total_variation": 0.0,
    "hellinger": 0.0,
    "bhattacharyya_exact": 1.0,
    "fisher_divergence": 0.0,
    "bound_gap": 0.0,
    "self_bhattacharyya": 0.0,
    "duplicates": 0.0,
}
"""What the truth scores always, at any points and with any samples."""

NEVER_NEGATIVE = ("total_variation", "hellinger", "fisher_divergence", "duplicates")
"""Not even by chance: 0 for the truth, and means of what is 0 or more at every point."""

RANGES = {
    "jensen_shannon": (0.0, math.log(2)),
    "total_variation": (0.0, 1.0),
    "hellinger": (0.0, 1.0),
    "bhattacharyya_exact": (0.0, 1.0),
    "fisher_divergence": (0.0, math.inf),
    "mass": (0.0, math.inf),
    "bhattacharyya": (0.0, 1.0),
    "mmd2": (-1.0, 2.0),
    "sliced_w2": (0.0, math.inf),
    "w2": (0.0, math.inf),
    "c2st": (0.0, 1.0),
    "precision": (0.0, 1.0),
    "recall": (0.0, 1.0),
    "off_support": (0.0, 1.0),
    "duplicates": (0.0, 1.0),
    "shift": (0.0, math.inf),
    "temperature": (0.0, math.inf),
    "leak": (-math.inf, 1.0),
    "mode_weights": (0.0, 1.0),
    "acceptance": (0.0, 1.0),
    "nfe": (0.0, math.inf),
}
"""Between what any model's numbers lie; all others may be any number."""


def broken(card: Mapping[str, Estimate], entropy: Estimate | None) -> Iterator[tuple[str, str]]:
    """(metric, what is wrong) for each number that no correct program could print.

    Args:
        card: the estimates of one model by metric.
        entropy: H(p) of the truth, nats; None if it is not known.
    """
    for metric, estimate in card.items():
        value, stderr, _ = estimate
        slack = ERRORS * stderr if math.isfinite(stderr) else 0.0
        shown = f"{metric} is {value:.4f} ± {stderr:.4f}"
        if not math.isfinite(value):
            yield metric, f"{metric} is not finite"
        elif metric in DIVERGENCES and value < -slack:
            yield metric, f"{shown}, negative beyond its error"
        elif metric == "mass" and abs(value - 1) > MASS_TOLERANCE + slack:
            yield metric, f"the density integrates to {value:.4f}, not to 1"
        elif metric in RANGES and not _within(value, RANGES[metric], slack):
            yield metric, f"{shown}, outside {' to '.join(f'{end:g}' for end in RANGES[metric])}"
        elif metric in BOUNDS and (exact := card.get("nll")) and _below(estimate, exact):
            yield metric, f"{shown}: a bound, and below the exact {exact.value:.4f}"
        elif metric in BOUNDS and entropy and _below(estimate, entropy):
            yield metric, f"{shown}: a bound, and below the truth's entropy, {entropy.value:.4f}"
        elif metric in LIKELIHOODS and entropy and _below(_minus(estimate), entropy):
            yield metric, f"{shown}, above the truth's own mean, {-entropy.value:.4f}"


def _within(value: float, ends: tuple[float, float], slack: float) -> bool:
    return ends[0] - 1e-6 <= value <= ends[1] + 1e-6 + slack


def _below(a: Estimate, b: Estimate) -> bool:
    return a.value < b.value - ERRORS * math.hypot(a.stderr, b.stderr)


def _minus(a: Estimate) -> Estimate:
    return Estimate(-a.value, a.stderr, a.provenance)
