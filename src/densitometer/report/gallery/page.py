"""The gallery: a page in one file on which every cell of a study can be watched and compared.

`content` says what the page shows, as plain data: sentences and formatted numbers, and pictures
rounded to a few bits. ``gallery.js`` draws it. The page asks nothing of any network, and its own
policy forbids it to: a browser runs the script and the style whose hashes it names, and no others.
"""

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterator
from importlib import resources
from typing import Any

import numpy as np
from jaxtyping import Float

from densitometer import metrics
from densitometer.families import FAMILIES
from densitometer.findings import digits, ranking, sentences
from densitometer.findings.results import CellFiles, Results, plane
from densitometer.metrics import METRICS
from densitometer.report import style
from densitometer.report.figures import HEADROOM, LOG_DENSITY_RANGE
from densitometer.scoring.verdict import verdict
from densitometer.study.plan import REFERENCES, family_of
from densitometer.targets import TARGETS

MOST_BYTES = 7_500_000
"""Of a page: seeds beyond the first are embedded as long as they fit."""

MOST_SAMPLES, MOST_DENSITIES, MOST_PATHS = 1_000_000, 1_500_000, 3_000_000
"""Bytes of each kind of picture that all cells of a seed share: many cells get coarser ones."""

LEAN = 0.25
"""Share of that for each further seed."""

"""What stands under a picture on the wall, and how it is called there."""

