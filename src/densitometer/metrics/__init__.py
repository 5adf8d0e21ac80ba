"""How far from true: one file a kind of comparison, each function on plain arrays."""

from densitometer.registry import Registry

METRICS = Registry(
    "metric",
    "metrics",
    {
        "kl": "densitometer.metrics.density:kl",
        "nll": "densitometer.metrics.density:nll",
        "nll_elbo": "densitometer.metrics.density:nll_elbo",
        "nll_importance": "densitometer.metrics.density:nll_importance",
        "fisher_divergence": "densitometer.metrics.density:fisher_divergence",
        "mass": "densitometer.metrics.density:mass",
        "self_bhattacharyya": "densitometer.metrics.overlap:self_bhattacharyya",
        "bhattacharyya": "densitometer.metrics.overlap:bhattacharyya",
        "kde_log_likelihood": "densitometer.metrics.kde:kde_log_likelihood",
        "kde_cv_log_likelihood": "densitometer.metrics.kde:kde_cv_log_likelihood",
        "off_support": "densitometer.metrics.support:off_support",
        "mode_weights": "densitometer.metrics.modes:mode_weights",
        "acceptance": "densitometer.metrics.diagnostics:acceptance",
        "nfe": "densitometer.metrics.diagnostics:nfe",
    },
)
