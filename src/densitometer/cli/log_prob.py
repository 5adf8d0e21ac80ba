"""``densitometer log-prob``: log-density of points under a fitted model, in nats."""

import argparse
from pathlib import Path
from typing import Any

from densitometer.cli.parsing import add_command
from densitometer.errors import UsageError


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(
        commands, "log-prob", run, "log-density of points under a fitted model, in nats"
    )
    add("cell", type=Path, metavar="CELL", help="folder of a fitted model, or its .safetensors")
    add("--points", type=Path, required=True, metavar="FILE", help=".npy or .csv, one point a row")
    add("--out", type=Path, required=True, metavar="FILE", help=".npy or .csv")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status."""
    from densitometer.system.files import check_writable, read_points, write_points
    from densitometer.system.processes import check_device, configure_numerics

    check_writable(options.out)
    configure_numerics()
    check_device()
    import jax.numpy as jnp

    from densitometer.checkpoint import load_model
    from densitometer.models import HasDensity
    from densitometer.points import check_points

    model = load_model(options.cell)
    if not isinstance(model, HasDensity):
        raise UsageError(f"the model in {options.cell} has no density, only samples.")
    points = check_points(read_points(options.points), str(options.points), minimum=1)
    if points.shape[1] != model.dim:
        raise UsageError(f"the model has dimension {model.dim}, the points {points.shape[1]}.")
    write_points(options.out, model.log_prob(jnp.asarray(points, jnp.float32)))
    return 0
