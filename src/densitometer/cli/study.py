"""``densitometer study``: fit families to targets, judge them and write a report."""

import argparse
import contextlib
import functools
from pathlib import Path
from typing import Any

from densitometer.cli.console import count, new_console, warn
from densitometer.cli.floors import measure_floors
from densitometer.cli.parsing import add_command, whole_number
from densitometer.cli.report import build_report
from densitometer.errors import UsageError
from densitometer.families import FAMILIES
from densitometer.metrics import METRICS
from densitometer.study.plan import DEVICES, MOST_SEEDS, PROTOCOLS, REFERENCES, Plan
from densitometer.targets import STUDIED, TARGETS


def add_to(commands: Any) -> None:
    """Add the command's parser."""
    add = add_command(
        commands, "study", run, "fit families to targets, judge them and write a report"
    )
    add("--out", type=Path, default=Path("out/study"), metavar="DIR", help="folder (%(default)s)")
    add("--families", nargs="+", metavar="FAMILY", help=f"of {', '.join(FAMILIES)} (all)")
    default = f"the first {len(STUDIED)}"
    add("--targets", nargs="+", metavar="TARGET", help=f"of {', '.join(TARGETS)} ({default})")
    add("--seeds", type=whole_number(1, MOST_SEEDS), metavar="N", help="how many (1)")
    add("--budget", choices=list(PROTOCOLS), help="(standard)")
    add(
        "--sweep",
        type=_read_sweep,
        action="append",
        metavar="FAMILY.FIELD=VALUE,…",
        help="a variant of the family for each value of a hyper-parameter",
    )
    add("--plan", type=Path, metavar="FILE", help="all of this from a .toml or a study's plan.json")
    add("--workers", type=whole_number(1, 1024), metavar="N", help="processes (one a core)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is running, tcp://…")
    add("--cluster", choices=["local"], help="start a Dask cluster of this machine")
    add("--device", choices=list(DEVICES), help="to compute on (cpu)")


def run(options: argparse.Namespace) -> int:
    """Carry out the command; the exit status is 1 if a cell failed."""
    from densitometer.findings.digits import listed
    from densitometer.study import runner
    from densitometer.study.store import opened
    from densitometer.system.processes import check_device, configure_numerics, cores

    configure_numerics()
    console = new_console()
    plan = _plan(options)
    workers, folder = options.workers or len(cores()), options.out
    if options.scheduler and options.cluster:
        raise UsageError("--scheduler names a cluster and --cluster starts one; leave out either.")
    if plan.device != "cpu":
        if options.scheduler or options.cluster:
            raise UsageError(f"a {plan.device} is used on this machine; leave out the cluster.")
        if options.workers not in (None, 1):
            raise UsageError(f"a {plan.device} is used by one process; leave out --workers.")
        workers = 1
    check_device(plan.device)
    with opened(folder, plan) as store:
        for sentence in store.damaged:
            warn(sentence)
        cells, missing = len(plan.cells()), len(store.missing())
        console.print(
            f"{', '.join(plan.families)}, beside {listed([*REFERENCES])}, on "
            f"{', '.join(plan.targets)}; "
            f"{count(len(plan.seeds), 'seed')}, {plan.budget} budget.",
            soft_wrap=True,
        )
        there = f", {cells - missing} of them already there" if missing < cells else ""
        console.print(
            f"{count(cells, 'cell')}{there}; {count(workers, 'process')}; in {folder}.",
            soft_wrap=True,
        )
        with contextlib.ExitStack() as stack:
            execute = None
            if options.scheduler or options.cluster:
                from densitometer.study.cluster import connected, run_on

                client = stack.enter_context(connected(options.scheduler, workers))
                execute = functools.partial(run_on, client, warn=warn)
                workers = sum(client.nthreads().values()) or 1
            failures = runner.run(store, console, workers=workers, execute=execute)
        if len(failures) < cells:
            for name in plan.targets:
                measure_floors(name, plan.protocol.n_samples, plan.protocol.n_test)
            _print_headlines(folder, plan, console)
            console.print(f"Results  {folder / 'results.csv'}", soft_wrap=True)
            try:
                build_report(folder, console)
            except UsageError as error:  # the numbers are there, and are what was asked for
                console.print(f"No report: {error}", soft_wrap=True)
    if failures:
        some = f"{next(iter(failures))}/error.txt{' and others' if len(failures) > 1 else ''}"
        warn(
            f"{len(failures)} of {count(cells, 'cell')} failed, see {folder}/cells/{some}; "
            "the same command tries again."
        )
    return 1 if failures else 0


