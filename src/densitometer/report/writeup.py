"""The write-up: results as data for a Typst template, and the PDF made of both."""

import dataclasses
import json
import os
import platform
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from densitometer.families import FAMILIES
from densitometer.findings import localise, overall, sentences
from densitometer.findings.digits import count, listed
from densitometer.findings.labels import label
from densitometer.findings.ranking import impossible
from densitometer.findings.results import CellFiles, Results
from densitometer.report import style, tables
from densitometer.study.plan import REFERENCES, family_of
from densitometer.targets import TARGETS

FONT = "Libertinus Serif"
"""One of the fonts that Typst brings along; the system's are ignored."""

METHODS = {
    "protocol": ("abramson1982",),
    "reading": ("bhattacharyya1943", "hothorn2008"),
    "faults": ("rao1948",),
}
"""The papers behind the sections on methods."""

CAPTIONS = {
    "curves": (
        "Each family’s own loss against gradient steps, on all training points (broad, pale) and "
        "on the hold-out set (thin, dark), less the loss of the best possible network where that "
        "is known. The dot is the selected state, with the lowest "
        "hold-out loss; a family whose loss is relative to an opponent is selected by its samples "
        "instead. Losses of different families are different quantities{seeds}. The first "
        "steps may leave a panel through its top."
    ),
    "samples": (
        "Samples of each model (in its colour) over as many of the truth (grey), {n} each. Every "
        "window is the target’s box{seed}."
    ),
    "densities": (
        "Learnt log-densities under the true one. A column shares its colour scale; densities "
        "more than eight nats below its top are white{seed}."
    ),
    "faults": (
        "Where faults are worst: samples of the truth (grey) beside as many of the model (in its "
        "colour), in the frame of the small picture. The truth’s support is shaded. The letters "
        "are those of the text. A fault that most families share is shown where it is most "
        "certain{seed}."
    ),
}
"""By figure; `seed` and `seeds` stand for words about seeds where there are several."""


def content(results: Results) -> dict[str, Any]:
    """Everything that the template prints, as plain data; it shows names by their labels."""
    plan = results.plan
    several = len(results.seeds) > 1
    words = {
        "n": count(plan.protocol.n_samples),
        "seed": f"; seed {results.seeds[0]}" if several else "",
        "seeds": f"; all {len(results.seeds)} seeds are drawn" if several else "",
    }
    abstract = overall.abstract(results)
    captions = {name: caption.format(**words) for name, caption in CAPTIONS.items()}
    if not localise.shown(results):
        del captions["faults"]
    return {
        "title": "How far from the truth?",
        "version": plan.versions.get("densitometer", ""),
        "font": FONT,
        "page": {"width": style.TEXT_WIDTH, "column": style.COLUMN_WIDTH},
        "palette": [style.INK, style.FAINT, style.RULE, style.ALARM],
        "labels": {
            name: label(name) for name in (*REFERENCES, *results.families, *results.targets)
        },
        "colours": {f: style.colour(f) for f in (*REFERENCES, *results.families)},
        "families": [
            {
                "name": f,
                "summary": FAMILIES.summary(family_of(f)).split(":")[0].rstrip("."),
            }
            for f in results.families
        ],
        "targets": [{"name": t, "summary": TARGETS.summary(t)} for t in results.targets],
        "seeds": _seeds(results),
        "caveats": _plain(overall.caveats(results)),
        "abstract": _plain(abstract),
        "overview": _plain([f for f in overall.overview(results) if f not in abstract]),
        "protocol": protocol(results),
        "methods": METHODS,
        "reading": reading(results),
        "captions": captions,
        "headline": dataclasses.asdict(tables.headline(results)),
        "headline_caption": headline_caption(results),
        "choices": dataclasses.asdict(tables.choices(results)),
        "choices_caption": choices_caption(results),
        "by_family": _topics(results.families, sentences.of_family, results),
        "by_target": _topics(results.targets, sentences.of_target, results),
        "hyperparameters_note": (
            f"As run with the budget “{plan.budget}”, which scales the steps; the same for all "
            "targets and seeds. The notebook beside this file says what each means."
        ),
        "hyperparameters": [
            {
                "name": f,
                "facts": facts(results, f),
                "papers": FAMILIES.facts(family_of(f)).get("papers", ()),
                "values": [
                    {"name": row.name, "value": row.entries[0].text}
                    for row in tables.hyperparameters(results, f).blocks[0].rows
                ],
            }
            for f in results.families
        ],
        "facts": setup(results),
    }


