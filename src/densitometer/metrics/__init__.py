"""How far from true: one file a kind of comparison, each function on plain arrays."""

from densitometer.registry import Registry

__all__ = ["METRICS"]

METRICS = Registry(
    "metric",
    "metrics",
    {
        "kl": "densitometer.metrics.density:kl",
        "nll": "densitometer.metrics.density:nll",
        "reverse_kl": "densitometer.metrics.density:reverse_kl",
        "jensen_shannon": "densitometer.metrics.density:jensen_shannon",
        "total_variation": "densitometer.metrics.density:total_variation",
        "hellinger": "densitometer.metrics.density:hellinger",
        "bhattacharyya_exact": "densitometer.metrics.density:bhattacharyya_exact",
        "nll_elbo": "densitometer.metrics.density:nll_elbo",
        "nll_importance": "densitometer.metrics.density:nll_importance",
        "bound_gap": "densitometer.metrics.density:bound_gap",
        "fisher_divergence": "densitometer.metrics.density:fisher_divergence",
        "mass": "densitometer.metrics.density:mass",
        "self_bhattacharyya": "densitometer.metrics.overlap:self_bhattacharyya",
        "bhattacharyya": "densitometer.metrics.overlap:bhattacharyya",
        "kde_log_likelihood": "densitometer.metrics.kde:kde_log_likelihood",
        "kde_cv_log_likelihood": "densitometer.metrics.kde:kde_cv_log_likelihood",
        "mmd2": "densitometer.metrics.two_sample:mmd2",
        "energy_distance": "densitometer.metrics.two_sample:energy_distance",
        "sliced_w2": "densitometer.metrics.two_sample:sliced_w2",
        "w2": "densitometer.metrics.two_sample:w2",
        "c2st": "densitometer.metrics.two_sample:c2st",
        "precision": "densitometer.metrics.two_sample:precision",
        "recall": "densitometer.metrics.two_sample:recall",
        "off_support": "densitometer.metrics.support:off_support",
        "duplicates": "densitometer.metrics.support:duplicates",
        "log_true_density": "densitometer.metrics.density:log_true_density",
        "shift": "densitometer.metrics.faults:shift",
        "blur": "densitometer.metrics.faults:blur",
        "temperature": "densitometer.metrics.faults:temperature",
        "leak": "densitometer.metrics.faults:leak",
        "mode_weights": "densitometer.metrics.modes:mode_weights",
        "acceptance": "densitometer.metrics.diagnostics:acceptance",
        "nfe": "densitometer.metrics.diagnostics:nfe",
    },
)
"""The metrics by name: a new one is one line here."""
