"""Compare the three objectives of `cnf`: hold-out negative log-likelihood against CPU seconds.

The same network learns the same points by flow matching, by maximum likelihood, and by likelihood
after matching. Only training is on the clock, neither compilation nor the hold-out. Prints a table
and draws docs/families/cnf_objectives.png. Two minutes on one core:

    python benchmarks/cnf_objectives.py
"""

import os

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import time
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib

import densitometer as dm
from densitometer.families.cnf import CNF
from densitometer.models import Standardiser
from densitometer.report import style

matplotlib.use("Agg")
from matplotlib import pyplot

TARGET = "spiral"
SEED = 100
"""Not among the reported seeds."""

POINTS = 20
"""Of each curve."""

FAMILIES = {
    "matching": CNF(objective="matching"),
    "likelihood": CNF(objective="likelihood", steps=600, likelihood_rate=2e-3),
    "both": CNF(objective="both", steps=2_000, likelihood_share=0.05, likelihood_rate=5e-4),
}
COLOUR = style.colour("cnf")
LINES = {"matching": "-", "likelihood": ":", "both": "--"}
"""One family, one colour."""
PICTURE = Path(__file__).parents[1] / "docs/families/cnf_objectives.png"


class Curve(NamedTuple):
    """What one objective reached, and when."""

    steps: list[int]
    seconds: list[float]
    loss: list[float]


def learn(family: CNF, train: jax.Array, holdout: jax.Array) -> Curve:
    """Train, and look at the hold-out `POINTS` times, off the clock."""
    chunk = family.steps // POINTS

    def step(state, key):
        rows = jax.random.randint(key, (family.points_per_step,), 0, len(train))
        return family.step(key, state, train[rows])[0], None

    def advance(state, key):
        return jax.lax.scan(step, state, jax.random.split(key, chunk))[0]

    key = jax.random.key(SEED)
    state = family.init(key, train)
    compiled = jax.jit(advance).lower(state, key).compile()
    loss = jax.jit(lambda state: family.loss(key, state, holdout))
    curve, seconds = Curve([], [], []), 0.0
    for i in range(POINTS):
        start = time.process_time()
        state = jax.block_until_ready(compiled(state, jax.random.fold_in(key, i)))
        seconds += time.process_time() - start
        curve.steps.append((i + 1) * chunk)
        curve.seconds.append(seconds)
        curve.loss.append(float(loss(state)))
    return curve


def draw(curves: dict[str, Curve], truth: float, path: Path) -> None:
    """Hold-out loss above the truth's against seconds, both on logarithmic axes."""
    with pyplot.rc_context(style.RC):
        figure, axes = pyplot.subplots(figsize=(0.6 * style.TEXT_WIDTH / 25.4, 2.4))
        for name, curve in curves.items():
            gap = [loss - truth for loss in curve.loss]
            axes.plot(curve.seconds, gap, LINES[name], color=COLOUR, linewidth=1.2, label=name)
            axes.plot(curve.seconds[-1], gap[-1], "o", color=COLOUR, markersize=3)
        axes.set(xscale="log", yscale="log", xlabel="CPU seconds of training")
        axes.set_ylabel("hold-out NLL above the truth's, nats")
        axes.legend()
        figure.savefig(path, dpi=200, bbox_inches="tight")
        pyplot.close(figure)


def main() -> None:
    target = dm.targets.get(TARGET)
    keys = jax.random.split(jax.random.key(SEED))
    train, holdout = target.sample(keys[0], 2000), target.sample(keys[1], 2000)
    standardiser = Standardiser.from_data(jnp.asarray(train))
    truth = -float(jnp.mean(target.log_prob(holdout)) - standardiser.log_det())
    sets = [standardiser.forward(jnp.asarray(points)) for points in (train, holdout)]
    curves = {name: learn(family, *sets) for name, family in FAMILIES.items()}
    print(f"{TARGET}, hold-out of 2000 points: NLL above the truth's, nats")
    print(f"{'objective':<12}{'steps':>8}{'CPU s':>8}{'best':>8}{'last':>8}")
    for name, curve in curves.items():
        best, last = min(curve.loss) - truth, curve.loss[-1] - truth
        print(f"{name:<12}{curve.steps[-1]:>8}{curve.seconds[-1]:>8.1f}{best:>8.3f}{last:>8.3f}")
    draw(curves, truth, PICTURE)


if __name__ == "__main__":
    main()