SUMMARIES = {
    "truth": "a fresh sample of the target itself",
    "kde": "a kernel density estimate, its bandwidth cross-validated",
    "gmm": "a Gaussian mixture, its size chosen by BIC",
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

NOT_A_POINT = 65535
"""Stands for a coordinate that is no number, or far beyond the window."""


def page(results: Results) -> bytes:
    """The whole page; the same results give the same bytes."""
    template, script, css = (_part(f"gallery.{kind}") for kind in ("html", "js", "css"))
    pairs = (f"--{name}: light-dark({light}, {dark});" for name, (light, dark) in COLOURS.items())
    css = f":root {{ {' '.join(pairs)} }}\n{css}"
    # "<" is written as JSON may write it, so that no text can end the element that holds it.
    data = json.dumps(content(results), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    parts = {
        "title": html.escape(f"Gallery: {digits.listed([*results.targets])}"),
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
    """Everything that the page shows, as plain data."""
    plan, rows = results.plan, (*results.families, *REFERENCES)
    several = len(results.seeds) > 1
    columns = [
        {"name": m, "summary": METRICS.summary(m).replace("`", "") if m in METRICS else ""}
        for m in results.metrics
    ]
    told: dict[str, Any] = {
        "facts": (
            f"{digits.count(plan.protocol.n_samples)} samples a model over as many of the truth; "
            f"budget “{plan.budget}”; densities and KL(p ‖ q) in nats. What follows ± is the "
            "standard error from the test sample alone: "
            + (
                "an opened cell also tells the spread over seeds."
                if several
                else "it does not tell how another seed would have ended."
            )
        ),
        "caveats": [{"text": f.text, "kind": f.kind} for f in sentences.caveats(results)],
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
    room = MOST_BYTES - _size(told)
    for seed in results.seeds:
        first = seed == results.seeds[0]
        cells = {
            f"{t}/{r}/{seed}": _cell(results, results.cell(t, r, seed), first=first)
            for t in results.targets
            for r in rows
        }
        room -= _size(cells)
        if room < 0 and not first:
            left = len(results.seeds) - len(told["seeds"])
            told["omitted"] = f"{left} more seeds are in the study’s folder, but not on this page."
            break
        told["seeds"].append(seed)
        told["cells"] |= cells
    return told


def _row(name: str) -> dict[str, Any]:
    reference = name in REFERENCES
    facts = {} if reference else FAMILIES.facts(family_of(name))
    return {
        "name": name,
        "summary": SUMMARIES[name] if reference else FAMILIES.summary(family_of(name)),
        "reference": reference,
        "colour": style.colour(name),
        "dark": style.colour(name, dark=True),
        "time": facts.get("path_caption", ""),
    }


def _target(results: Results, name: str) -> dict[str, Any]:
    from densitometer import targets

    law = targets.get(name)
    lower, upper = results.picture_box(name)
    told = {
        "name": name,
        "summary": TARGETS.summary(name) if name in TARGETS else "",
        "lower": lower.tolist(),
        "upper": upper.tolist(),
        "dim": law.dim,
        "smooth": law.smooth,
        "top": _top(results, name),
    }
    if law.dim > 2:
        told["note"] = f"The first two of {law.dim} coordinates are shown."
    if law.dim == 1:
        told["note"] = "The law has one coordinate, shown from left to right."
    return told


def _cell(results: Results, files: CellFiles, *, first: bool) -> dict[str, Any]:
    """What the page knows of one cell; a cell that has not run has nothing but its state."""
    told: dict[str, Any] = {"state": files.state, "done": files.done}
    if not files.done:
        return told
    target = files.cell.target
    told["diverged"] = files.diverged_at is not None
    told["card"] = list(_card(results, files))
    floors = results.floors(target)
    told["verdict"] = verdict(floors, files.scorecard).sentence if floors else ""
    if files.fit:
        told["parameters"] = digits.count(files.fit["parameters"])
        if math.isfinite(files.seconds):
            told["seconds"] = f"{files.seconds:.0f}"
        if "sampler" in files.fit["hyperparameters"]:
            told["sampler"] = str(files.fit["hyperparameters"]["sampler"])
    share = (1.0 if first else LEAN) / max(len(results.plan.cells()) // len(results.seeds), 1)
    box = results.picture_box(target)
    if files.samples is not None:
        told["samples"] = _samples(files.samples, box, MOST_SAMPLES * share)
    if files.log_density is not None and files.log_density.ndim == 2:
        top = _top(results, target)
        told["density"] = _density(files.log_density, top, MOST_DENSITIES * share)
    if first and files.path is not None and (path := _path(files.path, box, MOST_PATHS * share)):
        told["path"] = path
    if score := _score(results, files, box):
        told["score"] = score
    if files.curves:
        told["curves"] = _curves(files)
    return told


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
            one = floor.perfect or floor.low == floor.high
            span = digits.split(floor.median, math.nan)[0] if one else digits.span(*floor[:3:2])
            within = floor.holds(estimate.value)
        alarm = (target, family, metric) in flagged
        yield [place, _text(estimate), str(estimate.provenance), span, within, alarm]


def _spread(results: Results, target: str, family: str) -> dict[str, str]:
    """By metric the median over seeds ± their standard deviation."""
    found = {}
    for metric in results.metrics:
        measure = results.measure(target, family, metric)
        if measure and measure.seeds > 1:
            found[metric] = digits.plus_minus(measure.value, measure.error)
    return found


def _samples(points: Float[np.ndarray, "n d"], box: np.ndarray, most: float) -> dict[str, Any]:
    """As many points as there is room for, and how many lie outside the window."""
    seen = plane(points)
    with np.errstate(invalid="ignore"):
        inside = ((seen >= box[0]) & (seen <= box[1])).all(axis=1)
    shown = seen[: _fitting(most, 2 * 2)]
    return {
        "n": len(seen),
        "shown": len(shown),
        "outside": int((~inside).sum()),
        "points": _quantised(shown, *box),
    }


def _path(path: Float[np.ndarray, "frames n d"], box: np.ndarray, most: float) -> dict[str, Any]:
    """As many draws as there is room for; none rather than a handful."""
    frames, n, _ = path.shape
    n = min(n, _fitting(most, frames * 2 * 2))
    if n < 30:
        return {}
    seen = plane(path[:, :n])
    finite = seen[np.isfinite(seen).all(axis=-1)]
    middle, half = box.mean(axis=0), (box[1] - box[0]) / 2
    # A window that holds nearly all noise, but no point that a diverged model threw far away.
    reach = np.quantile(np.abs(finite - middle) / half, 0.999) if finite.size else 1.0
    half = half * min(max(1.5 * float(reach), 1.0), 1000.0)
    lower, upper = middle - half, middle + half
    return {
        "frames": frames,
        "n": n,
        "lower": lower.tolist(),
        "upper": upper.tolist(),
        "points": _quantised(seen, lower, upper),
    }


def _density(log_q: Float[np.ndarray, "ny nx"], top: float, most: float) -> dict[str, Any]:
    """log q in 256 steps of the target's scale, 0 for all below it; fewer cells if need be."""
    while log_q.size > _fitting(most, 1) and min(log_q.shape) >= 32:
        log_q = log_q[::2, ::2]
    level = (np.nan_to_num(log_q, nan=-np.inf) - top) / LOG_DENSITY_RANGE + 1
    rows, columns = log_q.shape
    return {
        "rows": rows,
        "columns": columns,
        "levels": _base64(np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)),
    }


ARROWS = 32
"""Arrows a side of a field of scores, as in a cell's ``score.npy``."""


def _score(results: Results, files: CellFiles, box: np.ndarray) -> dict[str, Any]:
    """The field of scores as arrows of at most unit length, and how it was obtained.

    A model that has no score, and the truth, get the differences of their log-density's grid. An
    arrow is as long as the root of the score is, so that gentle slopes are seen beside steep ones.
    """
    field, how = files.score, "from the model"
    if field is not None:
        side = math.isqrt(len(field))
        field = field.reshape(side, side, -1)[..., :2] if side**2 == len(field) else None
    elif files.log_density is not None and files.log_density.ndim == 2:
        field, how = _differences(files.log_density, box), "from the grid of the log-density"
    if field is None:
        return {}
    unit = _steepness(results, files.cell.target)
    size = np.linalg.norm(field, axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        arrows = field / size * np.sqrt(np.minimum(size / unit, 1))
    arrows = np.nan_to_num(arrows, nan=0.0, posinf=0.0, neginf=0.0)
    return {
        "side": len(field),
        "how": how,
        "unit": f"{unit:.2g}",
        "arrows": _base64(np.round(127 * arrows).astype(np.int8)),
    }


def _differences(log_q: Float[np.ndarray, "ny nx"], box: np.ndarray) -> Float[np.ndarray, "m m 2"]:
    """∇ log q by central differences, at the nodes nearest to the midpoints of the arrows' grid."""
    rows, columns = log_q.shape
    dx, dy = (box[1] - box[0]) / (columns, rows)
    with np.errstate(invalid="ignore"):
        down, across = np.gradient(log_q.astype(np.float64), dy, dx)
    field = np.stack([across, down], axis=-1)
    at = lambda n: np.minimum(((np.arange(ARROWS) + 0.5) / ARROWS * n).astype(int), n - 1)
    return field[np.ix_(at(rows), at(columns))]


def _steepness(results: Results, target: str) -> float:
    """The size of a score whose arrow is as long as arrows get: the same for all of a target.

    Nine tenths of the truth's, where its density is on the maps' scale, are smaller; of a law
    that is flat wherever it is not 0, what falls by that scale within an eighth of the window.
    """
    box, log_p = results.picture_box(target), _truth(results, target)
    if log_p is not None:
        dx, dy = (box[1] - box[0]) / log_p.shape[::-1]
        with np.errstate(invalid="ignore"):
            size = np.linalg.norm(np.gradient(log_p.astype(np.float64), dy, dx), axis=0)
        size = size[(log_p > _top(results, target) - LOG_DENSITY_RANGE) & np.isfinite(size)]
        if size.size and (steep := float(np.quantile(size, 0.9))) > 0:
            return steep
    return 8 * LOG_DENSITY_RANGE / float((box[1] - box[0])[0])


def _curves(files: CellFiles) -> dict[str, Any]:
    """The curves that all families have, and where the state that was kept lies on them."""
    named = ("train_loss", "holdout_loss", "holdout_kde_nll")
    rounded = lambda values: [float(f"{v:.5g}") if math.isfinite(v) else None for v in values]
    return {
        "step": [int(s) for s in files.curves["step"]],
        **{name: rounded(files.curves[name]) for name in named if name in files.curves},
        "selected": files.fit.get("selected_step"),
        "by": files.selecting_curve,
    }


def _top(results: Results, target: str) -> float:
    """The ceiling of a target's colour scale, nats: that of the report's figures."""
    log_p = _truth(results, target)
    finite = np.empty(0) if log_p is None else log_p[np.isfinite(log_p)]
    return HEADROOM + (float(np.quantile(finite, 0.998)) if finite.size else 0.0)


def _truth(results: Results, target: str) -> Float[np.ndarray, "ny nx"] | None:
    log_p = results.cell(target, "truth").log_density
    return log_p if log_p is not None and log_p.ndim == 2 else None


def _text(estimate: Any) -> str:
    """A number as the page prints it: a bound with its label."""
    label = " (bound)" if estimate.provenance.is_bound else ""
    return digits.plus_minus(estimate.value, estimate.stderr) + label


def _quantised(points: Float[np.ndarray, "*n 2"], lower: np.ndarray, upper: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):
        place = (points.astype(np.float64) - lower) / (upper - lower)
        known = ((place >= 0) & (place <= 1)).all(axis=-1, keepdims=True)
    steps = np.round(np.where(known, place, 0.0) * (NOT_A_POINT - 1))
    return _base64(np.where(known, steps, NOT_A_POINT).astype("<u2"))


def _fitting(most: float, each: int) -> int:
    """How many things of so many bytes fit, written in base64."""
    return int(most * 3 / 4 / each)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _part(name: str) -> str:
    return resources.files("densitometer.report.gallery").joinpath(name).read_text(encoding="utf-8")


def _size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
