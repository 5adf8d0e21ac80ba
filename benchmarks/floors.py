"""Measure the floors that come with the package and write `src/densitometer/floors.json`.

For every target, at the sizes that studies use: the values that true samples score, metric by
metric. Forty minutes on two cores; needed when a metric or a target has changed:

    make floors
"""

import argparse
import json
from pathlib import Path

from densitometer.study.executors import cores, settle

REPEATS = 1000
"""True samples behind a floor: what lies within it is then 95 ± 0.7 % of them all."""

SIZES = ((500, 1000), (2000, 10_000))
"""Samples and test points, as in `study.plan.PROTOCOLS`."""


def main() -> None:
    """Measure all, then write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("src/densitometer/floors.json"))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    options = parser.parse_args()
    settle()
    from densitometer import floors, targets

    found: dict[str, list[dict]] = {}
    for name in targets.TARGETS:
        target = targets.get(name)
        for n, n_test in SIZES:
            measured = floors.measure(
                target, n, n_test, repeats=options.repeats, workers=len(cores())
            )
            found.setdefault(repr(target), []).append(json.loads(measured.to_json()))
            print(f"{name}, n = {n}: joint {measured.joint:.2f}", flush=True)
    kept = {"version": floors.VERSION, "floors": found}
    options.out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
