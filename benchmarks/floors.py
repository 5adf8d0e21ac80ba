"""Measure the floors that come with the package and write `src/densitometer/scoring/floors.json`.

For every target, at the sizes that studies use: the values that true samples score, metric by
metric. They are kept, so that more of them can be added and other ends be tried. Two and a half
hours on two cores; needed when a metric has changed, or for some targets only:

    make floors
    python benchmarks/floors.py --targets rings
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from densitometer.system.processes import configure_numerics, cores
from densitometer.targets import STUDIED, TARGETS

SIZES = ((2000, 10_000), (500, 1000))
"""Samples and test points, as in `study.plan.PROTOCOLS`."""

REPEATS = (2000, 400)
"""True samples behind a floor of each size: what lies within it is then 95 ± 0.5 % of them all, and
for the smoke budget 95 ± 1.1 %."""

FEWER_REPEATS = (200, 100)
"""Of the targets that the default study leaves out: 95 ± 1.5 %, and 95 ± 2.2 %."""

BLOCK = 100
"""Repeats that are kept together: what is stopped goes on after the last of them."""


def main(given: Sequence[str] | None = None) -> None:
    """Measure what has not been kept, then write the file; rows of other targets stay."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/densitometer/scoring/floors.json"))
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/floors"))
    parser.add_argument("--targets", nargs="+", choices=list(TARGETS), help="(all)")
    parser.add_argument("--workers", type=int, default=len(cores()), help="processes (%(default)s)")
    options = parser.parse_args(given)
    configure_numerics()
    from densitometer import targets
    from densitometer.scoring import floors

    shipped = {"version": floors.VERSION, "metrics": floors.measured(), "floors": {}}
    if options.targets:
        shipped = json.loads(options.out.read_text(encoding="utf-8"))
        unknown = set(floors.measured()) - set(shipped["metrics"])
        if unknown or shipped["version"] != floors.VERSION:
            parser.error(f"{options.out} is of other metrics; measure all targets again.")
    options.keep.mkdir(parents=True, exist_ok=True)
    for name in options.targets or TARGETS:
        target, rows = targets.get(name), []
        for (n, n_test), repeats in zip(
            SIZES, REPEATS if name in STUDIED else FEWER_REPEATS, strict=True
        ):
            path = options.keep / f"{name}-{n}-{n_test}-{floors.VERSION}.json"
            cards = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            for first in range(len(cards), repeats, BLOCK):
                seeds = [floors.FIRST_SEED + r for r in range(first, min(first + BLOCK, repeats))]
                cards += floors.true_scores(target, n, n_test, seeds, workers=options.workers)
                path.write_text(json.dumps(cards), encoding="utf-8")
            measured = floors.from_repeats(cards[:repeats], n, n_test)
            rows.append(json.loads(measured.to_json()))
            print(f"{name}, n = {n}: joint {measured.joint:.2f}", flush=True)
        shipped["floors"][repr(target)] = rows
    options.out.write_text(json.dumps(shipped, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
