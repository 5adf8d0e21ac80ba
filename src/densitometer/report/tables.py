"""The tables of a report as plain data, for the write-up and the notebook alike."""

import dataclasses
import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from densitometer import metrics
from densitometer.families import FAMILIES
from densitometer.findings import digits
from densitometer.findings import ranking as ranked
from densitometer.findings.labels import label
from densitometer.findings.ranking import best, impossible, within_floor
from densitometer.findings.results import Measure, Results
from densitometer.metrics import METRICS
from densitometer.metrics.base import Metric
from densitometer.report import style
from densitometer.study.plan import REFERENCES, family_of

if TYPE_CHECKING:
    from densitometer.scoring.floors import Floor


@dataclasses.dataclass(frozen=True)
class Entry:
    """One number of a table; `error` goes after a ±, `mark` after that, `note` below."""

    text: str
    error: str = ""
    mark: str = ""
    note: str = ""
    strong: bool = False
    alarm: bool = False
    faint: bool = False

    def __str__(self) -> str:
        return self.text + (f" ± {self.error}" if self.error else "") + self.mark


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table: an identifier, which is shown as its label, and numbers."""

    name: str
    entries: tuple[Entry, ...]


@dataclasses.dataclass(frozen=True)
class Block:
    """Lines of a table under a title of their own."""

    title: str
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """Blocks under common columns, which are identifiers too; Jupyter shows it as HTML."""

    columns: tuple[str, ...]
    blocks: tuple[Block, ...]

    def _repr_html_(self) -> str:
        lines = ["<table>", _html_line("th", ["", *(html.escape(label(c)) for c in self.columns)])]
        for block in self.blocks:
            if block.title:
                span = len(self.columns) + 1
                title = html.escape(block.title)
                lines.append(f'<tr><th colspan="{span}" style="text-align: left">{title}</th></tr>')
            for row in block.rows:
                cells = [html.escape(label(row.name)), *map(_html_entry, row.entries)]
                lines.append(_html_line("td", cells))
        return "\n".join([*lines, "</table>"])


def headline(results: Results) -> Table:
    """KL, Bhattacharyya and off-support mass: references, then families, against targets.

    The best family of a target and all that tie with it are strong; impossible values are alarms.
    """
    headlines = (m for m in metrics.every() if m.title and m.name in results.metrics)
    blocks = [_block(results, metric) for metric in headlines]
    return Table((*results.targets, "how"), tuple(blocks))


def ranking(results: Results, metric: str) -> Table:
    """Families and baselines from best to worst, a block a target, in groups that differ.

    The last column is the difference from the best with its 95 % interval, simultaneous for all of
    the target (see `findings.comparisons`).
    """
    blocks = []
    for target in results.targets:
        rows = []
        for place, group in enumerate(ranked.ranking(results, target, metric), start=1):
            for family, behind in group:
                measure = results.measure(target, family, metric)
                assert measure is not None
                entries = (
                    Entry(str(place), faint=True),
                    _number(measure),
                    Entry(digits.interval(*behind[:3]) if rows else "–", faint=True),
                )
                rows.append(Row(family, entries))
        if rows:
            blocks.append(Block(label(target), tuple(rows)))
    return Table(("group", metric, "behind the best"), tuple(blocks))


def choices(results: Results) -> Table:
    """The family to choose for each target, those as good, and the furthest, by KL."""
    rows = []
    for target in results.targets:
        chosen = ranked.choice(results, target)
        density = best(results, target, "kl")
        behind = ranked.behind(results, target)
        entries = [
            _named(results, target, chosen.density, "kl"),
            Entry(digits.listed([label(f) for f in density if f != chosen.density]) or "–"),
            _named(results, target, chosen.samples, "bhattacharyya"),
            _named(results, target, behind[-1][0] if behind else None, "kl"),
        ]
        rows.append(Row(target, tuple(entries)))
    columns = ("for its density", "as good", "for its samples", "furthest density")
    return Table(columns, (Block("", tuple(rows)),))


def _named(results: Results, target: str, family: str | None, metric: str) -> Entry:
    measure = family and results.measure(target, family, metric)
    if not family or not measure:
        return Entry("–", faint=True)
    return Entry(f"{label(family)}, {digits.plus_minus(measure.value, measure.error)}")


def complete(results: Results, targets: Sequence[str] = ()) -> Table:
    """Every metric of every reference and family, each number with its provenance."""
    targets, flagged = targets or results.targets, impossible(results)
    blocks = []
    for metric in results.metrics:
        rows = []
        for family in (*REFERENCES, *results.families):
            measures = [results.measure(t, family, metric) for t in targets]
            if any(measures):
                entries = [
                    _number(
                        m,
                        alarm=(t, family, metric) in flagged,
                        mark=_marks(results, t, family, metric, m),
                        note=str(m.provenance),
                    )
                    if m
                    else Entry("–", faint=True)
                    for t, m in zip(targets, measures, strict=True)
                ]
                rows.append(Row(family, tuple(entries)))
        rows += floor_row(results, metric, targets)
        blocks.append(Block(_title(metric), tuple(rows)))
    return Table(tuple(targets), tuple(blocks))


def hyperparameters(results: Results, family: str) -> Table:
    """The hyper-parameters of a family as run, and what each means."""
    files = next((c for c in results.cells(None, family) if c.fit), None)
    planned = results.plan.families[family]
    values = planned if files is None else files.fit["hyperparameters"]
    rows = [
        Row(f.name, (Entry(_plain(values.get(f.name, f.default))), Entry(f.doc, faint=True)))
        for f in FAMILIES.fields(family_of(family))
    ]
    return Table(("value", "meaning"), (Block("", tuple(rows)),))


def _block(results: Results, metric: Metric) -> Block:
    strong = {t: best(results, t, metric.name) for t in results.targets}
    flagged = impossible(results)
    rows = []
    for family in (*REFERENCES, *results.families):
        entries, how = [], {}
        for target in results.targets:
            measure = results.measure(target, family, metric.name)
            if measure is None:
                entries.append(Entry(_absence(results, target, family, metric.name), faint=True))
                continue
            how[measure.kind] = None
            alarm = (target, family, metric.name) in flagged
            mark = _marks(results, target, family, metric.name, measure)
            mark += "†" if any(c.diverged_at for c in results.cells(target, family)) else ""
            entry = _number(measure, scale=metric.scale, alarm=alarm, mark=mark)
            entries.append(
                dataclasses.replace(entry, strong=family in strong[target] and not alarm)
            )
        rows.append(Row(family, (*entries, Entry(digits.listed([*how]), faint=True))))
    for row in floor_row(results, metric.name, results.targets, scale=metric.scale):
        rows.append(Row(row.name, (*row.entries, Entry("truth", faint=True))))
    return Block(metric.title, tuple(rows))


def floor_row(
    results: Results, metric: str, targets: Sequence[str], scale: float = 1.0
) -> list[Row]:
    """What the truth scores, for the last line of a block."""
    entries = []
    for target in targets:
        measures = (results.measure(target, f, metric) for f in (*REFERENCES, *results.families))
        measure = next((m for m in measures if m), None)
        floor = measure and results.floor(target, metric, measure)
        entries.append(Entry(_span(floor.possible(metric), scale) if floor else "–", faint=True))
    return [Row("floor", tuple(entries))] if any(e.text != "–" for e in entries) else []


def _span(floor: "Floor", scale: float) -> str:
    """From low to high; the perfect value alone where the ends are a number's own error."""
    if floor.low == floor.high or floor.perfect:
        return digits.split(floor.median, math.nan, scale=scale)[0]
    return digits.span(floor.low * scale, floor.high * scale)


