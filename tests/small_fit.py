"""The numbers of a small fit, of its model and of what is judged, in whatever state JAX is."""

import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np

import densitometer as dm
from densitometer.randomness import key_for
from densitometer.scoring.baselines import KDE
from densitometer.scoring.scorecard import score_samples

POINTS: Any = np.array([[0.5, 1.0], [-2.0, 0.3]])  # float64


def fit_and_save(path):
    """Those of a fit whose model is saved at `path`, and of an estimate, as text."""
    target = dm.targets.get("gaussian_mixture")
    train, holdout = (target.sample(key_for(0, name), 120) for name in ("train", "holdout"))
    fit = dm.fit(dm.families.get("gan", width=8, depth=1, steps=20), train, holdout)
    dm.save(path, fit.model, fit.family)
    kde = KDE.fit(train)
    card = score_samples(kde.sample(key_for(0, "samples"), 150), target, n_test=150)
    densities = jax.vmap(kde.log_prob)(POINTS)
    slopes = np.asarray(jax.vmap(jax.grad(kde.log_prob))(POINTS)).tolist()
    return "\n".join([fit.curves_csv(), card.to_json(), told(densities), str(slopes)])


def draws(path):
    """Those of draws from a saved model, as text."""
    return told(dm.load(path).sample(key_for(1, "samples"), 3))


def told(array):
    """The type and the numbers of an array."""
    return f"{array.dtype} {np.asarray(array).tolist()}"


if __name__ == "__main__":
    ours, theirs = map(Path, sys.argv[1:])
    print(fit_and_save(ours), draws(theirs), sep="\n")
