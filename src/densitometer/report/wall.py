"""Walls of panels: figures of one panel a cell, rows by columns, laid out in millimetres."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.patches import Rectangle

from densitometer.findings.labels import label
from densitometer.report import style

MM = 1 / 25.4
"""Inches in a millimetre."""

DENSITY_MAP = LinearSegmentedColormap.from_list("density", style.DENSITY_RAMP)

_UNDER = 8.0
"""Room under a wall, mm."""

_LEGEND = 76.0
"""Width of the longest legend, mm."""

_LONG = 10
"""Letters of a row's label for which a panel is high enough."""


class Wall:
    """A figure of rows × columns of panels, sized in millimetres, with labels on two edges."""

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
        # Labels of variants are long: they are broken at their first dot.
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
def wall(
    rows: Sequence[str], columns: Sequence[str], aspect: float, **kwargs: Any
) -> Iterator[Wall]:
    """A wall, drawn with the settings of all figures."""
    with style.settings():
        yield Wall(rows, columns, aspect, **kwargs)


def frame(ax: Axes, box: Float[np.ndarray, "2 2"], *, equal: bool = True) -> None:
    """Give a panel its window, without ticks; square if the scales are to be equal."""
    if equal:
        ax.set_aspect("equal")
    ax.set_xlim(*box[:, 0])
    ax.set_ylim(*box[:, 1])
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(style.RULE)


def say(ax: Axes, text: str) -> None:
    """Words in the place of a picture."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_color(style.RULE)
    ax.text(
        0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=style.FAINT,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )  # fmt: skip


def note(ax: Axes, text: str) -> None:
    """A warning in the corner of a panel."""
    ax.text(
        0.97, 0.96, text, transform=ax.transAxes, ha="right", va="top", color=style.ALARM,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
    )  # fmt: skip
