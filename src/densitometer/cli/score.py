"""``densitometer score``: judge samples made by anything."""

import argparse
import json
from pathlib import Path
from typing import Any

from densitometer.cli.floors import measure_floors
from densitometer.cli.parsing import add_command
from densitometer.targets import TARGETS


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(commands, "score", run, "judge samples made by anything")
    add("--samples", type=Path, required=True, metavar="FILE", help=".npy or .csv, one point a row")
    add("--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    add(
        "--train",
        type=Path,
        metavar="FILE",
        help="the points that their model was trained on: are the samples copies of them?",
    )
    add("--json", action="store_true", help="print rows as in results.csv")
    add(
        "--no-floors",
        action="store_true",
        help="do not measure what as many true samples score, where it is not known",
    )


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status."""
    from densitometer.system.files import read_points
    from densitometer.system.processes import check_device, configure_numerics

    TARGETS.check(options.target)
    samples = read_points(options.samples)
    configure_numerics()
    check_device()
    from densitometer import targets
    from densitometer.scoring.evidence import N_TEST
    from densitometer.scoring.scorecard import check_samples, score_samples

    target = targets.get(options.target)
    samples = check_samples(samples, target, str(options.samples))
    if not options.no_floors:
        measure_floors(target.name, len(samples), N_TEST, "; --no-floors does without")
    train = None if options.train is None else read_points(options.train)
    card = score_samples(samples, target, train=train)
    print(json.dumps(card.judged(), indent=1, allow_nan=False) if options.json else card)
    return 0
