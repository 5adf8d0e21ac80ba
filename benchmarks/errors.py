"""Compare stated errors with the scatter of repeats, and write the table of `docs/metrics.md`.

Every metric on samples judges 2000 samples again and again, true ones and blurred ones, each time
fresh ones beside fresh true points. The ratio in the table is the root mean square of the errors
that it states over the standard deviation of its values, known to about 1/√(2 (R − 1)) from R
repeats. What has been measured is kept: more repeats go on from there. Half an hour on one core:

    python benchmarks/errors.py
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np

from densitometer.system.processes import configure_numerics
from pages import fill

FIRST_SEED = 1_600_000_000
"""Neither a study's, nor a floor's, nor one of `metrics.py`."""

REPEATS = 100
N = 2000
SAMPLERS = ("truth", "blur")
"""By their names in `planted.py`; the blur is by 0.1 standard deviations."""

BEYOND = 0.15
"""By how much a ratio differs from 1 that is printed bold."""

Column = tuple[str, str]
"""A target and a sampler."""

Values = dict[str, dict[Column, dict[int, tuple[float, float]]]]
"""Value and stated error of each metric, column and seed."""


def read(path: Path) -> Values:
    """What has been measured."""
    found: Values = defaultdict(lambda: defaultdict(dict))
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            target, sampler, seed, numbers = json.loads(line)
            for metric, (value, error) in numbers.items():
                found[metric][target, sampler][seed] = value, error
    return found


def measure(path: Path, repeats: int) -> None:
    """Judge the samples that have not been judged, and add each to the file as a line."""
    from densitometer import metrics, targets
    from densitometer.scoring.evidence import Evidence
    from planted import planted

    on_samples, known = [m for m in metrics.every() if m.takes_samples], read(path)
    for seed in range(FIRST_SEED, FIRST_SEED + repeats):
        for name in targets.TARGETS:
            target = targets.get(name)
            for sampler in SAMPLERS:
                evidence = Evidence(target, seed, planted(target, sampler, N, seed))
                numbers = {
                    m.name: m(evidence)[:2]
                    for m in on_samples
                    if m.absence(evidence) is None and seed not in known[m.name][name, sampler]
                }
                if numbers:
                    with path.open("a", encoding="utf-8") as file:
                        file.write(json.dumps([name, sampler, seed, numbers]) + "\n")


def ratio(numbers: dict[int, tuple[float, float]]) -> str:
    """Stated error over scatter, as it is printed."""
    values, errors = np.array([*numbers.values()]).T
    scatter = float(values.std(ddof=1))
    if scatter == 0:
        return f"always {values[0]:g}"
    found = math.sqrt(np.mean(errors**2)) / scatter
    return f"**{found:.2f}**" if abs(found - 1) > BEYOND else f"{found:.2f}"


def table(found: Values) -> list[str]:
    """A line a metric: for each target the ratio for true and for blurred samples."""
    from densitometer import targets

    lines = [f"| | {' | '.join(targets.TARGETS)} |", "|---|" + "---|" * len(targets.TARGETS)]
    for metric, columns in found.items():
        cells = []
        for target in targets.TARGETS:
            both = [columns[target, s] for s in SAMPLERS if (target, s) in columns]
            said = list(dict.fromkeys(ratio(numbers) for numbers in both if len(numbers) > 1))
            cells.append(" / ".join(said if len(said) > 1 else 2 * said) or "–")
        lines.append(f"| `{metric}` | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=Path("docs/metrics.md"))
    parser.add_argument("--keep", type=Path, default=Path("out/benchmark/errors.jsonl"))
    parser.add_argument("--repeats", type=int, default=REPEATS, help="a column (%(default)s)")
    options = parser.parse_args()
    configure_numerics()
    options.keep.parent.mkdir(parents=True, exist_ok=True)
    measure(options.keep, options.repeats)
    fill(options.page, "errors", table(read(options.keep)))


if __name__ == "__main__":
    main()
