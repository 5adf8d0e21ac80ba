"""Colours, type sizes and line widths.

A family states its place in the palette in its own file. The first seven colours were chosen
by a search that maximised the smallest pairwise distance in OKLab over normal vision, protanopia,
deuteranopia and tritanopia (Machado et al., 2009); it is twice that of the usual colour-blind-safe
palettes, and with the other four, for families of one's own, it is still greater. All are
dark enough for a line on white. The references are grey.
"""

import contextlib
from typing import Any

from densitometer.families import FAMILIES
from densitometer.study.plan import family_of

PALETTE = (
    "#CC3526",
    "#06BFA8",
    "#0E7397",
    "#EB881F",
    "#341A9C",
    "#72130B",
    "#AC77FA",
    "#9000F0",
    "#603858",
    "#480858",
    "#589870",
)
"""The colours of families, by their places."""

REFERENCE_COLOURS = {
    "truth": "#9A9A9A",
    "kde": "#5F5F5F",
    "kde_adaptive": "#777777",
    "gmm": "#2B2B2B",
    "gmm_mean": "#454545",
}
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
    "#9000F0": "#A060F8",
    "#603858": "#885870",
    "#480858": "#D088F8",
    "#589870": "#50E0B0",
    "#9A9A9A": "#8C8F94",
    "#5F5F5F": "#B4B6BA",
    "#777777": "#A0A3A8",
    "#2B2B2B": "#E2E3E5",
    "#454545": "#CBCDD0",
    TRUTH_UNDER: "#55585F",
    PAPER: "#15171B",
    INK: "#E8E8EA",
    FAINT: "#A2A5AB",
    RULE: "#3A3D44",
    ALARM: "#FF7385",
}
"""The counterpart of a colour on a dark page: of nearly the same hue, light enough for a line.

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
"""Colour map of densities: equal steps of lightness in OKLab, from the white of the paper."""

TEXT_WIDTH, COLUMN_WIDTH = 178.0, 86.5
"""Widths of the text block of the write-up, which is A4, and of one of its two columns, mm."""

TEXT_HEIGHT = 222.0
"""The tallest a figure may be for its caption to fit on the same page, mm."""

SMALL, NORMAL = 6.5, 7.5
"""Type sizes in figures, pt; none is smaller at print size."""

DPI = 300
"""Dots per inch of scatters in vector figures, and of the PNGs."""


def colour(name: str, *, dark: bool = False) -> str:
    """The colour of a family and its variants, or of a reference, also on a dark page.

    Anything else, and a family for which the palette has no place left, is grey.
    """
    place = _places().get(family_of(name))
    found = REFERENCE_COLOURS.get(name, "#444444") if place is None else PALETTE[place]
    return DARK.get(found, "#BBBBBB") if dark else found


def _places() -> dict[str, int]:
    """By family its place in the palette: the one that it states, or the next that is free."""
    places: dict[str, int] = {}
    for family in FAMILIES:
        stated = FAMILIES.facts(family).get("colour", -1)
        if stated in range(len(PALETTE)) and stated not in places.values():
            places[family] = stated
    others = (family for family in FAMILIES if family not in places)
    free = [place for place in range(len(PALETTE)) if place not in places.values()]
    return places | dict(zip(others, free, strict=False))


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
"""What differs from Matplotlib's defaults."""


def settings() -> contextlib.AbstractContextManager[None]:
    """The settings of every figure while it is drawn, whatever the user's own are."""
    import matplotlib.style

    return matplotlib.style.context(["default", RC])
