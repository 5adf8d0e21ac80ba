"""Write `docs/results.md`: means over seeds against goals, sampler against density, divergences.

Every family is trained on every target of the study with five seeds, on one of them each with
fifteen more, and on the other targets with three. A seed changes data, initialisation and sampling.
An hour and a quarter on two cores; stopped and started again, it goes on where it was:

    make benchmark
"""

import argparse
import platform
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from densitometer.families import FAMILIES
from densitometer.findings.results import Results
from densitometer.study.plan import PROTOCOLS, REFERENCES, Plan
from densitometer.study.runner import run
from densitometer.study.store import opened
from densitometer.system.processes import configure_numerics, cores
from densitometer.targets import STUDIED, TARGETS

SEEDS = range(5)
"""Every family on every target of the study."""

MORE_SEEDS = range(5, 20)
"""Every family on one target a seed, in turn: for divergences."""

TRANSFER = tuple(name for name in TARGETS if name not in STUDIED)
"""Targets on which no hyper-parameter was chosen."""

TRANSFER_SEEDS = range(3)
"""Every family on every one of these."""

GOALS = {
    "kl": {
        "ebm": (0.050, 0.125, 0.145, 0.015),
        "sm": (0.40, 0.19, 0.16, None),
        "dsm": (0.080, 0.110, 0.140, 0.025),
        "vae": (0.11, 0.15, 0.17, 0.04),
        "ddpm": (0.080, 0.110, 0.140, 0.025),
        "cnf": (0.085, 0.120, 0.150, 0.025),
    },
    "bhattacharyya": {"gan": (0.986, 0.986, 0.988, 0.994)},
    "off_support": {"gan": (0.02, 0.02, 0.04, 0.01)},
}
"""What each family should reach, by target in the order of `STUDIED`."""


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/benchmark"))
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--wide-only", action="store_true", help="leave out the fifteen more seeds")
    options = parser.parse_args()
    configure_numerics()
    plans = {options.out / "wide": Plan.make(seeds=SEEDS)}
    for place, target in enumerate(() if options.wide_only else STUDIED):
        seeds = [s for s in MORE_SEEDS if s % len(STUDIED) == place]
        plan = Plan.make(targets=[target], seeds=seeds)
        # Trained in full, but judged on few points.
        plans[options.out / "deep" / target] = replace(plan, protocol=PROTOCOLS["smoke"])
    plans[options.out / "transfer"] = Plan.make(targets=TRANSFER, seeds=TRANSFER_SEEDS)
    for folder, plan in plans.items():
        with opened(folder, plan) as store:
            if failures := run(store, Console(), workers=len(cores())):
                raise SystemExit(f"{len(failures)} cells failed, see {folder}; run it again.")
    wide, *deep, other = [Results.read(folder) for folder in plans]
    options.page.write_text(page(wide, deep, other), encoding="utf-8")


def page(wide: Results, deep: list[Results], other: Results) -> str:
    """The page: tables of the wide study, KL on the other targets, and the divergences of all."""
    plan = wide.plan
    versions = ", ".join(f"{name} {version}" for name, version in plan.versions.items())
    test, train, holdout = plan.protocol.n_test, plan.protocol.n_train, plan.protocol.n_holdout
    more = f", on one of them each with seeds {MORE_SEEDS[0]}–{MORE_SEEDS[-1]}" if deep else ""
    per_cent = lambda v: f"{100 * v:.1f} %"
    parts = [
        "# Results",
        "Every family on every target of the study, written by `make benchmark`. Numbers are the "
        f"mean over {len(plan.seeds)} seeds, from the smallest to the largest in brackets; a seed "
        f"changes the data ({train} training points, {holdout} hold-out, {test} test), the "
        "initialisation and the sampling. The families' hyper-parameters were chosen on these four "
        "targets, with other seeds; how they do elsewhere stands [below](#transfer).",
        f"{cpu()}, {len(cores())} cores, {versions}.",
        "## KL(p‖q), nats",
        "0 is perfect. A ✓ marks a mean that reaches its goal, which stands behind it if it does "
        "not. The lines to cross are the baselines: kernel density estimates, cross-validated "
        "(`kde`) and adaptive, and Gaussian mixtures, the best by hold-out (`gmm`) and the mean of "
        "the ten best.",
        table(wide, "kl", three, best=min),
        "Below is the same where the target is smooth: the Fisher divergence, "
        "E‖∇ log p − ∇ log q‖², of the density, which does not see how mass is shared among modes.",
        table(wide, "fisher_divergence", lambda v: f"{v:.3g}", best=min),
        "The same of the score that a network gives, E‖∇ log p − s‖².",
        table(wide, "score_error", lambda v: f"{v:.3g}", best=min),
        *transfer(other),
        "## Samples",
        "Smoothed Bhattacharyya coefficient of 2000 samples; `truth` is a fresh true sample.",
        table(wide, "bhattacharyya", lambda v: f"{v:.4f}", best=max),
        "Share of samples off the truth's support.",
        table(wide, "off_support", per_cent, best=min),
        "Total variation of the modes' weights from the true ones: of `truth`, the sampling error "
        "of 2000 points. A model has that of its 2000 training points besides, so √2 times the "
        "truth's is what an ideal learner has.",
        table(wide, "mode_weights", three, best=min),
        "Samples against the model's own density, the difference of two Bhattacharyya coefficients "
        "in units of its standard error: mean, and extremes. Within ±3 nothing is wrong.",
        agreement(wide),
        "## Stability",
        f"Trainings that diverged: on the targets of the study with seeds {SEEDS[0]}–{SEEDS[-1]}"
        f"{more}; on the three others with seeds {TRANSFER_SEEDS[0]}–{TRANSFER_SEEDS[-1]}.",
        stability(wide, [wide, *deep, other]),
    ]
    return "\n\n".join(parts) + "\n"


