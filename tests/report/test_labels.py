"""What people read in the place of names, and that each family says it of itself."""

import re
from importlib import resources
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from densitometer.families import FAMILIES
from densitometer.findings.labels import label
from densitometer.findings.results import Results
from densitometer.report import animation, figures, style, writeup
from densitometer.report.gallery import page as gallery
from densitometer.targets import TARGETS


def test_each_member_of_ours_has_its_label():
    assert [label(name) for name in FAMILIES] == ["EBM", "SM", "DSM", "VAE", "DDPM", "CNF", "GAN"]
    assert [label(name) for name in TARGETS] == [
        "Spiral", "Pinwheel", "Checkerboard", "Gaussian mixture",
    ]  # fmt: skip


def test_a_variant_has_the_label_of_its_family_and_what_is_neither_its_name():
    assert label("ddpm.width=64") == "DDPM.width=64"
    assert [label(name) for name in ("truth", "kde", "own_thing.x")] == [
        "truth", "kde", "own_thing.x",
    ]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_of_ours_names_papers_that_there_are_and_captions_its_path(name):
    file = resources.files("densitometer.report").joinpath("references.bib")
    known = re.findall(r"^@\w+\{([^,]+),", file.read_text(encoding="utf-8"), re.MULTILINE)
    facts = FAMILIES.facts(name)
    assert facts["papers"]
    assert set(facts["papers"]) <= set(known)
    assert re.fullmatch(r"[A-Z].+\.", facts["path_caption"])
    assert facts["path_caption"] != "From noise to samples."


def test_pictures_and_headings_show_labels(study):
    results = Results.read(study)
    families, targets = [*map(label, results.families)], [*map(label, results.targets)]
    drawn = figures.curves(results)
    assert [text.get_text() for text in drawn.texts][: len(families)] == families
    chips = [chip.get_facecolor() for chip in drawn.artists if isinstance(chip, Rectangle)]
    assert chips == [to_rgba(style.colour(family)) for family in results.families]
    titles = [ax.get_title() for ax in drawn.axes if ax.get_title()]
    assert [title.replace("\n", " ") for title in titles] == targets
    moving = ElementTree.fromstring(animation.svg(results))
    texts = [text.text for text in moving.iterfind("{http://www.w3.org/2000/svg}text")]
    assert texts == [*families, *targets]
    labels = writeup.content(results)["labels"]
    assert labels == dict(zip(results.families, families, strict=True)) | dict(
        zip(results.targets, targets, strict=True)
    ) | {"truth": "truth", "kde": "kde", "gmm": "gmm"}


def test_papers_and_captions_reach_the_reports(study):
    results = Results.read(study)
    rows = {row["name"]: row["time"] for row in gallery.content(results)["rows"]}
    papers = {f["name"]: f["papers"] for f in writeup.content(results)["hyperparameters"]}
    assert set(papers) == set(results.families)
    for name in results.families:
        assert rows[name] == FAMILIES.facts(name)["path_caption"]
        assert papers[name] == FAMILIES.facts(name)["papers"]
    assert rows["truth"] == ""  # nothing is played
