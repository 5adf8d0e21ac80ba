"""The command line: parse, call, print.

A command imports what it needs when it runs, so that help is instant. Whatever a person can do
wrong ends in one sentence on standard error and exit status 2.
"""

import argparse
import codecs
import contextlib
import difflib
import errno
import functools
import io
import json
import os
import signal
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import densitometer
from densitometer.counts import MAX_SEED
from densitometer.errors import UsageError
from densitometer.families import FAMILIES
from densitometer.metrics import METRICS
from densitometer.registry import Field, Registry
from densitometer.study.plan import DEVICES, MOST_SEEDS, PROTOCOLS, Cell, Plan
from densitometer.targets import TARGETS

_PLAIN = {
    "±": "+-", "–": "-", "−": "-", "×": "x", "≈": "~", "≤": "<=", "≥": ">=", "→": "->",
    "²": "^2", "½": "1/2", "‖": "||", "√": "sqrt ", "∫": "int ", "Σ": "sum ", "∇": "grad ",
    "δ": "delta", "ε": "eps", "σ": "sigma", "’": "'", "“": '"', "”": '"', "…": "...",
}  # fmt: skip
"""What is printed where an output has no such character."""

MAX_POINTS = 100_000_000
ENDING = tuple(getattr(signal, s) for s in ("SIGTERM", "SIGHUP") if hasattr(signal, s))
"""The signals that ask to end, other than Ctrl-C's; Windows has one of them."""
FIT_USAGE = "densitometer fit {} --target TARGET [--seed S] [--out CELL] [--family.FIELD VALUE ...]"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    command = None
    _print_anywhere()
    try:
        with _ending_signals_raise():
            options, unknown = _parser().parse_known_args(arguments)
            if unknown:
                options.parser.refuse(unknown[0])
            command = options.command
            return options.run(options)
    except UsageError as error:
        return _end(2, " ".join(str(error).split()))
    except (KeyboardInterrupt, _Ended) as signalled:
        for again in (signal.SIGINT, *ENDING):
            signal.signal(again, signal.SIG_IGN)  # we are ending; asking twice changes nothing
        number = signalled.number if isinstance(signalled, _Ended) else signal.SIGINT
        kept = "; the same command continues where it was" if command == "study" else ""
        return _end(128 + number, f"stopped by {signal.Signals(number).name}{kept}.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes
        return 128 + getattr(signal, "SIGPIPE", 13)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's
            raise
        return _end(2, "not enough memory.")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _end(2, f"cannot write {error.filename or 'a file'}: the disk is full.")


def _print_anywhere() -> None:
    """Let no character end a command: where an output has none such, it gets the plainest alike."""
    codecs.register_error("densitometer", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="densitometer")


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    plain = ""
    for letter in error.object[error.start : error.end]:
        base = unicodedata.normalize("NFKD", letter)[0]
        plain += _PLAIN.get(letter, base if base.isascii() else "?")
    return plain, error.end


class _Ended(BaseException):
    """The process was asked to end by a signal other than Ctrl-C."""

    def __init__(self, number: int):
        self.number = number


@contextlib.contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Unwind on SIGTERM and SIGHUP as on Ctrl-C; what is ignored (nohup) stays ignored."""

    def end(number: int, _: object) -> NoReturn:
        raise _Ended(number)

    before = {s: signal.getsignal(s) for s in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(status: int, sentence: str) -> int:
    _tell(sentence)
    return status


def _tell(sentence: str) -> None:
    print(f"densitometer: {sentence}", file=sys.stderr)


# --- what the commands do ---------------------------------------------------------------------


def _study(options: argparse.Namespace) -> int:
    from densitometer.study.runner import run
    from densitometer.study.store import opened
    from densitometer.system.processes import check_device, cores, settle

    settle()
    console = _console()
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
            _tell(sentence)
        cells, missing = len(plan.cells()), len(store.missing())
        console.print(
            f"{', '.join(plan.families)}, beside truth, kde and gmm, on {', '.join(plan.targets)}; "
            f"{_count(len(plan.seeds), 'seed')}, {plan.budget} budget.",
            soft_wrap=True,
        )
        there = f", {cells - missing} of them already there" if missing < cells else ""
        console.print(
            f"{_count(cells, 'cell')}{there}; {_count(workers, 'process')}; in {folder}.",
            soft_wrap=True,
        )
        with contextlib.ExitStack() as stack:
            execute = None
            if options.scheduler or options.cluster:
                from densitometer.study.cluster import connected, run_on

                client = stack.enter_context(connected(options.scheduler, workers))
                execute = functools.partial(run_on, client, tell=_tell)
                workers = sum(client.nthreads().values()) or 1
            failures = run(store, console, workers=workers, execute=execute)
        if len(failures) < cells:
            for name in plan.targets:
                _measure_floors(name, plan.protocol.n_samples, plan.protocol.n_test)
            _print_headlines(folder, plan, console)
            console.print(f"Results  {folder / 'results.csv'}", soft_wrap=True)
            try:
                _build_report(folder, console)
            except UsageError as error:  # the numbers are there, and are what was asked for
                console.print(f"No report: {error}", soft_wrap=True)
    if failures:
        some = f"{next(iter(failures))}/error.txt{' and others' if len(failures) > 1 else ''}"
        sentence = f"{len(failures)} of {_count(cells, 'cell')} failed, see {folder}/cells/{some};"
        return _end(1, f"{sentence} the same command tries again.")
    return 0


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


def _fit(options: argparse.Namespace) -> int:
    from densitometer.study.display import Display
    from densitometer.study.events import Desk
    from densitometer.system.files import check_folder, sealed, write_folder
    from densitometer.system.processes import check_device, settle

    cell = Cell(TARGETS.check(options.target), options.family, options.seed)
    given = {name.removeprefix("family."): v for name, v in vars(options).items() if "." in name}
    folder = options.out or Path("out/fit") / str(cell)
    strange = folder.exists() and not (folder / "scorecard.json").exists()
    if strange and not (folder.is_dir() and not any(folder.iterdir())):
        raise UsageError(f"{folder} exists and is no fitted cell; give another --out.")
    settle()
    check_device("cpu")
    plan = Plan.make({cell.family: given}, [cell.target], [cell.seed])
    check_folder(folder.parent)
    from densitometer import targets
    from densitometer.scoring import floors
    from densitometer.scoring.scorecard import Scorecard
    from densitometer.study.cells import run_cell

    with Display([cell], plan, _console(), workers=1) as display:
        files = run_cell(Desk(cell, tell=display.show), plan=plan)
    write_folder(folder, sealed(files))
    rules = plan.protocol
    target = targets.get(cell.target)
    truth = floors.known_floors(target, rules.n_samples, rules.n_test)
    print(Scorecard.from_json(files["scorecard.json"].decode(), truth, target.entropy))
    print(f"Written to {folder}")
    return 0


def _sample(options: argparse.Namespace) -> int:
    from densitometer.system.files import check_writable, write_points
    from densitometer.system.processes import check_device, settle

    check_writable(options.out)
    settle()
    check_device()
    from densitometer.checkpoint import load_model
    from densitometer.randomness import key_for

    model = load_model(options.cell)
    write_points(options.out, model.sample(key_for(options.seed, "samples"), options.n))
    return 0


def _log_prob(options: argparse.Namespace) -> int:
    from densitometer.system.files import check_writable, read_points, write_points
    from densitometer.system.processes import check_device, settle

    check_writable(options.out)
    settle()
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


def _score(options: argparse.Namespace) -> int:
    from densitometer.system.files import read_points
    from densitometer.system.processes import check_device, settle

    TARGETS.check(options.target)
    samples = read_points(options.samples)
    settle()
    check_device()
    from densitometer import targets
    from densitometer.scoring.judging import N_TEST
    from densitometer.scoring.scorecard import check_samples, score_samples

    target = targets.get(options.target)
    samples = check_samples(samples, target, str(options.samples))
    if not options.no_floors:
        _measure_floors(target.name, len(samples), N_TEST, "; --no-floors does without")
    card = score_samples(samples, target)
    print(json.dumps(card.judged(), indent=1, allow_nan=False) if options.json else card)
    return 0


def _report(options: argparse.Namespace) -> int:
    from densitometer.study.store import read_plan
    from densitometer.system.processes import check_device, settle

    read_plan(options.folder)
    settle()
    check_device()
    return 1 if _build_report(options.folder, _console()) else 0


def _list(options: argparse.Namespace) -> int:
    registries: dict[str, Registry] = {r.plural: r for r in (FAMILIES, TARGETS, METRICS)}
    chosen = [registries[options.kind]] if options.kind else list(registries.values())
    members = [
        {"name": name, "kind": registry.kind, "summary": registry.summary(name)}
        for registry in chosen
        for name in registry
    ]
    if options.json:
        print(json.dumps(members, indent=2))
        return 0
    for member in members:
        print(f"{member['kind']:<8}{member['name']:<24}{member['summary']}")
    return 0


def _build_report(folder: Path, console: Any) -> list[str]:
    """Write the report, and say what is there and what could not be made; the latter."""
    from densitometer.report import build

    failed: list[str] = []
    with console.status("writing the report"):
        written = build(folder, failed=failed.append)
    for path in written:
        if path.parent == folder:
            console.print(f"Report   {path}", soft_wrap=True)
    for sentence in failed:
        _tell(sentence)
    return failed


def _print_headlines(folder: Path, plan: Plan, console: Any) -> None:
    from rich.table import Table

    from densitometer.findings import digits, ranking
    from densitometer.findings.results import Results
    from densitometer.report import tables
    from densitometer.study.display import HEADLINE
    from densitometer.study.plan import REFERENCES

    results = Results.read(folder)
    for metric in HEADLINE:
        table = Table("", *plan.targets, box=None)
        for family in (*plan.families, *REFERENCES):
            measures = [results.measure(target, family, metric) for target in plan.targets]
            if any(measures):
                texts = [f"{m.value:.3f} ± {m.error:.3f}" if m else "–" for m in measures]
                table.add_row(family, *texts, end_section=family == list(plan.families)[-1])
        if table.row_count:
            for row in tables.floor_row(results, metric, plan.targets):
                table.add_row(row.name, *map(str, row.entries))
            console.print(f"\n{metric}: {METRICS.summary(metric)}", soft_wrap=True)
            console.print(table)
    rankings = {target: ranking.ranking(results, target, "kl") for target in plan.targets}
    if any(rankings.values()):
        console.print(
            "\nranking by kl: who stands between two bars cannot be told apart from the first of "
            "them; behind each name is how far it is from the best [95 % interval]",
            soft_wrap=True,
        )
    for target, groups in rankings.items():
        tell = lambda f, d: f"{f} {digits.interval(*d[:3])}" if d.value else f
        told = [", ".join(tell(*entry) for entry in group) for group in groups]
        if told:
            console.print(f" {target}: {' | '.join(told)}", soft_wrap=True)
    for sentence in ranking.impossible(results).values():
        console.print(sentence, style="bold red", soft_wrap=True)
    console.print()


def _measure_floors(name: str, n: int, n_test: int, hint: str = "") -> None:
    """See to it that what `n` true samples score is known; how long that takes is told first."""
    from rich.console import Console
    from rich.progress import Progress

    from densitometer import targets
    from densitometer.scoring import floors
    from densitometer.system.processes import cores

    target, workers = targets.get(name), len(cores())
    if floors.known_floors(target, n, n_test) is not None:
        return
    minutes = round(floors.seconds_to_measure(target, n, n_test) / workers / 60)
    print(
        f"densitometer: measuring what {n} true samples of {name} score takes about "
        f"{minutes or 1} min, once{hint}.",
        file=sys.stderr,
    )
    with Progress(console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        progress = lambda done, of: bars.update(bar, completed=done, total=of)
        floors.of(target, n, n_test, workers=workers, progress=progress)


def _console() -> Any:
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def _count(n: int, noun: str) -> str:
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


# --- what they are called ---------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence that names the nearest right word."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help.")

    def refuse(self, word: str) -> NoReturn:
        """Complain about a word that nothing is known about."""
        if not word.startswith("-"):
            self.error(f"'{word}' is one word too many")
        name = word.split("=")[0]
        self.error(f"there is no option '{name}'{_nearest(name, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or action.dest
            hint = _nearest(str(value), action.choices) or f", only {', '.join(action.choices)}"
            self.error(f"there is no {str(name).lower()} '{value}'{hint}")


def _nearest(word: str, words: Any) -> str:
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="densitometer", description=(densitometer.__doc__ or "").split("\n")[0])
    parser.add_argument("--version", action="version", version=densitometer.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    add = _command(
        commands, "study", _study, "fit families to targets, judge them and write a report"
    )
    add("--out", type=Path, default=Path("out/study"), metavar="DIR", help="folder (%(default)s)")
    add("--families", nargs="+", metavar="FAMILY", help=f"of {', '.join(FAMILIES)} (all)")
    add("--targets", nargs="+", metavar="TARGET", help=f"of {', '.join(TARGETS)} (all)")
    add("--seeds", type=_whole(1, MOST_SEEDS), metavar="N", help="how many (1)")
    add("--budget", choices=list(PROTOCOLS), help="(standard)")
    add(
        "--sweep",
        type=_swept,
        action="append",
        metavar="FAMILY.FIELD=VALUE,…",
        help="a variant of the family for each value of a hyper-parameter",
    )
    add("--plan", type=Path, metavar="FILE", help="all of this from a .toml or a study's plan.json")
    add("--workers", type=_whole(1, 1024), metavar="N", help="processes (one a core)")
    add("--scheduler", metavar="ADDRESS", help="of a Dask cluster that is running, tcp://…")
    add("--cluster", choices=["local"], help="start a Dask cluster of this machine")
    add("--device", choices=list(DEVICES), help="to compute on (cpu)")

    fit = commands.add_parser("fit", help="fit one family to one target and judge it")
    families = fit.add_subparsers(dest="family", metavar="FAMILY", required=True)
    for name in FAMILIES:
        add = _command(families, name, _fit, FAMILIES.summary(name), usage=FIT_USAGE.format(name))
        add("--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
        add("--seed", type=_whole(0, MAX_SEED), default=0, metavar="S", help="(%(default)s)")
        add("--out", type=Path, metavar="CELL", help="folder (out/fit/TARGET/FAMILY/SEED)")
        for field in FAMILIES.fields(name):
            _add_hyperparameter(add, field)

    add = _command(commands, "sample", _sample, "draw samples from a fitted model")
    add("cell", type=Path, metavar="CELL", help="folder of a fitted model, or its .safetensors")
    add("--n", type=_whole(1, MAX_POINTS), required=True, metavar="N", help="how many")
    add("--seed", type=_whole(0, MAX_SEED), default=0, metavar="S", help="(%(default)s)")
    add("--out", type=Path, required=True, metavar="FILE", help=".npy or .csv")

    add = _command(
        commands, "log-prob", _log_prob, "log-density of points under a fitted model, in nats"
    )
    add("cell", type=Path, metavar="CELL", help="folder of a fitted model, or its .safetensors")
    add("--points", type=Path, required=True, metavar="FILE", help=".npy or .csv, one point a row")
    add("--out", type=Path, required=True, metavar="FILE", help=".npy or .csv")

    add = _command(commands, "score", _score, "judge samples made by anything")
    add("--samples", type=Path, required=True, metavar="FILE", help=".npy or .csv, one point a row")
    add("--target", required=True, metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    add("--json", action="store_true", help="print rows as in results.csv")
    add(
        "--no-floors",
        action="store_true",
        help="do not measure what as many true samples score, where it is not known",
    )

    add = _command(commands, "report", _report, "write the report of a study again")
    add("folder", type=Path, metavar="DIR", help="folder of the study")

    add = _command(commands, "list", _list, "list what there is")
    add(
        "kind",
        nargs="?",
        choices=["families", "targets", "metrics"],
        metavar="KIND",
        help="%(choices)s",
    )
    add("--json", action="store_true", help="print objects with name, kind and summary")
    return parser


def _command(
    commands: Any, name: str, run: Callable[..., int], does: str, **settings: Any
) -> Callable[..., Any]:
    """Add a command; what adds arguments to it."""
    does = does.replace("%", "%%")
    parser = commands.add_parser(name, help=does, description=does, **settings)
    parser.set_defaults(run=run, parser=parser)
    return parser.add_argument


def _add_hyperparameter(add: Callable[..., Any], field: Field) -> None:
    add(
        f"--family.{field.name}",
        type=_typed(field),
        default=argparse.SUPPRESS,
        metavar="VALUE",
        help=f"{field.doc} ({field.domain}; {field.default})".replace("%", "%%"),
    )


def _swept(word: str) -> tuple[str, str, list[Any]]:
    """What reads ``ddpm.width=64,128`` as a family, a hyper-parameter and its values."""
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


def _typed(field: Field) -> Callable[[str], Any]:
    """What reads a value of a hyper-parameter."""

    def read(word: str) -> Any:
        try:
            return field.domain.read(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _whole(least: int, most: int) -> Callable[[str], int]:
    def read(word: str) -> int:
        if not (word.isascii() and word.isdigit() and least <= int(word) <= most):
            raise argparse.ArgumentTypeError(f"'{word}' is no whole number from {least} to {most}")
        return int(word)

    return read