def _topics(
    names: Sequence[str],
    rules: Callable[[Results, str], dict[str, list[sentences.Finding]]],
    results: Results,
) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "topics": [
                {"name": topic, "findings": _plain(found)}
                for topic, found in rules(results, name).items()
            ],
        }
        for name in names
    ]


def protocol(results: Results) -> str:
    """The rules by which every family was trained and scored."""
    p = results.plan.protocol
    return (
        f"For every target, every family was trained on the same {count(p.n_train)} points, and "
        f"its state was selected on the same {count(p.n_holdout)} hold-out points, with "
        f"{_seeds(results)}. It was then scored on {count(p.n_test)} fresh points of the target, "
        f"which neither training nor selection saw, and by {count(p.n_samples)} samples of its "
        f"own. Five references were scored in the same way: {label('truth')}, a fresh sample of "
        f"the target itself; {label('kde')}, a kernel density estimate whose bandwidth was "
        f"cross-validated on the training points; {label('kde_adaptive')}, one whose kernels are "
        f"wider where points are rarer, as the hold-out points chose; {label('gmm')}, a Gaussian "
        f"mixture model whose size and start they chose; and {label('gmm_mean')}, the mean of the "
        "ten best such models."
    )


def reading(results: Results) -> list[str]:
    """How to read the numbers."""
    if len(results.seeds) > 1:
        errors = (
            f"What follows ± is the standard deviation over the {len(results.seeds)} seeds, and "
            "what precedes it their mean."
        )
        ties = (
            "A seed gives all models the same points, so two of them are compared seed by seed: a "
            "tie is a mean difference whose 95 % interval contains 0. The intervals of a target "
            "and a measure are simultaneous, since the best is chosen after looking: in 95 % of "
            "cases all of them hold."
        )
    else:
        errors = (
            "With one seed, what follows ± is the standard error from the test sample alone: it "
            "does not say how another seed would have ended."
        )
        ties = (
            "Two densities are compared at the same test points, point by point, so a difference "
            "is known better than either number; it is that of these fits. A tie is one whose 95 % "
            "interval contains 0. The intervals of a target and a measure are simultaneous, since "
            "the best is chosen after looking: in 95 % of cases all of them hold."
        )
    return [
        "KL is the mean of log p − log q over the test points, p the truth and q the model, in "
        "nats; it needs a model with a density. The Bhattacharyya coefficient, ∫ √(p q), compares "
        "the samples with the true density, both smoothed by the same narrow Gaussian, so a "
        "perfect model reaches the value of the truth row, not 1. Off the support lie samples "
        "where the true density is below the level that holds 99.9 % of its mass.",
        f"{errors} {ties}",
    ]


def headline_caption(results: Results) -> str:
    """The caption of the headline table."""
    text = (
        "The three measures, for the references and for every family. Bold: the best family of a "
        f"target, and all that tie with it. {floor_note(results)}"
    )
    if any(c.diverged_at is not None for c in results.cells()):
        text += " †: training diverged; the best state before that was measured."
    if any("kl_trimmed" in c.scorecard for c in results.cells()):
        text += (
            " ‡: one test point makes more than a tenth of the sum; the trimmed value is in the "
            "whole table."
        )
    if impossible(results):
        text += " Red with an exclamation mark: an impossible value."
    return text


def floor_note(results: Results) -> str:
    """What the rows of floors are, and the mark of values within."""
    n = count(results.plan.protocol.n_samples)
    return (
        "Floor: what the truth scores, the central 95 % over draws of as many of its own samples, "
        "or the exact value for its own density. An asterisk: indistinguishable from the truth at "
        f"n = {n}."
    )


