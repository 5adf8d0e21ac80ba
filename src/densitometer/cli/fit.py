"""``densitometer fit``: fit one family to one target and judge it."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from densitometer.cli.console import new_console
from densitometer.cli.parsing import add_command, whole_number
from densitometer.counts import MAX_SEED
from densitometer.errors import UsageError
from densitometer.families import FAMILIES
from densitometer.registry import Field
from densitometer.study.plan import Cell, Plan
from densitometer.targets import TARGETS

USAGE = "densitometer fit {} --target TARGET [--seed S] [--out CELL] [--family.FIELD VALUE ...]"


def add_to(commands: Any) -> None:
    """Add the command's parser, which has one for each family."""
    fit = commands.add_parser("fit", help="fit one family to one target and judge it")
    families = fit.add_subparsers(dest="family", metavar="FAMILY", required=True)
    for name in FAMILIES:
        add = add_command(families, name, run, FAMILIES.summary(name), usage=USAGE.format(name))
        add("--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
        add("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="S", help="(%(default)s)")
        add("--out", type=Path, metavar="CELL", help="folder (out/fit/TARGET/FAMILY/SEED)")
        for field in FAMILIES.fields(name):
            add(
                f"--family.{field.name}",
                type=_reader(field),
                default=argparse.SUPPRESS,
                metavar="VALUE",
                help=f"{field.doc} ({field.domain}; {field.default})".replace("%", "%%"),
            )


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status."""
    from densitometer.study.display import Display
    from densitometer.study.events import CellContext
    from densitometer.system.files import check_folder, sealed, write_folder
    from densitometer.system.processes import check_device, configure_numerics

    cell = Cell(TARGETS.check(options.target), options.family, options.seed)
    given = {name.removeprefix("family."): v for name, v in vars(options).items() if "." in name}
    folder = options.out or Path("out/fit") / str(cell)
    strange = folder.exists() and not (folder / "scorecard.json").exists()
    if strange and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is no fitted cell; give another --out.")
    configure_numerics()
    check_device("cpu")
    plan = Plan.make({cell.family: given}, [cell.target], [cell.seed])
    check_folder(folder.parent)
    from densitometer import targets
    from densitometer.scoring import floors
    from densitometer.scoring.scorecard import Scorecard
    from densitometer.study.cells import run_cell

    with Display([cell], plan, new_console(), workers=1) as display:
        files = run_cell(CellContext(cell, emit=display.show), plan=plan)
    write_folder(folder, sealed(files))
    rules = plan.protocol
    target = targets.get(cell.target)
    truth = floors.known_floors(target, rules.n_samples, rules.n_test)
    print(Scorecard.from_json(files["scorecard.json"].decode(), truth, target.entropy))
    print(f"Written to {folder}")
    return 0


def _reader(field: Field) -> Callable[[str], Any]:
    """A reader of a hyper-parameter's values."""

    def read(word: str) -> Any:
        try:
            return field.domain.read(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read
