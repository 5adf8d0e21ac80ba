"""Measure the metrics themselves, and write `docs/metrics.png` and the tables of `docs/metrics.md`.

Three things: whether fresh true samples lie within their floors as often as they should; what a
perfect, an incomplete, a blurred and a leaking sampler score, against the number of samples; and
from which number on each metric finds each planted fault. Forty minutes on two cores:

    make metrics
"""

import argparse
import json
import math
import multiprocessing
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from densitometer.system.processes import configure_numerics, cores
from pages import fill

FIRST_SEED = 1_500_000_000
"""Neither a study's nor a floor's."""

REPEATS = 600
"""True samples a target for the calibration: 95 ± 0.9 % of them should be within."""

N = 2000
"""Samples of the calibration."""

TARGET = "gaussian_mixture"
"""Whose faults are planted at every size."""

SIZES = (125, 250, 500, 1000, 2000)

TRUTHS = 40
"""True samples a size: a value beyond all of them is found."""

PLANTED = 10
"""Faulty samples a size and fault; found in nine of them is found."""

SHOWN = {
    "kde_log_likelihood": "KDE log-likelihood,\ndefault bandwidth, nats",
    "kde_cv_log_likelihood": "KDE log-likelihood,\ncross-validated, nats",
    "log_true_density": "mean log p of the samples\nabove the truth's, nats",
    "bhattacharyya": "smoothed Bhattacharyya\ncoefficient",
    "mmd2": "MMD²",
    "w2": "2-Wasserstein distance",
    "off_support": "share off the support",
    "mode_weights": "mode weights,\ntotal variation",
}

LINES = {
    "truth": ("a perfect sampler", "#444444", "-"),
    "dropped": ("one mode of seven dropped", "#cc3311", "--"),
    "blur": ("blurred by 0.1 sd", "#0077bb", "-."),
    "leak": ("3 % leaked", "#ee7733", ":"),
}


def scores(job: tuple[str, str, int, int]) -> dict[str, float]:
    """The value of each metric for one sample: (target, fault, n, seed)."""
    from densitometer import targets
    from densitometer.scoring.evidence import Evidence, judge
    from planted import planted

    name, fault, n, seed = job
    target = targets.get(name)
    found = judge(Evidence(target, seed, planted(target, fault, n, seed)))
    return {metric: estimate.value for metric, estimate in found.items()}


Cards = list[dict[str, float]]
"""The value of each metric for one sample after another."""


def true_samples(pool: ProcessPoolExecutor) -> list[tuple[str, Cards]]:
    """The scores of fresh true samples of every target of the study."""
    from densitometer import targets

    seeds = range(FIRST_SEED, FIRST_SEED + REPEATS)
    return [
        (name, list(pool.map(scores, [(name, "truth", N, s) for s in seeds], chunksize=5)))
        for name in targets.STUDIED
    ]


def calibration(found: list[tuple[str, Cards]]) -> list[str]:
    """Shares of true samples within the floor, a line a metric, and those found true by all."""
    from densitometer import targets
    from densitometer.estimates import EXACT, Estimate
    from densitometer.scoring import floors
    from densitometer.scoring.verdict import verdict

    shares: dict[str, dict[str, str]] = defaultdict(dict)
    passed: dict[str, str] = {}
    for name, cards in found:
        known = floors.of(targets.get(name), N)
        for metric, floor in known.metrics.items():
            within = np.mean([floor.holds(card[metric]) for card in cards])
            same = floor.low == floor.high and within == 1
            shares[metric][name] = f"always {floor.low:g}" if same else f"{100 * within:.1f}"
        whole = [{m: Estimate(v, 1.0, EXACT) for m, v in card.items()} for card in cards]
        true = np.mean([verdict(known, card).passes for card in whole])
        passed[name] = f"{100 * true:.1f}"
    shares["**verdict of all**"] = passed
    lines = [f"| | {' | '.join(targets.STUDIED)} |", "|---|" + "---|" * len(targets.STUDIED)]
    for metric, by_target in shares.items():
        cells = [by_target.get(t, "–") for t in targets.STUDIED]
        lines.append(f"| {metric if '*' in metric else f'`{metric}`'} | {' | '.join(cells)} |")
    return lines


def ladder(pool: ProcessPoolExecutor) -> list[tuple[str, int, Cards]]:
    """The scores of true and of faulty samples of every size."""
    from planted import FAULTS

    found = []
    for n in SIZES:
        for fault in ("truth", *FAULTS):
            repeats = TRUTHS if fault == "truth" else PLANTED
            jobs = [(TARGET, fault, n, FIRST_SEED + 10_000 + r) for r in range(repeats)]
            found.append((fault, n, list(pool.map(scores, jobs, chunksize=2))))
    return found


