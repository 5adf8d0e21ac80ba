"""Simulate comparisons of models, and write the table of `docs/metrics.md`: false alarms and power.

Eight models meet on one target. Equal ones should all stay among the best in 95 % of targets; of
one that is worse by 0.01 nats the table says how often it is found. Their terms at the test points
are skewed, have tails of Student's t and correlate by 0.8, as those of trained models do; over
seeds the KL of a fit scatters by 0.004 nats, and half as much again is common to all fits of a
seed. Three minutes on one core:

    python benchmarks/comparisons.py
"""

import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from densitometer.estimates import EXACT
from densitometer.findings.comparisons import Comparison, by_errors, by_points
from densitometer.findings.results import Measure
from pages import fill

MODELS = 8
N_TEST = 10_000
SCATTER = 0.004
"""Standard deviation of a model's KL over seeds, nats."""

COMMON = 0.006
"""That of what all fits of a seed share."""

SPREAD = 0.3
"""Standard deviation of log p − log q over test points, nats."""

WORSE = 0.01
"""By how many nats a worse model is worse."""

SEEDS = (1, 3, 5, 20)
TARGETS = 2_000

Errors = Float[np.ndarray, " k"]


def one_seed(rng: np.random.Generator, truth: Errors) -> Comparison:
    """Models of these divergences, judged at the same fresh points."""
    shared = rng.exponential(size=N_TEST) - 1
    own = rng.standard_t(5, size=(MODELS, N_TEST)) / math.sqrt(5 / 3)
    terms = SPREAD * (math.sqrt(0.8) * shared + math.sqrt(0.2) * own) + truth[:, None]
    return by_points({str(i): t for i, t in enumerate(terms)}, seed=0)


def several_seeds(rng: np.random.Generator, truth: Errors, seeds: int) -> Comparison:
    """Models of these divergences in the mean over seeds."""
    fits = truth + SCATTER * rng.normal(size=(seeds, MODELS)) + COMMON * rng.normal(size=(seeds, 1))
    error = SCATTER / math.sqrt(seeds)
    measures = {
        str(i): Measure(float(np.mean(v)), SCATTER, error, seeds, EXACT, dict(enumerate(v)))
        for i, v in enumerate(fits.T)
    }
    return by_errors(measures)


def behind(comparison: Comparison) -> set[str]:
    """The models that are called worse than the one with the lowest value."""
    values = {m: np.mean([*v.values()]) for m, v in comparison.by_seed.items()}
    best = min(values, key=lambda m: values[m])
    return {m for m in values if comparison.sign(m, best) > 0}


def shares(draw: Callable[[np.random.Generator, Errors], Comparison], targets: int) -> list[float]:
    """Of equal models: how often one is called worse; of one that is: how often it is found."""
    rng = np.random.default_rng(0)
    equal, last = np.full(MODELS, 0.1), str(MODELS - 1)
    worse = equal + WORSE * (np.arange(MODELS) == MODELS - 1)
    alarms = [bool(behind(draw(rng, equal))) for _ in range(targets)]
    found = [last in behind(draw(rng, worse)) for _ in range(targets)]
    return [float(np.mean(alarms)), float(np.mean(found))]


def main() -> None:
    """Simulate, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/metrics.md"))
    parser.add_argument("--targets", type=int, default=TARGETS, help="a line (%(default)s)")
    options = parser.parse_args()
    lines = [
        "| seeds | the difference is of | some equal model called worse | a worse one found |",
        "|---|---|---|---|",
    ]
    for seeds in SEEDS:
        draw = one_seed if seeds == 1 else functools.partial(several_seeds, seeds=seeds)
        alarm, power = shares(draw, options.targets)
        what = "these fits" if seeds == 1 else "fits of any seed"
        lines.append(f"| {seeds} | {what} | {100 * alarm:.1f} % | {100 * power:.0f} % |")
        print(lines[-1], flush=True)
    fill(options.page, "comparisons", lines)


if __name__ == "__main__":
    main()
