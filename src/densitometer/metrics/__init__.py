"""How far from the truth: one file a kind of comparison, one class a metric."""

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING

from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.metrics.base import Metric

__all__ = ["METRICS", "every", "get"]

METRICS = Registry(
    "metric",
    "metrics",
    {
        "kl": "densitometer.metrics.density:KL",
        "kl_trimmed": "densitometer.metrics.density:TrimmedKL",
        "jensen_shannon": "densitometer.metrics.density:JensenShannon",
        "total_variation": "densitometer.metrics.density:TotalVariation",
        "hellinger": "densitometer.metrics.density:Hellinger",
        "bhattacharyya_exact": "densitometer.metrics.density:BhattacharyyaExact",
        "nll": "densitometer.metrics.density:NLL",
        "nll_train": "densitometer.metrics.density:TrainingNLL",
        "reverse_kl": "densitometer.metrics.own_samples:ReverseKL",
        "mass": "densitometer.metrics.density:Mass",
        "fisher_divergence": "densitometer.metrics.scores:FisherDivergence",
        "score_error": "densitometer.metrics.scores:ScoreError",
        "score_consistency": "densitometer.metrics.scores:ScoreConsistency",
        "nll_elbo": "densitometer.metrics.bounds:NegativeELBO",
        "bound_gap": "densitometer.metrics.bounds:BoundGap",
        "nll_importance": "densitometer.metrics.bounds:NegativeImportanceBound",
        "self_bhattacharyya": "densitometer.metrics.overlap:SelfBhattacharyya",
        "acceptance": "densitometer.metrics.diagnostics:Acceptance",
        "nfe": "densitometer.metrics.diagnostics:NFE",
        "bhattacharyya": "densitometer.metrics.overlap:Bhattacharyya",
        "off_support": "densitometer.metrics.support:OffSupport",
        "duplicates": "densitometer.metrics.rows:Duplicates",
        "kde_log_likelihood": "densitometer.metrics.kde:KDELogLikelihood",
        "kde_cv_log_likelihood": "densitometer.metrics.kde:CrossValidatedKDELogLikelihood",
        "shift": "densitometer.metrics.faults:Shift",
        "blur": "densitometer.metrics.faults:Blur",
        "leak": "densitometer.metrics.faults:Leak",
        "temperature": "densitometer.metrics.faults:Temperature",
        "memorised": "densitometer.metrics.memory:Memorised",
        "unexplained": "densitometer.metrics.explanation:Unexplained",
        "log_true_density": "densitometer.metrics.own_samples:LogTrueDensity",
        "mode_weights": "densitometer.metrics.modes:ModeWeights",
        "mmd2": "densitometer.metrics.two_sample:MMD2",
        "energy_distance": "densitometer.metrics.two_sample:EnergyDistance",
        "sliced_w2": "densitometer.metrics.transport:SlicedW2",
        "w2": "densitometer.metrics.transport:W2",
        "c2st": "densitometer.metrics.two_sample:C2ST",
        "precision": "densitometer.metrics.two_sample:Precision",
        "recall": "densitometer.metrics.two_sample:Recall",
        "order": "densitometer.metrics.rows:Order",
        "rounding": "densitometer.metrics.rows:Rounding",
    },
)
"""The metrics by name, in the order of tables: a new one is one line here."""


@functools.cache
def get(name: str) -> "Metric":
    """A metric by its name.

    Raises:
        UsageError: there is no such metric.
    """
    return METRICS[name]()


def every() -> "Iterator[Metric]":
    """All metrics, in the order of the registry."""
    return (get(name) for name in METRICS)
