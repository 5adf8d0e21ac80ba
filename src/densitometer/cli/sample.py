"""``densitometer sample``: draw samples from a fitted model."""

import argparse
from pathlib import Path
from typing import Any

from densitometer.cli.parsing import add_command, whole_number
from densitometer.counts import MAX_SEED

MAX_POINTS = 100_000_000


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(commands, "sample", run, "draw samples from a fitted model")
    add("cell", type=Path, metavar="CELL", help="folder of a fitted model, or its .safetensors")
    add("--n", type=whole_number(1, MAX_POINTS), required=True, metavar="N", help="how many")
    add("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="S", help="(%(default)s)")
    add("--out", type=Path, required=True, metavar="FILE", help=".npy or .csv")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status."""
    from densitometer.system.files import check_writable, write_points
    from densitometer.system.processes import check_device, configure_numerics

    check_writable(options.out)
    configure_numerics()
    check_device()
    from densitometer.checkpoint import load_model
    from densitometer.randomness import key_for

    model = load_model(options.cell)
    write_points(options.out, model.sample(key_for(options.seed, "samples"), options.n))
    return 0
