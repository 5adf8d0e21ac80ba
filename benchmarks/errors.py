"""Compare stated errors with the scatter of repeats, and write the table of `docs/metrics.md`.

Every metric on samples judges 2000 samples again and again, true ones and blurred ones, each time
fresh ones beside fresh true points. The ratio in the table is the root mean square of the errors
that it states over the standard deviation of its values, with the ratio's own error by the
jackknife: from R repeats about 1/√(2 (R − 1)), and more where a distribution has a heavy tail. What
has been measured is kept: more repeats go on from there. Half an hour on one core:

    python benchmarks/errors.py
"""

import argparse
import json
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
from jaxtyping import Float

from densitometer.system.processes import configure_numerics
from pages import fill

FIRST_SEED = 1_600_000_000
"""Neither a study's, nor a floor's, nor one of `metrics.py`."""

REPEATS = 100
N = 2000
SAMPLERS = {"truth": "true", "blur": "blurred"}
"""By their names in `planted.py`; the blur is by 0.1 standard deviations."""

BEYOND = 0.15
"""By how much a ratio differs from 1 that is printed bold, if that is no chance."""

Numbers = Float[np.ndarray, " n"]

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

    on_samples, known = (
        [m for m in metrics.every() if m.takes_samples and not m.floorless],
        read(path),
    )
    for seed in range(FIRST_SEED, FIRST_SEED + repeats):
        for name in targets.STUDIED:
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


def ratio(values: Numbers, errors: Numbers) -> float:
    """Stated error over scatter."""
    return math.sqrt(np.mean(errors**2)) / float(values.std(ddof=1))


def shown(numbers: dict[int, tuple[float, float]]) -> str:
    """The ratio and its error, as they are printed."""
    values, errors = np.array([*numbers.values()]).T
    if np.ptp(values) == 0:
        return f"always {values[0]:g}"
    found, n = ratio(values, errors), len(values)
    without = [ratio(np.delete(values, i), np.delete(errors, i)) for i in range(n)]
    error = math.sqrt(n - 1) * float(np.std(without))
    off = abs(found - 1) > max(BEYOND, 2 * error)
    return f"**{found:.2f}** ± {error:.2f}" if off else f"{found:.2f} ± {error:.2f}"


def table(found: Values) -> list[str]:
    """Two lines a metric, of true and of blurred samples, with a ratio for each target."""
    from densitometer import metrics, targets

    lines = [f"| | | {' | '.join(targets.STUDIED)} |", "|---|---|" + "---|" * len(targets.STUDIED)]
    for metric in (name for name in metrics.METRICS if name in found):
        columns = found[metric]
        for sampler, name in SAMPLERS.items():
            of_targets = (columns.get((target, sampler)) for target in targets.STUDIED)
            cells = [shown(numbers) if numbers else "–" for numbers in of_targets]
            lines.append(f"| `{metric}` | {name} | {' | '.join(cells)} |")
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