def _plan(options: argparse.Namespace) -> Plan:
    """The plan that a file or the options ask for."""
    asked = {
        name: value
        for name in ("families", "targets", "seeds", "budget", "device", "sweep")
        if (value := getattr(options, name)) is not None
    }
    if options.plan is not None:
        if asked:
            raise UsageError(f"--plan says all; leave out --{' and --'.join(asked)}.")
        return Plan.from_file(options.plan)
    families: dict[str, dict[str, Any]] = {n: {} for n in asked.pop("families", FAMILIES)}
    for name, field, values in asked.pop("sweep", ()):
        if name not in families:
            raise UsageError(f"--sweep {name}.{field}: {name} is not among --families.")
        families[name][field] = values
    if "seeds" in asked:
        asked["seeds"] = range(asked["seeds"])
    return Plan.make(families, **asked)


def _read_sweep(word: str) -> tuple[str, str, list[Any]]:
    """Family, hyper-parameter and values of a word such as ``ddpm.width=64,128``."""
    named, equals, values = word.partition("=")
    name, dot, field = named.partition(".")
    if not (equals and dot and name and field):
        raise argparse.ArgumentTypeError(f"'{word}' is not like ddpm.width=64,128")
    try:
        fields = {f.name: f for f in FAMILIES.fields(name)}
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None
    try:
        read = fields[field].domain.read if field in fields else str
        return name, field, [read(value) for value in values.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{named} {error}") from None


def _print_headlines(folder: Path, plan: Plan, console: Any) -> None:
    """The table of each headline metric, families below one another, and the ranking by KL."""
    from rich.table import Table

    from densitometer import metrics
    from densitometer.findings import digits, ranking
    from densitometer.findings.results import Results
    from densitometer.report import tables

    results = Results.read(folder)
    for metric in filter(lambda m: m.glance, metrics.every()):
        table = Table("", *plan.targets, box=None)
        for family in (*plan.families, *REFERENCES):
            measures = [results.measure(target, family, metric.name) for target in plan.targets]
            if any(measures):
                texts = [f"{m.value:.3f} ± {m.error:.3f}" if m else "–" for m in measures]
                table.add_row(family, *texts, end_section=family == list(plan.families)[-1])
        if table.row_count:
            for row in tables.floor_row(results, metric.name, plan.targets):
                table.add_row(row.name, *map(str, row.entries))
            console.print(f"\n{metric.label}: {METRICS.summary(metric.name)}", soft_wrap=True)
            console.print(table)
    rankings = {target: ranking.ranking(results, target, "kl") for target in plan.targets}
    if any(rankings.values()):
        console.print(
            "\nRanking by KL divergence: who stands between two bars cannot be distinguished from "
            "the first of them; behind each name is how far it is from the best [95 % interval]",
            soft_wrap=True,
        )
    for target, groups in rankings.items():
        entry = lambda f, d: f"{f} {digits.interval(*d[:3])}" if d.value else f
        texts = [", ".join(entry(*member) for member in group) for group in groups]
        if texts:
            console.print(f" {target}: {' | '.join(texts)}", soft_wrap=True)
    for sentence in ranking.impossible(results).values():
        console.print(sentence, style="bold red", soft_wrap=True)
    console.print()
