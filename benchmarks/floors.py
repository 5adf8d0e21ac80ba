"""Measure the floors that come with the package and write `src/densitometer/scoring/floors.json`.

For every target, at the sizes that studies use: the values that true samples score, metric by
metric. They are kept, so that more of them can be added and other ends be tried. Two hours on two
cores; needed when a metric or a target has changed:

    make floors
"""

import argparse
import json
from pathlib import Path

from densitometer.system.processes import configure_numerics, cores

SIZES = ((2000, 10_000, 2000), (500, 1000, 400))
"""Samples and test points, as in `study.plan.PROTOCOLS`, and true samples behind a floor: what lies
within it is then 95 ± 0.5 % of them all, and for the smoke budget 95 ± 1.1 %."""


def main() -> None:
    """Measure what has not been kept, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/densitometer/scoring/floors.json"))
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/floors"))
    options = parser.parse_args()
    configure_numerics()
    from densitometer import targets
    from densitometer.scoring import floors

    options.keep.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict]] = {}
    for n, n_test, repeats in SIZES:
        for name in targets.TARGETS:
            target = targets.get(name)
            path = options.keep / f"{name}-{n}-{n_test}-{floors.VERSION}.json"
            cards = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
            seeds = range(floors.FIRST_SEED + len(cards), floors.FIRST_SEED + repeats)
            cards += floors.true_scores(target, n, n_test, seeds, workers=len(cores()))
            path.write_text(json.dumps(cards), encoding="utf-8")
            measured = floors.from_repeats(cards[:repeats], n, n_test)
            found.setdefault(repr(target), []).append(json.loads(measured.to_json()))
            print(f"{name}, n = {n}: joint {measured.joint:.2f}", flush=True)
    shipped = {"version": floors.VERSION, "metrics": floors.measured(), "floors": found}
    options.out.write_text(json.dumps(shipped, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