def choices_caption(results: Results) -> str:
    """The caption of the table of choices."""
    errors = "spread over seeds" if len(results.seeds) > 1 else "standard error"
    return (
        "Which family to choose. For its density: the smallest KL divergence to the truth, nats, "
        "with those that tie with it beside it; for its samples: the largest Bhattacharyya "
        "coefficient. A family among the best by both is chosen for both. After ± stands "
        f"the {errors}; how each number was obtained, and its floor, are in the table of measures."
    )


def facts(results: Results, family: str) -> str:
    """The size of a family's models and the time of their fits."""
    cells = [c for c in results.cells(None, family) if c.fit]
    sizes = sorted({c.fit["parameters"] for c in cells})
    parts = [f"{listed([count(n) for n in sizes], 'or')} parameters"] if sizes else []
    if seconds := _seconds_of(cells):
        parts.append(f"{_range(seconds)} s a fit")
    return ", ".join(parts)


def setup(results: Results) -> list[dict[str, str]]:
    """Protocol, versions, machine and wall times, a line each."""
    plan, p = results.plan, results.plan.protocol
    machine = (
        f"{platform.system()}, {_processor()}, {_number(os.cpu_count() or 1, 'core', 'cores')}, "
        "where this report was made"
    )
    seconds = _seconds_of(results.cells())
    times = (
        f"{_number(len(seconds), 'fit', 'fits')} of {_range(seconds)} s, "
        f"{_number(round(sum(seconds) / 60), 'minute', 'minutes')} in all if one after the other, "
        f"and {round(sum(c.seconds_compiling for c in results.cells()))} s of compilation apart"
    )
    return [
        {
            "name": "Protocol",
            "text": f"{count(p.n_train)} training points, {count(p.n_holdout)} hold-out points, "
            f"{count(p.n_test)} fresh test points, {count(p.n_samples)} samples a model; "
            f"{_seeds(results)}; budget “{plan.budget}”",
        },
        {"name": "Versions", "text": listed([f"{n} {v}" for n, v in plan.versions.items()])},
        {"name": "Machine", "text": machine},
        {"name": "Wall times", "text": times if seconds else "not recorded"},
    ]


def pdf(results: Results, figures: Mapping[str, bytes]) -> bytes:
    """The write-up; the same results and figures give the same bytes.

    Args:
        results: the study.
        figures: each figure as a PDF, by name.
    """
    import typst

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        room = resources.files("densitometer.report")
        template, references = room.joinpath("report.typ"), room.joinpath("references.bib")
        (folder / "report.typ").write_text(template.read_text(encoding="utf-8"), encoding="utf-8")
        (folder / "references.bib").write_bytes(references.read_bytes())
        (folder / "data.json").write_text(json.dumps(content(results)), encoding="utf-8")
        for figure, drawn in figures.items():
            (folder / f"{figure}.pdf").write_bytes(drawn)
        document, warnings = typst.compile_with_warnings(
            folder / "report.typ", root=folder, ignore_system_fonts=True, format="pdf", timestamp=0
        )
    if warnings:  # an unknown font is only a warning, and would change every page
        raise RuntimeError("; ".join(w.message for w in warnings))
    return document


def _plain(found: list[sentences.Finding]) -> list[dict[str, str]]:
    return [dataclasses.asdict(f) for f in found]


def _seconds_of(cells: Sequence[CellFiles]) -> list[float]:
    return sorted(c.seconds for c in cells if c.seconds == c.seconds)


def _range(seconds: list[float]) -> str:
    """From the shortest to the longest."""
    low, high = f"{seconds[0]:.0f}", f"{seconds[-1]:.0f}"
    return low if low == high else f"{low} to {high}"


def _seeds(results: Results) -> str:
    return ("seed " if len(results.seeds) == 1 else "seeds ") + listed([*map(str, results.seeds)])


def _number(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _processor() -> str:
    """The processor's name from the system, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