def detection(found: dict[tuple[str, int], Cards]) -> list[str]:
    """From which size on each metric finds each fault, a line a metric."""
    from planted import FAULTS

    lines = [f"| | {' | '.join(FAULTS.values())} |", "|---|" + "---|" * len(FAULTS)]
    for metric in found["truth", SIZES[0]][0]:
        cells = []
        for fault in FAULTS:
            sees = []
            for n in SIZES:
                true = [card[metric] for card in found["truth", n]]
                bad = [card[metric] for card in found[fault, n]]
                beyond = [not min(true) <= value <= max(true) for value in bad]
                sees.append(np.mean(beyond) >= 0.9)
            blind = [i for i, seen in enumerate(sees) if not seen]
            first = blind[-1] + 1 if blind else 0
            cells.append("–" if first == len(SIZES) else f"{SIZES[first]}")
        lines.append(f"| `{metric}` | {' | '.join(cells)} |")
    return lines


def draw(found: dict[tuple[str, int], Cards], path: Path) -> None:
    """The figure: a panel a metric, the band of true samples, a line a sampler."""
    import matplotlib.pyplot as plt
    from matplotlib.artist import Artist
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    from densitometer.report import style

    with plt.rc_context({**style.RC, "font.size": 8}):
        figure, axes = plt.subplots(2, 4, figsize=(9.5, 4.6), sharex=True)
        for ax, (metric, title) in zip(axes.flat, SHOWN.items(), strict=True):
            values = {f: [[c[metric] for c in found[f, n]] for n in SIZES] for f in LINES}
            low, high = np.quantile(values["truth"], [0.025, 0.975], axis=1)
            ax.fill_between(SIZES, low, high, color="#dddddd", lw=0)
            for fault, (_, colour, dashes) in LINES.items():
                medians = [np.median(v) for v in values[fault]]
                ax.plot(SIZES, medians, color=colour, ls=dashes, lw=1.4)
            if metric == "kde_log_likelihood":
                from densitometer import targets

                entropy = targets.get(TARGET).entropy.value
                ax.axhline(-entropy, color="#444444", lw=0.6)
                ax.set_ylim(top=-entropy + 0.3)
                ax.annotate(
                    "−H(p), the best there is",
                    (SIZES[0], -entropy),
                    (0, 3),
                    textcoords="offset points",
                    fontsize=7,
                )
            if metric == "kde_cv_log_likelihood":
                spread = np.quantile(np.concatenate(values["truth"] + values["blur"]), [0.0, 1.0])
                ax.set_ylim(spread[0] - 0.3, spread[1] + 0.1)
            ax.set_title(title, fontsize=8, loc="left")
            ax.set_xscale("log")
            ax.set_xticks(SIZES, [f"{n}" for n in SIZES], fontsize=7)
            ax.minorticks_off()
        for ax in axes[1]:
            ax.set_xlabel("samples")
        handles: list[Artist] = [
            Line2D([], [], color=c, ls=d, lw=1.4, label=w) for w, c, d in LINES.values()
        ]
        handles.append(Rectangle((0, 0), 1, 1, color="#dddddd", label="95 % of true samples"))
        figure.legend(handles=handles, ncols=5, frameon=False, loc="upper center", fontsize=8)
        figure.tight_layout(rect=(0, 0, 1, 0.94))
        figure.savefig(path, dpi=110)


PARTS = {"true": true_samples, "ladder": ladder}


def main() -> None:
    """Measure, keep what was found, then write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/metrics.md"))
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/metrics"))
    parser.add_argument("--only", choices=[*PARTS, "none"], help="measure this, write from what is")
    options = parser.parse_args()
    configure_numerics()
    options.keep.mkdir(parents=True, exist_ok=True)
    kept = {name: options.keep / f"{name}.json" for name in PARTS}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(len(cores()), spawn) as pool:
        for name, measure in PARTS.items():
            if options.only in (None, name):
                kept[name].write_text(json.dumps(measure(pool)), encoding="utf-8")
    true, rungs = (json.loads(path.read_text(encoding="utf-8")) for path in kept.values())
    found = {(fault, n): cards for fault, n, cards in rungs}
    for cards in found.values():
        for card in cards:
            assert all(math.isfinite(v) for v in card.values())
    draw(found, options.page.with_suffix(".png"))
    fill(options.page, "calibration", calibration(true))
    fill(options.page, "detection", detection(found))


if __name__ == "__main__":
    main()