def transfer(other: Results) -> list[str]:
    """The section on targets that no hyper-parameter was chosen on."""
    return [
        "## Transfer",
        "KL(p‖q) in nats on three targets of the literature on which nobody tuned a family or a "
        "baseline: all have the defaults, and the protocol is the same. Numbers are the mean over "
        f"{len(other.seeds)} seeds, from the smallest to the largest in brackets.",
        table(other, "kl", three, best=min),
        "Families with a larger mean than a baseline's, by whatever margin; a small one may be "
        "chance.",
        behind(other, ("kde", "gmm_mean")),
    ]


def behind(other: Results, baselines: Sequence[str]) -> str:
    """Which families are further from each target than a baseline is, by their mean KL."""
    rows = [["further than", *other.targets]]
    for baseline in baselines:
        entries = []
        for target in other.targets:
            limit = statistics.fmean(values(other, target, baseline, "kl"))
            found = {name: values(other, target, name, "kl") for name in other.families}
            names = [f"`{n}`" for n, v in found.items() if v and statistics.fmean(v) > limit]
            entries.append(", ".join(names) or "none")
        rows.append([f"`{baseline}`", *entries])
    return markdown(rows)


def three(value: float) -> str:
    """With three decimals."""
    return f"{value:.3f}"


def table(
    wide: Results, metric: str, show: Callable[[float], str], best: Callable[..., float]
) -> str:
    """A metric's means by family and target, with goals."""
    rows = [["", *wide.targets]]
    for name in (*REFERENCES, *wide.families):
        goals = dict(zip(STUDIED, GOALS.get(metric, {}).get(name, ()), strict=False))
        entries = [
            entry(found, goals.get(target), show, best) + lacking(len(found), len(wide.seeds))
            for target in wide.targets
            for found in [values(wide, target, name, metric)]
        ]
        if any(e != "–" for e in entries):
            rows.append([f"`{name}`", *entries])
    kept = [0, *(c for c in range(1, len(rows[0])) if any(r[c] != "–" for r in rows[1:]))]
    return markdown([[row[c] for c in kept] for row in rows])


def values(wide: Results, target: str, name: str, metric: str) -> list[float]:
    """A metric over seeds."""
    return [c.scorecard[metric][0] for c in wide.cells(target, name) if metric in c.scorecard]


def entry(
    found: list[float], goal: float | None, show: Callable[[float], str], best: Callable[..., float]
) -> str:
    """``0.051 [0.047, 0.058] ✓``, or with the goal that was missed."""
    if not found:
        return "–"
    mean = statistics.fmean(found)
    text = f"{show(mean)} [{show(min(found))}, {show(max(found))}]"
    if goal is None:
        return text
    return f"{text} ✓" if best(mean, goal) == mean else f"{text} (goal {show(goal)})"


def lacking(found: int, seeds: int) -> str:
    """A remark where only some of the seeds have a number: the others diverged."""
    return f" of {found} seeds only" if 0 < found < seeds else ""


def agreement(wide: Results) -> str:
    """self_bhattacharyya over its error."""
    rows = [["", *wide.targets]]
    for name in wide.families:
        entries = []
        for target in wide.targets:
            cards = [c.scorecard.get("self_bhattacharyya") for c in wide.cells(target, name)]
            ratios = [card[0] / card[1] for card in cards if card]
            entries.append(entry(ratios, None, lambda v: f"{v:+.1f}", min))
        if any(e != "–" for e in entries):
            rows.append([f"`{name}`", *entries])
    return markdown(rows)


def stability(wide: Results, studies: list[Results]) -> str:
    """Trainings, divergences, sizes."""
    trained, diverged = defaultdict(int), defaultdict(int)
    for study in studies:
        for cell in study.cells():
            trained[cell.cell.family] += 1
            diverged[cell.cell.family] += cell.diverged_at is not None
    rows = [["", "trained", "diverged", "parameters"]]
    for name in FAMILIES:
        size = wide.cells(None, name)[0].fit["parameters"]
        rows.append([f"`{name}`", str(trained[name]), str(diverged[name]), f"{size:,}"])
    return markdown(rows)


def markdown(rows: list[list[str]]) -> str:
    """Rows as a table; the first is the head."""
    line = lambda cells: "| " + " | ".join(cells) + " |"
    return "\n".join([line(rows[0]), line(["---"] * len(rows[0])), *map(line, rows[1:])])


def cpu() -> str:
    """The processor's name, as well as the system knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
