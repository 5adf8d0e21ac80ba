"""The figures of a report: from results to a Matplotlib `Figure` at the size of its print.

Most are walls of panels, one a cell, families down and targets across. A panel without a picture
says why. Nothing here touches pyplot or any global setting.
"""

import io
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from densitometer.findings import digits, localise, windows
from densitometer.findings.labels import label
from densitometer.findings.results import CellFiles, Results, plane
from densitometer.report import style
from densitometer.report.wall import DENSITY_MAP, MM, frame, note, say, wall

LOG_DENSITY_RANGE = 8.0
"""Nats below its ceiling at which the colour scale of a density map ends."""

HEADROOM = 0.5
"""Nats between the truth's highest densities and that ceiling, for models that overshoot."""

_MAP = 11.0
"""Side of the small picture that shows where a fault is, mm."""

_SUPPORT_MAP = ListedColormap(["#FFFFFF", style.TRUTH_UNDER])

_COLUMN = {
    "aspect": 1.0, "gap": (0.8, 0.8), "left": 6.2, "bottom": 0.5, "top": 11.5,
    "width": style.COLUMN_WIDTH,
}  # fmt: skip
"""Measures of the walls that stand side by side, whose rows are then level."""


def curves(results: Results, families: Sequence[str] = (), targets: Sequence[str] = ()) -> Figure:
    """Each cell's own loss against gradient steps, training and hold-out, every seed.

    The vertical axis fits what comes after the first twentieth of training. The dot is the
    selected state.
    """
    families, targets = families or results.families, targets or results.targets
    with wall(
        families, targets, aspect=0.36, gap=(10.5, 4.3), left=16.0, right=2.5, bottom=8.0, top=8.5
    ) as drawn:
        for family, target, ax in drawn.panels():
            cells = [c for c in results.cells(target, family) if c.curves]
            if not cells:
                say(ax, _absence(results.cells(target, family)))
                continue
            for cell in cells:
                _draw_curves(ax, cell, style.colour(family))
            _fit_limits(ax, cells)
            diverged = [c.state for c in cells if c.diverged_at is not None]
            if diverged:
                several = f"{len(diverged)} of {len(cells)} seeds diverged"
                note(ax, several if len(cells) > 1 else diverged[0])
            _ticks(ax)
        for ax in drawn.axes[-1]:
            ax.set_xlabel("gradient steps", labelpad=2)
        line = lambda **kw: Line2D([], [], color=style.INK, **kw)
        drawn.legend(
            [
                line(lw=1.3, alpha=0.45),
                line(lw=0.9),
                line(lw=0, marker="o", ms=3.6, mec="white", mew=0.6),
            ],
            ["training loss", "hold-out loss", "selected state"],
        )
        return drawn.figure


def samples(
    results: Results,
    families: Sequence[str] = (),
    targets: Sequence[str] = (),
    seed: int | None = None,
) -> Figure:
    """Model samples (the family's colour) over as many true samples (grey), for one seed.

    The first row is the truth alone.
    """
    families, targets = families or results.families, targets or results.targets
    with wall(("truth", *families), targets, **_COLUMN) as drawn:
        shown = 0
        for family, target, ax in drawn.panels():
            frame(ax, results.picture_box(target))
            cell, truth = results.cell(target, family, seed), results.cell(target, "truth", seed)
            if truth.samples is not None:
                n = len(truth.samples) if cell.samples is None else len(cell.samples)
                _scatter(ax, truth.samples[:n], style.TRUTH_UNDER, 1.2)
            if cell.samples is None:
                say(ax, _absence([cell]))
                continue
            shown = max(shown, len(cell.samples))
            if family != "truth":
                _scatter(ax, cell.samples, style.colour(family), 0.7)
            if cell.diverged_at is not None:
                note(ax, cell.state)
        dot = lambda c: Line2D([], [], lw=0, marker="o", ms=3.2, color=c)
        drawn.legend(
            [dot(style.TRUTH_UNDER), tuple(dot(style.colour(f)) for f in families[:3])],
            [f"truth, n = {digits.count(shown)}", f"model, n = {digits.count(shown)}"],
        )
        return drawn.figure


