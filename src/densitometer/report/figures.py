"""The figures: results in, a Matplotlib `Figure` out, at the size at which it is printed.

Most are walls of panels, one a cell, families down and targets across. A panel without a picture
says why. Nothing here touches pyplot or any global setting.
"""

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from densitometer.findings import digits
from densitometer.findings import localise as found_faults
from densitometer.findings.labels import label
from densitometer.findings.results import CellFiles, Results, plane
from densitometer.report import style

MM = 1 / 25.4
"""Inches in a millimetre."""

DENSITY_MAP = LinearSegmentedColormap.from_list("density", style.DENSITY_RAMP)

LOG_DENSITY_RANGE = 8.0
"""Nats below its ceiling at which the colour scale of a density map ends."""

HEADROOM = 0.5
"""Nats between the truth's highest densities and that ceiling, for models that overshoot."""


_UNDER = 8.0
"""Room under a wall, mm."""

_LEGEND = 76.0
"""Width of the longest legend, mm."""

_LONG = 10
"""Letters of a row's name that a panel is high enough for."""

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

    The vertical axis fits what comes after the first twentieth of training. The dot is the state
    that was kept.
    """
    families, targets = families or results.families, targets or results.targets
    with _wall(
        families, targets, aspect=0.36, gap=(10.5, 4.3), left=16.0, right=2.5, bottom=8.0, top=8.5
    ) as wall:
        for family, target, ax in wall.panels():
            cells = [c for c in results.cells(target, family) if c.curves]
            if not cells:
                _say(ax, _absence(results.cells(target, family)))
                continue
            for cell in cells:
                _draw_curves(ax, cell, style.colour(family))
            _fit_limits(ax, cells)
            diverged = [c.state for c in cells if c.diverged_at is not None]
            if diverged:
                several = f"{len(diverged)} of {len(cells)} seeds diverged"
                _note(ax, several if len(cells) > 1 else diverged[0])
            _ticks(ax)
        for ax in wall.axes[-1]:
            ax.set_xlabel("gradient steps", labelpad=2)
        line = lambda **kw: Line2D([], [], color=style.INK, **kw)
        wall.legend(
            [
                line(lw=1.3, alpha=0.45),
                line(lw=0.9),
                line(lw=0, marker="o", ms=3.6, mec="white", mew=0.6),
            ],
            ["training loss", "hold-out loss", "selected state"],
        )
        return wall.figure


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
    with _wall(("truth", *families), targets, **_COLUMN) as wall:
        shown = 0
        for family, target, ax in wall.panels():
            _frame(ax, results.picture_box(target))
            cell, truth = results.cell(target, family, seed), results.cell(target, "truth", seed)
            if truth.samples is not None:
                n = len(truth.samples) if cell.samples is None else len(cell.samples)
                _scatter(ax, truth.samples[:n], style.TRUTH_UNDER, 1.2)
            if cell.samples is None:
                _say(ax, _absence([cell]))
                continue
            shown = max(shown, len(cell.samples))
            if family != "truth":
                _scatter(ax, cell.samples, style.colour(family), 0.7)
            if cell.diverged_at is not None:
                _note(ax, cell.state)
        dot = lambda c: Line2D([], [], lw=0, marker="o", ms=3.2, color=c)
        wall.legend(
            [dot(style.TRUTH_UNDER), tuple(dot(style.colour(f)) for f in families[:3])],
            [f"truth, n = {digits.count(shown)}", f"model, n = {digits.count(shown)}"],
        )
        return wall.figure


def densities(
    results: Results,
    families: Sequence[str] = (),
    targets: Sequence[str] = (),
    seed: int | None = None,
) -> Figure:
    """log-density maps, the truth in the first row, one colour scale a target."""
    families, targets = families or results.families, targets or results.targets
    rows = ("truth", *families)
    # A family that has no density at all is told in a strip, not in a row of empty squares.
    heights = [1.0 if f == "truth" or results.has_density(f) else 0.22 for f in rows]
    with _wall(rows, targets, **_COLUMN | {"bottom": 7.0}, heights=heights) as wall:
        scales = {t: _density_scale(results.cell(t, "truth", seed).log_density) for t in targets}
        for family, target, ax in wall.panels():
            box = results.picture_box(target)
            cell = results.cell(target, family, seed)
            if cell.log_density is None:
                _frame(ax, box, equal=results.has_density(family))
                _say(ax, "no density" if cell.done else _absence([cell]))
                continue
            _frame(ax, box)
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
            wall.colour_bar(column, scales[target])
        wall.legend([], [], title="log-density, nats; scales below")
        return wall.figure


def faults(results: Results, across: int = 3) -> Figure:
    """The worst place of each fault that is worth a picture, samples of the truth beside the model.

    Shaded is the truth's support. The small picture shows where on the target the place is.
    """
    cases = found_faults.shown(results)
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


def _draw_fault(
    results: Results, letter: str, fault: "found_faults.Fault", axes: list[Axes]
) -> None:
    where, *pair = axes
    box = results.picture_box(fault.target)
    support = found_faults.support_of(results, fault.target)
    extent = (*box[:, 0], *box[:, 1])
    _frame(where, box)
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
        _frame(ax, np.array(fault.window))
        middles = [lo + (np.arange(len(support)) + 0.5) * (hi - lo) / len(support)
                   for lo, hi in box.T]  # fmt: skip
        ax.contourf(*middles, support, levels=[0.0, 2.0], colors=[style.SUPPORT])
        samples = results.cell(fault.target, name, fault.seed).samples
        if samples is None:
            _say(ax, "not run")
            continue
        n = n or len(samples)
        here = samples[:n][fault.window.holds(samples[:n])]
        dots = {"lw": 0, "marker": "o", "ms": 1.5, "mew": 0}  # few enough to be vectors
        ax.plot(*here.T, color=colour if name == fault.family else style.FAINT, **dots)
        title = "model" if name == fault.family else name
        ax.set_title(title, pad=1.5, fontsize=style.SMALL)
    lines: tuple[tuple[str, float, float, dict[str, Any]], ...] = (
        (letter, 0.0, 6.6, {"weight": "bold", "color": colour, "fontsize": style.NORMAL}),
        (label(fault.family), 0.22, 6.6, {"fontsize": style.NORMAL}),
        (f"{label(fault.target)}: {fault.kind}", 0.22, 3.7, {}),
    )
    for text, x, up, looks in lines:
        where.text(x, 1 + up / _MAP, text, transform=where.transAxes, **looks)


ALL: dict[str, Callable[[Results], Figure]] = {
    "curves": curves,
    "samples": samples,
    "densities": densities,
    "faults": faults,
}
"""The figures of a report, by the name of their files."""


def render(figure: Figure, kind: Literal["pdf", "png"]) -> bytes:
    """The figure as a file, byte-identical for the same figure."""
    file = io.BytesIO()
    undated = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    with style.settings():
        figure.savefig(file, format=kind, dpi=style.DPI, metadata=undated[kind])
    return file.getvalue()


class _Wall:
    """A figure of rows × columns of panels placed in millimetres, with names on two edges."""

    def __init__(
        self,
        rows: Sequence[str],
        columns: Sequence[str],
        aspect: float,
        gap: tuple[float, float],
        left: float,
        bottom: float,
        top: float,
        right: float = 0.5,
        heights: Sequence[float] = (),
        width: float = style.TEXT_WIDTH,
    ):
        self.rows, self.columns = rows, columns
        long = max(len(label(row)) for row in rows) > _LONG
        heights = heights or [1.0] * len(rows)
        across, down = gap
        # Names of variants are long: they are broken at their first dot.
        left += 2.8 * long
        panel = (width - left - across * (len(columns) - 1) - right) / len(columns)
        # The same for walls that stand side by side, whatever is under them and however low a row.
        room = style.TEXT_HEIGHT - max(bottom, _UNDER) - top - down * (len(rows) - 1)
        self._panel = min(panel, room / (aspect * len(rows)), 0.37 * width)
        self._left = left
        self._chip = min(left - 1.9, 4.6 + 2.8 * long)
        used = left + right + len(columns) * self._panel + across * (len(columns) - 1)
        self._width = max(used, left + _LEGEND)
        tall = [h * aspect * self._panel for h in heights]
        self._height = bottom + top + sum(tall) + down * (len(rows) - 1)
        dpi = 150 if width == style.TEXT_WIDTH else 210  # on a screen a column may be wider
        self.figure = Figure(figsize=(self._width * MM, self._height * MM), dpi=dpi)
        self.axes = np.empty((len(rows), len(columns)), dtype=object)
        y = self._height - top
        for i, name in enumerate(rows):
            y -= tall[i]
            for j in range(len(columns)):
                self.axes[i, j] = self._place(left + j * (self._panel + across), y, tall[i])
            self._name_row(name, y + tall[i] / 2, tall[i])
            y -= down
        for ax, name in zip(self.axes[0], map(label, columns), strict=True):
            if len(name) > self._panel / 1.5:  # mm that a letter takes
                name = name.replace("_", "_\n").replace(" ", "\n")
            ax.set_title(name, pad=2, linespacing=1.0)

    def panels(self) -> Iterator[tuple[str, str, Axes]]:
        """(row name, column name, axes), row by row."""
        for row, line in zip(self.rows, self.axes, strict=True):
            for column, ax in zip(self.columns, line, strict=True):
                ax.set_gid(f"{column}/{row}")
                yield row, column, ax

    def legend(self, handles: list[Any], labels: list[str], **kwargs: Any) -> None:
        """One line at the top, over all columns."""
        self.figure.legend(
            handles,
            labels,
            loc="upper left",
            bbox_to_anchor=(self._left / self._width, 1 - 0.5 / self._height),
            ncols=max(len(labels), 1),
            borderaxespad=0.1,
            borderpad=0.1,
            handletextpad=0.5,
            columnspacing=1.8,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=0.2)},
            title_fontsize=style.SMALL,
            **kwargs,
        )

    def colour_bar(self, column: int, norm: Normalize) -> None:
        """A horizontal scale under one column."""
        box = self.axes[-1, column].get_position()
        bar = self.figure.add_axes((box.x0, 4.3 / self._height, box.width, 1.6 / self._height))
        ramp = np.linspace(norm.vmin or 0.0, norm.vmax or 1.0, 256)
        bar.imshow(
            ramp[None, :],
            aspect="auto",
            extent=(ramp[0], ramp[-1], 0, 1),
            cmap=DENSITY_MAP,
        )
        bar.set_yticks([])
        bar.tick_params(pad=1.5)
        bar.spines[:].set_visible(False)
        bar.locator_params(axis="x", nbins=3)

    def _place(self, x: float, y: float, height: float) -> Axes:
        w, h = self._width, self._height
        return self.figure.add_axes((x / w, y / h, self._panel / w, height / h))

    def _name_row(self, name: str, y: float, height: float) -> None:
        w, h, text = self._width, self._height, label(name)
        self.figure.text(
            0.3 / w,
            y / h,
            text.replace(".", ".\n", 1) if len(text) > _LONG else text,
            rotation=90,
            multialignment="center",
            linespacing=1.0,
            ha="left",
            va="center",
            fontsize=style.NORMAL,
        )
        chip = Rectangle(
            (self._chip / w, (y - height / 2) / h),
            0.9 / w,
            height / h,
            color=style.colour(name),
            lw=0,
            transform=self.figure.transFigure,
        )
        self.figure.add_artist(chip)


@contextlib.contextmanager
def _wall(
    rows: Sequence[str], columns: Sequence[str], aspect: float, **kwargs: Any
) -> Iterator[_Wall]:
    with style.settings():
        yield _Wall(rows, columns, aspect, **kwargs)


def _draw_curves(ax: Axes, cell: CellFiles, colour: str) -> None:
    x, train, holdout = (cell.curves[k] for k in ("step", "train_loss", "holdout_loss"))
    ax.plot(x, train, color=colour, lw=1.3, alpha=0.45, solid_capstyle="round", label="training")
    ax.plot(x, holdout, color=colour, lw=0.9, label="hold-out")
    at = np.flatnonzero(x == cell.fit.get("selected_step"))
    if at.size:
        dot = {"ms": 3.6, "mec": "white", "mew": 0.6, "clip_on": False, "zorder": 3}
        ax.plot(x[at], holdout[at], "o", color=colour, label="selected state", **dot)


def _fit_limits(ax: Axes, cells: list[CellFiles]) -> None:
    """Limits that show the end of training: the first twentieth may leave through the top."""
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


def _frame(ax: Axes, box: Float[np.ndarray, "2 2"], *, equal: bool = True) -> None:
    """A square window on the target's box, without ticks: every panel of a column is the same."""
    if equal:
        ax.set_aspect("equal")
    ax.set_xlim(*box[:, 0])
    ax.set_ylim(*box[:, 1])
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(style.RULE)


def _density_scale(truth: Float[np.ndarray, "ny nx"] | None) -> Normalize:
    """A scale whose ceiling all but the highest 0.2 % of the truth's mapped points lie under."""
    finite = np.empty(0) if truth is None else truth[np.isfinite(truth)]
    top = HEADROOM + (float(np.quantile(finite, 0.998)) if finite.size else 0.0)
    return Normalize(top - LOG_DENSITY_RANGE, top)


def _absence(cells: list[CellFiles]) -> str:
    """Why a panel has nothing to show."""
    return next((c.state for c in cells if not c.done), "nothing recorded")


def _say(ax: Axes, text: str) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(style.RULE)
    ax.text(
        0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=style.FAINT,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )  # fmt: skip


def _note(ax: Axes, text: str) -> None:
    ax.text(
        0.97, 0.96, text, transform=ax.transAxes, ha="right", va="top", color=style.ALARM,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
    )  # fmt: skip