def _title(metric: str) -> str:
    """A metric's label and what it is; its identifier if it is none of ours."""
    if metric not in METRICS:
        return metric
    return f"{METRICS.label(metric)}: {METRICS.summary(metric).replace('`', '')}"


def _marks(results: Results, target: str, family: str, metric: str, measure: Measure) -> str:
    """``*`` for a value within its floor, ``‡`` for a mean that hangs on a single point."""
    within = "*" if within_floor(results, target, family, metric) else ""
    return within + ("‡" if dict(measure.provenance.details).get("largest") else "")


def _number(
    m: Measure, *, scale: float = 1.0, alarm: bool = False, mark: str = "", note: str = ""
) -> Entry:
    text, error = digits.split(m.value, m.error, scale=scale)
    bound = " (bound)" if m.is_bound else ""
    return Entry(text, error, bound + mark, note, alarm=alarm or math.isnan(m.value))


def _absence(results: Results, target: str, family: str, metric: str) -> str:
    """Why there is no number: the cell has not run, or the model has no density."""
    files = results.cells(target, family)
    unfinished = next((c.state for c in files if not c.done), None)
    if unfinished:
        return unfinished
    return "no density" if metric == "kl" else "none"


def _plain(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return digits.count(value)
    return "none" if value is None else str(value)


def _html_entry(entry: Entry) -> str:
    text = html.escape(str(entry))
    if entry.alarm:
        text = f'<b style="color: {style.ALARM}">{text} !</b>'
    elif entry.strong:
        text = f"<b>{text}</b>"
    return text + (f"<br><small>{html.escape(entry.note)}</small>" if entry.note else "")


def _html_line(tag: str, cells: list[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{c}</{tag}>" for c in cells) + "</tr>"