def densities(
    results: Results,
    families: Sequence[str] = (),
    targets: Sequence[str] = (),
    seed: int | None = None,
) -> Figure:
    """log-density maps, the truth in the first row, one colour scale a target."""
    families, targets = families or results.families, targets or results.targets
    rows = ("truth", *families)
    # A family without any density gets a narrow strip, not a row of empty squares.
    heights = [1.0 if f == "truth" or results.has_density(f) else 0.22 for f in rows]
    with wall(rows, targets, **_COLUMN | {"bottom": 7.0}, heights=heights) as drawn:
        scales = {t: _density_scale(results.cell(t, "truth", seed).log_density) for t in targets}
        for family, target, ax in drawn.panels():
            box = results.picture_box(target)
            cell = results.cell(target, family, seed)
            if cell.log_density is None:
                frame(ax, box, equal=results.has_density(family))
                say(ax, "no density" if cell.done else _absence([cell]))
                continue
            frame(ax, box)
            norm = scales[target]
            ax.imshow(
                np.clip(cell.log_density, norm.vmin, norm.vmax),  # −inf is the lowest colour
                origin="lower",
                extent=(*box[:, 0], *box[:, 1]),
                cmap=DENSITY_MAP,
                norm=norm,
                interpolation="nearest",
            )
        for column, target in enumerate(targets):
            drawn.colour_bar(column, scales[target])
        drawn.legend([], [], title="log-density, nats; scales below")
        return drawn.figure


