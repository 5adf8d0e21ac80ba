"""The animated picture: that what moves in it are the paths, and that it may stand still."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from densitometer.findings.results import Results
from densitometer.report import animation, style
from densitometer.report.animation import MOMENTS, PANEL, POINTS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def drawn(study):
    """The picture of a study in which one cell left a path, from one corner to the other."""
    lower, upper = Results.read(study).picture_box("pinwheel")
    share = np.linspace(0, 1, 41)[:, None, None]
    path = np.broadcast_to(lower + share * (upper - lower), (41, 300, 2)).astype(np.float32).copy()
    path[:, 7] = np.nan, np.inf  # of a diverged model
    np.save(study / "cells/pinwheel/vae/0/path.npy", path)
    return ElementTree.fromstring(animation.svg(Results.read(study)))


def dots(path: str) -> np.ndarray:
    found = re.findall(r"M(-?\d+) (-?\d+)z", path)
    assert "".join(f"M{x} {y}z" for x, y in found) == path
    return np.array(found, int)


def test_points_go_from_the_first_frame_to_the_last_in_the_family_s_colour(drawn):
    (moving,) = drawn.iterfind(f".//{SVG}path[@class='moving']")
    assert moving.get("stroke") == style.colour("vae")
    animate = moving.find(f"{SVG}animate")
    assert animate is not None
    frames = [dots(values) for values in animate.attrib["values"].split(";")]
    times = [float(t) for t in animate.attrib["keyTimes"].split(";")]
    assert len(frames) == len(times) == MOMENTS + 1
    assert all(len(frame) == POINTS for frame in frames)
    assert times[0] == 0
    assert times[-1] == 1
    assert np.all(np.diff(times) > 0)
    # From the lower left corner to the upper right one, and y points down in a picture.
    assert frames[0][0].tolist() == [0, PANEL]
    assert frames[MOMENTS // 2][0].tolist() == [PANEL // 2, PANEL // 2]
    assert frames[-2][0].tolist() == frames[-1][0].tolist() == [PANEL, 0]
    assert np.all((frames[-1][7] < 0) | (frames[-1][7] > PANEL)), "no point where there is none"


def test_it_stands_still_for_who_asks_for_it(drawn):
    (still,) = drawn.iterfind(f".//{SVG}path[@class='still']")
    assert dots(still.attrib["d"])[0].tolist() == [PANEL, 0]
    rules = drawn.findtext(f"{SVG}style") or ""
    reduced = rules.partition("(prefers-reduced-motion: reduce)")[2]
    assert ".still { display: inline }" in reduced
    assert ".moving { display: none }" in reduced


def test_the_truth_lies_behind_every_panel(drawn):
    assert len(drawn.findall(f".//{SVG}use")) == 3 * 4
    for path in drawn.iterfind(f"{SVG}defs/{SVG}path"):
        points = dots(path.attrib["d"])
        assert np.mean((points >= 0) & (points <= PANEL)) > 0.99
