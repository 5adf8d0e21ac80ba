"""Colours that colour-blind readers can tell apart, measured."""

import itertools
from typing import ClassVar

import numpy as np
import pytest

from densitometer.families import FAMILIES
from densitometer.families.base import Family
from densitometer.families.ddpm import DDPM
from densitometer.report import style

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritanopia": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    to_lms = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return to_lab @ np.cbrt(to_lms @ rgb)


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    ("families", "dark", "distance"),
    [(7, False, 0.15), (7, True, 0.12), (11, False, 0.085), (11, True, 0.085)],
    ids=["ours", "ours on a dark page", "all", "all on a dark page"],
)
def test_family_colours_differ_to_every_eye(vision, families, dark, distance):
    seen = {
        colour: oklab(
            np.clip(VISION[vision] @ linear(style.DARK[colour] if dark else colour), 0, 1)
        )
        for colour in style.PALETTE[:families]
    }
    assert len(seen) == families
    for (a, x), (b, y) in itertools.combinations(seen.items(), 2):
        assert np.linalg.norm(x - y) > distance, (a, b)  # Okabe and Ito's seven reach 0.076


@pytest.mark.parametrize("dark", [False, True])
def test_text_and_lines_stand_out_from_the_page(dark):
    luminance = lambda c: linear(c) @ (0.2126, 0.7152, 0.0722) + 0.05
    shown = lambda c: style.DARK[c] if dark else c
    contrast = lambda c: np.divide(
        *sorted((luminance(shown(c)), luminance(shown(style.PAPER))), reverse=True)
    )
    for colour in (style.INK, style.FAINT, style.ALARM):
        assert contrast(colour) > 4.5  # WCAG 2.2, 1.4.3
    if dark:
        for colour in style.PALETTE:
            assert contrast(colour) > 3  # WCAG 2.2, 1.4.11


def test_every_family_has_its_colour():
    assert [style.colour(name) for name in FAMILIES] == [*style.PALETTE[:7]]


def test_a_family_of_ones_own_has_a_colour_of_its_own(monkeypatch):
    """Whether it states none, one that is taken or one that there is not; ours keep theirs."""
    before = {name: style.colour(name) for name in FAMILIES}
    for name in ("Plain", "Copy", "Beyond", "Claims", "Late"):
        monkeypatch.setitem(FAMILIES._members, name, f"{__name__}:{name}")
    after = {name: style.colour(name) for name in FAMILIES}
    assert after == before | {
        "Plain": style.PALETTE[7],
        "Copy": style.PALETTE[8],
        "Beyond": style.PALETTE[9],
        "Claims": style.PALETTE[10],
        "Late": "#444444",  # the palette is at its end
    }
    assert style.colour("Claims.width=64", dark=True) == style.DARK[style.PALETTE[10]]
    assert style.colour("unheard of") == "#444444"


class Plain(Family):
    pass


class Copy(DDPM):
    pass


class Beyond(Family):
    colour: ClassVar[int | None] = 99


class Claims(Family):
    colour: ClassVar[int | None] = 10


class Late(Family):
    pass


def test_density_ramp_is_even_in_lightness():
    lightness = [oklab(linear(c))[0] for c in style.DENSITY_RAMP]
    np.testing.assert_allclose(np.diff(lightness), np.mean(np.diff(lightness)), atol=0.02)