def faults(results: Results, across: int = 3) -> Figure:
    """The window where each of `localise.shown` is worst, the truth's samples beside the model's.

    The truth's support is shaded. The small picture shows where on the target the window is.
    """
    cases = localise.shown(results)
    with style.settings():
        if not cases:
            figure = Figure(figsize=(style.TEXT_WIDTH * MM, 10 * MM), dpi=150)
            figure.text(0.5, 0.5, "no fault beyond chance", ha="center", va="center")
            return figure
        rows = -(-len(cases) // across)
        gap, heading = 4.0, 10.4
        each = (style.TEXT_WIDTH - gap * (across - 1)) / across
        side = (each - _MAP - 2.6) / 2
        height = rows * (side + heading) + 0.5
        figure = Figure(figsize=(style.TEXT_WIDTH * MM, height * MM), dpi=150)

        def place(x: float, y: float, size: float) -> Axes:
            w, h = style.TEXT_WIDTH, height
            return figure.add_axes((x / w, 1 - (y + size) / h, size / w, size / h))

        for i, (letter, fault) in enumerate(cases.items()):
            x, y = (i % across) * (each + gap) + 0.3, (i // across) * (side + heading) + heading
            _draw_fault(results, letter, fault, [
                place(x, y, _MAP), place(x + _MAP + 1, y, side),
                place(x + _MAP + side + 2, y, side),
            ])  # fmt: skip
        return figure


def _draw_fault(results: Results, letter: str, fault: localise.Fault, axes: list[Axes]) -> None:
    where, *pair = axes
    box = results.picture_box(fault.target)
    support = windows.support_of(results, fault.target)
    extent = (*box[:, 0], *box[:, 1])
    frame(where, box)
    where.imshow(
        support > 0, origin="lower", extent=extent, cmap=_SUPPORT_MAP, interpolation="nearest"
    )
    (left, low), (right, high) = fault.window
    where.add_patch(
        Rectangle((left, low), right - left, high - low, fill=False, ec=style.INK, lw=0.7)
    )
    where.set_gid(f"{letter}/where")
    colour = style.colour(fault.family)
    n = None
    for name, ax in zip((fault.family, "truth"), pair[::-1], strict=True):
        ax.set_gid(f"{letter}/{name}")
        frame(ax, np.array(fault.window))
        middles = [lo + (np.arange(len(support)) + 0.5) * (hi - lo) / len(support)
                   for lo, hi in box.T]  # fmt: skip
        ax.contourf(*middles, support, levels=[0.0, 2.0], colors=[style.SUPPORT])
        samples = results.cell(fault.target, name, fault.seed).samples
        if samples is None:
            say(ax, "not run")
            continue
        n = n or len(samples)
        here = samples[:n][fault.window.holds(samples[:n])]
        dots = {"lw": 0, "marker": "o", "ms": 1.5, "mew": 0}  # few enough to be vectors
        ax.plot(*here.T, color=colour if name == fault.family else style.FAINT, **dots)
        title = "model" if name == fault.family else label(name)
        ax.set_title(title, pad=1.5, fontsize=style.SMALL)
    lines: tuple[tuple[str, float, float, dict[str, Any]], ...] = (
        (letter, 0.0, 6.6, {"weight": "bold", "color": colour, "fontsize": style.NORMAL}),
        (label(fault.family), 0.22, 6.6, {"fontsize": style.NORMAL}),
        (f"{label(fault.target)}: {fault.kind}", 0.22, 3.7, {}),
    )
    for text, x, up, font in lines:
        where.text(x, 1 + up / _MAP, text, transform=where.transAxes, **font)


ALL: dict[str, Callable[[Results], Figure]] = {
    "curves": curves,
    "samples": samples,
    "densities": densities,
    "faults": faults,
}
"""The figures of a report by the names of their files."""


def render(figure: Figure, kind: Literal["pdf", "png"]) -> bytes:
    """The figure as a file, byte-identical for the same figure."""
    file = io.BytesIO()
    undated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    with style.settings():
        figure.savefig(file, format=kind, dpi=style.DPI, metadata=undated[kind])
    return file.getvalue()


def _draw_curves(ax: Axes, cell: CellFiles, colour: str) -> None:
    x, train, holdout = (cell.curves[k] for k in ("step", "train_loss", "holdout_loss"))
    ax.plot(x, train, color=colour, lw=1.3, alpha=0.45, solid_capstyle="round", label="training")
    ax.plot(x, holdout, color=colour, lw=0.9, label="hold-out")
    at = np.flatnonzero(x == cell.fit.get("selected_step"))
    if at.size:
        dot = {"ms": 3.6, "mec": "white", "mew": 0.6, "clip_on": False, "zorder": 3}
        ax.plot(x[at], holdout[at], "o", color=colour, label="selected state", **dot)


def _fit_limits(ax: Axes, cells: list[CellFiles]) -> None:
    """Limits that fit the end of training; the first twentieth may exceed them."""
    late = []
    for cell in cells:
        x = cell.curves["step"]
        after = x > x[-1] / 20
        late += [cell.curves[k][after] for k in ("train_loss", "holdout_loss")]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    if values.size:
        q25, median, q75 = np.quantile(values, (0.25, 0.5, 0.75))
        reach = 8 * (q75 - q25)  # further off is an explosion, and would flatten all the rest
        low, high = max(values.min(), median - reach), min(values.max(), median + reach)
        margin = 0.07 * (high - low) or 0.05 * abs(high) or 1.0
        ax.set_ylim(low - margin, high + margin)
    last = max(float(c.curves["step"][-1]) for c in cells)
    planned = [float(c.fit.get("hyperparameters", {}).get("steps", 0)) for c in cells]
    ax.set_xlim(0, max(last, *planned))


def _ticks(ax: Axes) -> None:
    ax.locator_params(axis="x", nbins=4)
    ax.locator_params(axis="y", nbins=4)
    ax.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if abs(v) >= 1000 else f"{v:g}")


def _scatter(ax: Axes, points: Float[np.ndarray, "n d"], colour: str, size: float) -> None:
    ax.plot(*plane(points).T, "o", ms=size, mew=0, color=colour, zorder=1)
    ax.set_rasterization_zorder(1.5)  # all of a panel's points in one picture


def _density_scale(truth: Float[np.ndarray, "ny nx"] | None) -> Normalize:
    """A scale that ends `HEADROOM` above the 99.8 % quantile of the truth's mapped log-density."""
    finite = np.empty(0) if truth is None else truth[np.isfinite(truth)]
    top = HEADROOM + (float(np.quantile(finite, 0.998)) if finite.size else 0.0)
    return Normalize(top - LOG_DENSITY_RANGE, top)


def _absence(cells: list[CellFiles]) -> str:
    """Why a panel has nothing to show."""
    return next((c.state for c in cells if not c.done), "nothing recorded")
