"""Time to quality: how soon a family's hold-out likelihood equals that of a spline flow.

The flow is zuko's autoregressive neural spline flow (Durkan et al., 2019) at its default size,
trained as its tutorial does, stopped when the hold-out likelihood no longer rises; its time is that
until its best state; beside it stands when it was stopped. A family has its usual schedule,
squeezed into fewer and fewer steps; its time is that of the fewest with which its model, exact
density and all, is as likely. Compilation is told apart: it is paid once for all targets and seeds.
"""

import math
import os
import time

import numpy as np

from densitometer.system.processes import cores
from speed_parts import Found

SHARES = tuple(1.4**-k for k in range(12, -1, -1))
"""Of a family's usual steps."""

FAMILIES = ("ebm", "cnf", "dsm", "vae")
"""With an exact density, and quick."""

SEED = 0

PATIENCE, BATCH, LEARNING_RATE = 20, 256, 1e-3
"""Passes over the data without a better hold-out likelihood; and the flow's Adam."""


def measure() -> Found:
    """A line a target: the flow's time, and each family's."""
    available = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cores()[0]})
    table = [
        "| hold-out likelihood, s | spline flow | until stopped | "
        + " | ".join(f"`{f}`" for f in FAMILIES)
        + " |",
        "|---|---|---|" + "---|" * len(FAMILIES),
    ]
    facts: dict[str, float] = {}
    try:
        import torch  # noqa: F401 # pyright: ignore[reportMissingImports]
        import zuko  # noqa: F401 # pyright: ignore[reportMissingImports]
    except ImportError:
        return ["Not measured: PyTorch and zuko are not installed."], facts
    from densitometer import targets

    worst = 0.0
    for name in targets.STUDIED:
        train, holdout = drawn(name)
        wanted, theirs, stopped = spline_flow(train, holdout)
        ours = [time_until(family, train, holdout, wanted) for family in FAMILIES]
        cells = [
            "–" if seconds is None else f"{seconds:.2f} (compiling {compiling:.1f})"
            for seconds, compiling in ours
        ]
        table.append(
            f"| {name}: {wanted:.3f} | {theirs:.1f} | {stopped:.1f} | {' | '.join(cells)} |"
        )
        print(table[-1], flush=True)
        best = min(math.inf if seconds is None else seconds for seconds, _ in ours)
        worst = max(worst, best / theirs)
    os.sched_setaffinity(0, available)
    return table, {"spline": worst}


def drawn(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The training and hold-out points of the protocol."""
    from densitometer import targets
    from densitometer.randomness import key_for
    from densitometer.study.plan import PROTOCOLS

    target, protocol = targets.get(name), PROTOCOLS["standard"]
    sizes = {"train": protocol.n_train, "holdout": protocol.n_holdout}
    train, holdout = (np.asarray(target.sample(key_for(SEED, w), n)) for w, n in sizes.items())
    return train, holdout


def spline_flow(train: np.ndarray, holdout: np.ndarray) -> tuple[float, float, float]:
    """The best mean hold-out log-likelihood, nats; seconds until it was reached, and in all."""
    import torch  # pyright: ignore[reportMissingImports]
    import zuko  # pyright: ignore[reportMissingImports]

    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    shift, scale = train.mean(axis=0), train.std(axis=0)
    points, kept = (torch.tensor((p - shift) / scale) for p in (train, holdout))
    log_scale = float(np.log(scale).sum())
    flow = zuko.flows.NSF(points.shape[1])
    optimiser = torch.optim.Adam(flow.parameters(), lr=LEARNING_RATE)
    best, reached, since, spent = -math.inf, 0.0, 0, 0.0
    while since < PATIENCE:
        began = time.perf_counter()
        for batch in torch.randperm(len(points)).split(BATCH):
            optimiser.zero_grad()
            (-flow().log_prob(points[batch]).mean()).backward()
            optimiser.step()
        spent += time.perf_counter() - began
        with torch.no_grad():
            now = float(flow().log_prob(kept).mean()) - log_scale
        since += 1
        if now > best:
            best, reached, since = now, spent, 0
    return best, reached, spent


def time_until(
    name: str, train: np.ndarray, holdout: np.ndarray, wanted: float
) -> tuple[float | None, float]:
    """Seconds of training until a family is as likely, None if never; seconds of compiling."""
    import jax.numpy as jnp

    import densitometer as dm
    from densitometer.models import HasDensity
    from densitometer.system.compiling import seconds_compiling

    usual = dm.families.get(name).steps
    compiling = 0.0
    for share in SHARES:
        family = dm.families.get(name, steps=round(share * usual))
        began = time.perf_counter()
        dm.fit(family, train, holdout, seed=SEED)
        compiling = seconds_compiling(began)
        fit = dm.fit(family, train, holdout, seed=SEED)
        assert isinstance(fit.model, HasDensity)
        if float(jnp.mean(fit.model.log_prob(jnp.asarray(holdout)))) >= wanted:
            return fit.seconds["train"], compiling
    return None, compiling
