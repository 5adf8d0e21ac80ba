"""``densitometer report``: write the report of a study again."""

import argparse
from pathlib import Path
from typing import Any

from densitometer.cli.console import new_console, warn
from densitometer.cli.parsing import add_command


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(commands, "report", run, "write the report of a study again")
    add("folder", type=Path, metavar="DIR", help="folder of the study")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status is 1 if a part of the report could not be made."""
    from densitometer.study.store import read_plan
    from densitometer.system.processes import check_device, configure_numerics

    read_plan(options.folder)
    configure_numerics()
    check_device()
    return 1 if build_report(options.folder, new_console()) else 0


def build_report(folder: Path, console: Any) -> list[str]:
    """Write a report and say which files it has; returns what could not be made, in sentences."""
    from densitometer.report import build

    failed: list[str] = []
    with console.status("writing the report"):
        written = build(folder, failed=failed.append)
    for path in written:
        if path.parent == folder:
            console.print(f"Report   {path}", soft_wrap=True)
    for sentence in failed:
        warn(sentence)
    return failed
