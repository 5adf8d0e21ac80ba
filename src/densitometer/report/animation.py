"""The sampling of all families from noise, on all targets, as one animated SVG."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from densitometer.findings.labels import label
from densitometer.findings.results import CellFiles, Results
from densitometer.report import style

PANEL, GAP, MARGIN, HEAD = 200, 12, 92, 40
"""Sizes in units of the picture: a panel's side, between panels, left of them, above them."""

POINTS, MOMENTS = 150, 17
"""Points a panel, and moments between which they move in straight lines."""

UNFOLDING, RESTING = 4.0, 2.0
"""Seconds."""


def svg(results: Results) -> bytes:
    """Families across, targets down: the points of each panel on their way, over the truth in grey.

    The SVG moves without a script; to readers who ask for reduced motion it shows the samples at
    rest. The points are those of ``path.npy`` of the first seed; a panel without one shows the
    truth alone.
    """
    families, targets = results.families, results.targets
    width = MARGIN + len(families) * (PANEL + GAP)
    height = HEAD + len(targets) * (PANEL + GAP)
    names = [", ".join(map(label, members)) for members in (families, targets)]
    description = f"Samples of {names[0]} arising from noise, over {names[1]}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{_escape(description)}">',
        _STYLE,
        '<rect class="paper" width="100%" height="100%" rx="8"/>',
    ]
    for column, family in enumerate(families):
        x = MARGIN + column * (PANEL + GAP)
        parts.append(_text(f"translate({x + PANEL // 2} 26)", label(family), style.colour(family)))
    for row, target in enumerate(targets):
        y = HEAD + row * (PANEL + GAP)
        turned = f"translate(76 {y + PANEL // 2}) rotate(-90)"
        parts.append(_text(turned, label(target), style.FAINT))
        truth = results.cell(target, "truth")
        if truth.samples is not None and truth.samples.shape[1] >= 2:
            grey = _dots(_in_panel(truth.samples[: 3 * POINTS], results, target))
            parts.append(f'<defs><path id="truth{row}" d="{grey}"/></defs>')
        for column, family in enumerate(families):
            x = MARGIN + column * (PANEL + GAP)
            frame = f'x="{x}" y="{y}" width="{PANEL}" height="{PANEL}"'
            parts.append(f'<svg {frame} viewBox="0 0 {PANEL} {PANEL}">')
            parts.append('<rect class="frame" width="100%" height="100%"/>')
            if truth.samples is not None:
                parts.append(f'<use class="truth" href="#truth{row}"/>')
            parts += _moving(results.cell(target, family), results, style.colour(family))
            parts.append("</svg>")
    return "\n".join([*parts, "</svg>", ""]).encode()


_STYLE = f"""<style>
text {{ font: 22px system-ui, sans-serif; text-anchor: middle }}
path {{ fill: none; stroke-linecap: round; stroke-width: 4.5 }}
.paper {{ fill: {style.PAPER} }}
.frame {{ fill: none; stroke: {style.RULE}; stroke-width: 1.5 }}
.truth {{ stroke: {style.TRUTH_UNDER}; opacity: 0.55 }}
.still {{ display: none }}
@media (prefers-reduced-motion: reduce) {{
  .still {{ display: inline }}
  .moving {{ display: none }}
}}
</style>"""


def _moving(cell: CellFiles, results: Results, colour: str) -> Iterator[str]:
    if cell.path is None or cell.path.shape[2] < 2:
        return
    chosen = np.linspace(0, len(cell.path) - 1, MOMENTS).astype(int)
    moments = [
        _dots(_in_panel(points, results, cell.cell.target)) for points in cell.path[chosen, :POINTS]
    ]
    seconds = UNFOLDING + RESTING
    times = [*np.linspace(0, UNFOLDING / seconds, MOMENTS), 1.0]
    yield f'<path class="still" stroke="{colour}" d="{moments[-1]}"/>'
    yield f'<path class="moving" stroke="{colour}" d="{moments[-1]}">'
    yield (
        f'<animate attributeName="d" dur="{seconds:g}s" repeatCount="indefinite" '
        f'keyTimes="{";".join(f"{t:.4g}" for t in times)}" '
        f'values="{";".join([*moments, moments[-1]])}"/>'
    )
    yield "</path>"


def _in_panel(
    points: Float[np.ndarray, "n d"], results: Results, target: str
) -> Float[np.ndarray, "n 2"]:
    """Whole units of a panel that shows the target's box, y down; distant points are clipped."""
    lower, upper = results.picture_box(target)
    unit = (points[:, :2] - lower) / (upper - lower)
    unit[:, 1] = 1 - unit[:, 1]
    return np.clip(np.nan_to_num(PANEL * unit, nan=-99.0), -99, PANEL + 99).round()


def _dots(points: Float[np.ndarray, "n 2"]) -> str:
    """Lines of no length, which round ends make dots."""
    return "".join(f"M{x:.0f} {y:.0f}z" for x, y in points)


def _text(transform: str, words: str, colour: str) -> str:
    return f'<text transform="{transform}" fill="{colour}">{_escape(words)}</text>'


def _escape(words: str) -> str:
    return words.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
