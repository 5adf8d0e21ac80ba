"""``densitometer list``: list families, targets and metrics."""

import argparse
import json
from typing import Any

from densitometer.cli.parsing import add_command
from densitometer.families import FAMILIES
from densitometer.metrics import METRICS
from densitometer.registry import Registry
from densitometer.targets import TARGETS

REGISTRIES: dict[str, Registry] = {r.plural: r for r in (FAMILIES, TARGETS, METRICS)}


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(commands, "list", run, "list what there is")
    add("kind", nargs="?", choices=[*REGISTRIES], metavar="KIND", help="%(choices)s")
    add("--json", action="store_true", help="print objects with name, kind and summary")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status."""
    members = [
        {"name": name, "kind": registry.kind, "summary": registry.summary(name)}
        for registry in ([REGISTRIES[options.kind]] if options.kind else REGISTRIES.values())
        for name in registry
    ]
    if options.json:
        print(json.dumps(members, indent=2))
        return 0
    for member in members:
        print(f"{member['kind']:<8}{member['name']:<24}{member['summary']}")
    return 0
