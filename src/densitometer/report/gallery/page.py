"""The gallery: one HTML file on which every cell of a study can be watched and compared.

`content` is what the page shows, as plain data: sentences, formatted numbers and `pictures`. The
modules `SCRIPTS` draw it. The page requests nothing from a network, and its content policy forbids
it to: a browser runs only the script and the style whose hashes the policy names.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterator
from importlib import resources
from typing import Any

from densitometer import metrics
from densitometer.families import FAMILIES
from densitometer.findings import digits, overall, ranking
from densitometer.findings.labels import in_prose, label
from densitometer.findings.results import CellFiles, Results
from densitometer.metrics import METRICS
from densitometer.report import style
from densitometer.report.figures import LOG_DENSITY_RANGE
from densitometer.report.gallery import pictures
from densitometer.scoring.verdict import verdict
from densitometer.study.plan import REFERENCES, family_of
from densitometer.targets import TARGETS

SCRIPTS = ("elements", "cells", "colours", "drawing", "chart", "wall", "panes", "opened", "gallery")
"""The modules of the script, each after those that it imports."""

MOST_BYTES = 7_500_000
"""Bytes of a page: seeds beyond the first are embedded as long as they fit."""

MOST_SAMPLES, MOST_DENSITIES, MOST_PATHS = 1_000_000, 1_500_000, 3_000_000
"""Bytes that all cells of a seed share, by kind of picture: many cells get coarser ones."""

LEAN = 0.25
"""Share of these for each further seed."""

"""What stands under a picture on the wall, and how it is called there."""

SUMMARIES = {
    "truth": "a fresh sample of the target itself",
    "kde": "a kernel density estimate, its bandwidth cross-validated",
    "kde_adaptive": "a kernel density estimate, its kernels wider where points are rarer",
    "gmm": "a Gaussian mixture model, its size and start chosen by hold-out",
    "gmm_mean": "the mean of ten Gaussian mixture models, the best by hold-out",
}

COLOURS = {
    name: (light, style.DARK[light])
    for name, light in {
        "paper": style.PAPER,
        "ink": style.INK,
        "faint": style.FAINT,
        "rule": style.RULE,
        "alarm": style.ALARM,
        "under": style.TRUTH_UNDER,
    }.items()
}
"""Of the page itself: on a light and on a dark one."""


def page(results: Results) -> bytes:
    """The whole page; the same results give the same bytes."""
    template, css, script = _part("gallery.html"), _part("gallery.css"), _script()
    pairs = (f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
    css = f":root {{ {' '.join(pairs)} }}\n{css}"
    # With "<" escaped, no text can end the element that holds it.
    data = json.dumps(content(results), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "title": html.escape(f"Gallery: {digits.listed([label(t) for t in results.targets])}"),
        "script_hash": _hash(script),
        "style_hash": _hash(css),
        "style": css,
        "script": script,
        "data": data.replace("<", "\\u003c"),
    }
    for name, text in parts.items():
        before, mark, after = template.partition("{{" + name + "}}")
        assert mark, name
        template = before + text + after
    return template.encode()


def content(results: Results) -> dict[str, Any]:
    """Everything that the page shows, as plain data; names are identifiers."""
    plan, rows = results.plan, (*results.families, *REFERENCES)
    several = len(results.seeds) > 1
    columns = [
        {"name": m, "summary": METRICS.summary(m).replace("`", "") if m in METRICS else ""}
        for m in results.metrics
    ]
    shown: dict[str, Any] = {
        "facts": (
            f"{digits.count(plan.protocol.n_samples)} samples a model over as many of the truth; "
            f"budget “{plan.budget}”; densities and KL(p ‖ q) in nats. What follows ± is the "
            "standard error from the test sample alone: "
            + (
                "an opened cell also shows the spread over seeds."
                if several
                else "it does not say how another seed would have ended."
            )
        ),
        "caveats": [{"text": f.text, "kind": f.kind} for f in overall.caveats(results)],
        "rows": [_row(name) for name in rows],
        "targets": [_target(results, t) for t in results.targets],
        "metrics": columns,
        "headlines": [
            [results.metrics.index(m.name), m.glance]
            for m in metrics.every()
            if m.glance and m.name in results.metrics
        ],
        "colours": COLOURS,
        "ramp": style.DENSITY_RAMP,
        "range": LOG_DENSITY_RANGE,
        "seeds": [],
        "omitted": "",
        "cells": {},
        "spread": {
            f"{t}/{r}": found
            for t in results.targets
            for r in rows
            if (found := _spread(results, t, r))
        }
        if several
        else {},
    }
    room = MOST_BYTES - _size(shown)
    for seed in results.seeds:
        first = seed == results.seeds[0]
        cells = {
            f"{t}/{r}/{seed}": _cell(results, results.cell(t, r, seed), first=first)
            for t in results.targets
            for r in rows
        }
        room -= _size(cells)
        if room < 0 and not first:
            left = len(results.seeds) - len(shown["seeds"])
            shown["omitted"] = f"{left} more seeds are in the study’s folder, but not on this page."
            break
        shown["seeds"].append(seed)
        shown["cells"] |= cells
    return shown


def _row(name: str) -> dict[str, Any]:
    reference = name in REFERENCES
    facts = {} if reference else FAMILIES.facts(family_of(name))
    return {
        "name": name,
        "label": label(name),
        "summary": SUMMARIES[name] if reference else FAMILIES.summary(family_of(name)),
        "reference": reference,
        "colour": style.colour(name),
        "dark": style.colour(name, dark=True),
        "time": facts.get("path_caption", ""),
    }


def _target(results: Results, name: str) -> dict[str, Any]:
    from densitometer import targets

    target = targets.get(name)
    lower, upper = results.picture_box(name)
    shown = {
        "name": name,
        "label": label(name),
        "prose": in_prose(name),
        "summary": TARGETS.summary(name) if name in TARGETS else "",
        "lower": lower.tolist(),
        "upper": upper.tolist(),
        "dim": target.dim,
        "smooth": target.smooth,
        "top": pictures.ceiling_of(results, name),
    }
    if target.dim > 2:
        shown["note"] = f"The first two of {target.dim} coordinates are shown."
    if target.dim == 1:
        shown["note"] = "Its only coordinate is shown from left to right."
    return shown


def _cell(results: Results, files: CellFiles, *, first: bool) -> dict[str, Any]:
    """One cell; if it has not run, its state alone."""
    shown: dict[str, Any] = {"state": files.state, "done": files.done}
    if not files.done:
        return shown
    target = files.cell.target
    shown["diverged"] = files.diverged_at is not None
    shown["card"] = list(_card(results, files))
    floors = results.floors(target)
    shown["verdict"] = verdict(floors, files.scorecard).sentence if floors else ""
    if files.fit:
        shown["parameters"] = digits.count(files.fit["parameters"])
        if math.isfinite(files.seconds):
            shown["seconds"] = f"{files.seconds:.0f}"
        if "sampler" in files.fit["hyperparameters"]:
            shown["sampler"] = str(files.fit["hyperparameters"]["sampler"])
    share = (1.0 if first else LEAN) / max(len(results.plan.cells()) // len(results.seeds), 1)
    box = results.picture_box(target)
    if files.samples is not None:
        shown["samples"] = pictures.samples_of(files.samples, box, MOST_SAMPLES * share)
    if files.log_density is not None and files.log_density.ndim == 2:
        top = pictures.ceiling_of(results, target)
        shown["density"] = pictures.density_of(files.log_density, top, MOST_DENSITIES * share)
    if (
        first
        and files.path is not None
        and (path := pictures.path_of(files.path, box, MOST_PATHS * share))
    ):
        shown["path"] = path
    if score := pictures.score_of(results, files, box):
        shown["score"] = score
    if files.curves:
        shown["curves"] = _curves(files)
    return shown


def _card(results: Results, files: CellFiles) -> Iterator[list[Any]]:
    """[metric, text, provenance, floor, whether within, whether impossible] of every number.

    The metric by its place among the study's; whether within is null where there is no floor.
    """
    target, family, _ = files.cell
    floors, entropy = results.floors(target), results.entropy(target)
    flagged = ranking.impossible(results)
    for place, metric in enumerate(results.metrics):
        if metric not in files.scorecard:
            continue
        estimate = files.scorecard[metric]
        floor = floors and floors.floor(metric, estimate, entropy)
        span, within = "", None
        if floor:
            ends = floor.possible(metric)
            one = floor.perfect or ends.low == ends.high
            span = digits.split(ends.median, math.nan)[0] if one else digits.span(*ends[:3:2])
            within = floor.holds(estimate.value)
        alarm = (target, family, metric) in flagged
        yield [place, _text(estimate), str(estimate.provenance), span, within, alarm]


def _spread(results: Results, target: str, family: str) -> dict[str, str]:
    """By metric the mean over seeds ± their standard deviation."""
    found = {}
    for metric in results.metrics:
        measure = results.measure(target, family, metric)
        if measure and measure.seeds > 1:
            found[metric] = digits.plus_minus(measure.value, measure.error)
    return found


def _curves(files: CellFiles) -> dict[str, Any]:
    """The curves that all families have, and the step of the selected state."""
    named = ("train_loss", "holdout_loss", "holdout_kde_nll")
    rounded = lambda values: [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]
    return {
        "step": [int(s) for s in files.curves["step"]],
        **{name: rounded(files.curves[name]) for name in named if name in files.curves},
        "selected": files.fit.get("selected_step"),
        "by": files.selecting_curve,
    }


def _text(estimate: Any) -> str:
    """A number as the page prints it: a bound with its label."""
    label = " (bound)" if estimate.provenance.is_bound else ""
    return digits.plus_minus(estimate.value, estimate.stderr) + label


def _script() -> str:
    """The modules as one script: a page without a network cannot import one from another."""
    modules = (_part(f"{name}.js") for name in SCRIPTS)
    bodies = [re.sub(r"^(import .*\n|export )", "", text, flags=re.MULTILINE) for text in modules]
    return "\n".join(['"use strict";', "(() => {", *bodies, "})();", ""])


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return resources.files("densitometer.report.gallery").joinpath(name).read_text(encoding="utf-8")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
