"""The one place for colours, type sizes and line widths.

The seven family colours were chosen by a search that maximised the smallest pairwise distance in
OKLab over normal vision, protanopia, deuteranopia and tritanopia (Machado et al., 2009); it is
twice that of the usual colour-blind-safe palettes. All are dark enough for a line on white. What
is known, the truth and the baselines, is grey.
"""

import contextlib
from typing import Any

from densitometer.study.plan import family_of

FAMILY_COLOURS = {
    "ebm": "#CC3526",
    "sm": "#06BFA8",
    "dsm": "#0E7397",
    "vae": "#EB881F",
    "ddpm": "#341A9C",
    "cnf": "#72130B",
    "gan": "#AC77FA",
}
REFERENCE_COLOURS = {"truth": "#9A9A9A", "kde": "#5F5F5F", "gmm": "#2B2B2B"}
TRUTH_UNDER = "#BDBDBD"
"""The truth's points where a model's lie over them."""

SUPPORT = "#EDEDED"
"""Where the truth has its mass, under points of both."""

PAPER = "#FFFFFF"
INK = "#1F1F1F"
FAINT = "#767676"
RULE = "#C9C9C9"
ALARM = "#B3001B"

DARK = {
    "#CC3526": "#E86E5F",
    "#06BFA8": "#9EFEEC",
    "#0E7397": "#469EBD",
    "#EB881F": "#FCAF57",
    "#341A9C": "#5A63AC",
    "#72130B": "#B14933",
    "#AC77FA": "#C7BBFF",
    "#9A9A9A": "#8C8F94",
    "#5F5F5F": "#B4B6BA",
    "#2B2B2B": "#E2E3E5",
    TRUTH_UNDER: "#55585F",
    PAPER: "#15171B",
    INK: "#E8E8EA",
    FAINT: "#A2A5AB",
    RULE: "#3A3D44",
    ALARM: "#FF7385",
}
"""What stands for a colour on a dark page: of nearly the same hue, light enough for a line on it.

The families' were chosen by the same search as those for white."""

DENSITY_RAMP = (
    "#FFFFFF",
    "#B5EBE0",
    "#6CD1D2",
    "#1CB1C9",
    "#008DB6",
    "#0B69A0",
    "#26477A",
    "#252B4B",
    "#16112B",
)
"""Colour map of densities: equal steps of lightness in OKLab, paper white for nothing there."""

TEXT_WIDTH, COLUMN_WIDTH = 178.0, 86.5
"""Widths of the text block of the write-up, which is A4, and of one of its two columns, mm."""

TEXT_HEIGHT = 222.0
"""The tallest a figure may be for its caption to fit on the same page, mm."""

SMALL, NORMAL = 6.5, 7.5
"""Type sizes in figures, pt; none is smaller at print size."""

DPI = 300
"""Of scatters inside vector figures, and of the PNGs."""


def colour(name: str, *, dark: bool = False) -> str:
    """The colour of a family and its variants, or of a reference, also on a dark page.

    One's own is grey.
    """
    found = FAMILY_COLOURS.get(family_of(name)) or REFERENCE_COLOURS.get(name, "#444444")
    return DARK.get(found, "#BBBBBB") if dark else found


RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": SMALL,
    "axes.titlesize": NORMAL,
    "axes.labelsize": SMALL,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.pad": 2.0,
    "ytick.major.pad": 2.0,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
"""What figures have otherwise than Matplotlib's defaults."""


def settings() -> contextlib.AbstractContextManager[None]:
    """The settings of every figure while it is drawn, whatever a person's own are."""
    import matplotlib.style

    return matplotlib.style.context(["default", RC])
