"""Pictures of the gallery: points, densities and scores of a cell, rounded to a few bits.

A coordinate is one of 65535 steps across a window, a log-density one of 256 steps of the target's
scale, an arrow one of 255 steps an axis. All are written in base64.
"""

import base64
import math
from typing import Any

import numpy as np
from jaxtyping import Float

from densitometer.findings.results import CellFiles, Results, plane
from densitometer.report.figures import HEADROOM, LOG_DENSITY_RANGE

NOT_A_POINT = 65535
"""In the place of a coordinate that is not finite or outside the window."""


ARROWS = 32
"""Arrows a side of a field of scores, as in a cell's ``score.npy``."""


def samples_of(points: Float[np.ndarray, "n d"], box: np.ndarray, most: float) -> dict[str, Any]:
    """As many points as `most` bytes hold, and how many lie outside the window."""
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


def path_of(path: Float[np.ndarray, "frames n d"], box: np.ndarray, most: float) -> dict[str, Any]:
    """As many paths as `most` bytes hold; none if fewer than 30."""
    frames, n, _ = path.shape
    n = min(n, _fitting(most, frames * 2 * 2))
    if n < 30:
        return {}
    seen = plane(path[:, :n])
    finite = seen[np.isfinite(seen).all(axis=-1)]
    middle, half = box.mean(axis=0), (box[1] - box[0]) / 2
    # A window with nearly all of the noise, but without what a diverged model threw far away.
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


def density_of(log_q: Float[np.ndarray, "ny nx"], top: float, most: float) -> dict[str, Any]:
    """log q in 256 steps of the target's scale, 0 for all below; coarser to fit `most` bytes."""
    while log_q.size > _fitting(most, 1) and min(log_q.shape) >= 32:
        log_q = log_q[::2, ::2]
    level = (np.nan_to_num(log_q, nan=-np.inf) - top) / LOG_DENSITY_RANGE + 1
    rows, columns = log_q.shape
    return {
        "rows": rows,
        "columns": columns,
        "levels": _base64(np.round(255 * np.clip(level, 0, 1)).astype(np.uint8)),
    }


def score_of(results: Results, files: CellFiles, box: np.ndarray) -> dict[str, Any]:
    """The field of scores as arrows of at most unit length, and how it was obtained.

    Without a score of its own, a model gets central differences of its log-density on the grid. The
    length of an arrow is the root of the score, which shows gentle slopes beside steep ones.
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
    """The size of a score from which arrows have full length, the same for all models of a target.

    The 90 % quantile of the truth's, where its density is on the maps' scale; for a density that is
    flat wherever it is not 0, a fall by that scale within an eighth of the window.
    """
    box, log_p = results.picture_box(target), _truth(results, target)
    if log_p is not None:
        dx, dy = (box[1] - box[0]) / log_p.shape[::-1]
        with np.errstate(invalid="ignore"):
            size = np.linalg.norm(np.gradient(log_p.astype(np.float64), dy, dx), axis=0)
        size = size[(log_p > ceiling_of(results, target) - LOG_DENSITY_RANGE) & np.isfinite(size)]
        if size.size and (steep := float(np.quantile(size, 0.9))) > 0:
            return steep
    return 8 * LOG_DENSITY_RANGE / float((box[1] - box[0])[0])


def ceiling_of(results: Results, target: str) -> float:
    """The ceiling of a target's colour scale, nats, as in the report's figures."""
    log_p = _truth(results, target)
    finite = np.empty(0) if log_p is None else log_p[np.isfinite(log_p)]
    return HEADROOM + (float(np.quantile(finite, 0.998)) if finite.size else 0.0)


def _truth(results: Results, target: str) -> Float[np.ndarray, "ny nx"] | None:
    log_p = results.cell(target, "truth").log_density
    return log_p if log_p is not None and log_p.ndim == 2 else None


def _quantised(points: Float[np.ndarray, "*n 2"], lower: np.ndarray, upper: np.ndarray) -> str:
    with np.errstate(invalid="ignore"):
        place = (points.astype(np.float64) - lower) / (upper - lower)
        known = ((place >= 0) & (place <= 1)).all(axis=-1, keepdims=True)
    steps = np.round(np.where(known, place, 0.0) * (NOT_A_POINT - 1))
    return _base64(np.where(known, steps, NOT_A_POINT).astype("<u2"))


def _fitting(most: float, each: int) -> int:
    """How many items of so many bytes fit into `most` bytes of base64."""
    return int(most * 3 / 4 / each)


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
