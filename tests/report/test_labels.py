"""What people read in the place of names, and that each family says it of itself."""

import re
import shutil
from importlib import resources
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle

from densitometer.families import FAMILIES
from densitometer.findings import overall, sentences
from densitometer.findings.labels import in_prose, label
from densitometer.findings.results import Results
from densitometer.report import animation, figures, style, tables, writeup
from densitometer.report.gallery import page as gallery
from densitometer.targets import TARGETS
from densitometer.targets.spiral import Spiral


def test_each_member_of_ours_has_its_label():
    assert [label(name) for name in FAMILIES] == ["EBM", "SM", "DSM", "VAE", "DDPM", "CNF", "GAN"]
    assert [label(name) for name in TARGETS] == [
        "Spiral", "Pinwheel", "Checkerboard", "Gaussian mixture",
        "Two moons", "Rings", "Swiss roll",
    ]  # fmt: skip


def test_a_variant_has_the_label_of_its_family_and_what_is_neither_its_name():
    assert label("ddpm.width=64") == "DDPM.width=64"
    assert [label(name) for name in ("truth", "kde", "own_thing.x")] == [
        "truth", "KDE", "own_thing.x",
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
    ) | {
        "truth": "truth",
        "kde": "KDE",
        "kde_adaptive": "adaptive KDE",
        "gmm": "GMM",
        "gmm_mean": "mean of GMMs",
    }


def test_papers_and_captions_reach_the_reports(study):
    results = Results.read(study)
    rows = {row["name"]: row["time"] for row in gallery.content(results)["rows"]}
    papers = {f["name"]: f["papers"] for f in writeup.content(results)["hyperparameters"]}
    assert set(papers) == set(results.families)
    for name in results.families:
        assert rows[name] == FAMILIES.facts(name)["path_caption"]
        assert papers[name] == FAMILIES.facts(name)["papers"]
    assert rows["truth"] == ""  # nothing is played


class Wider(Spiral):
    """A spiral of one's own that says nothing of labels."""


class Tighter(Spiral):
    label = "Tight spiral"


def test_a_target_has_its_own_words_in_a_sentence(monkeypatch):
    for name in ("Wider", "Tighter"):
        monkeypatch.setitem(TARGETS._members, name, f"{__name__}:{name}")
    assert [in_prose(name) for name in TARGETS] == [
        "the spiral", "the pinwheel", "the checkerboard", "the Gaussian mixture",
        "the two moons", "the rings", "the Swiss roll",
        "Wider", "Tight spiral",
    ]  # fmt: skip
    assert in_prose("unheard_of") == "unheard_of"


def identifiers(results, text):
    """The names of families, references and targets that stand in a text as words of their own."""
    names = (*results.families, "kde", "kde_adaptive", "gmm", "gmm_mean", "gaussian_mixture")
    return re.findall(rf"(?<![\w.])(?:{'|'.join(map(re.escape, names))})(?![\w.])", text)


def test_sentences_show_no_identifier(study, plant):
    shutil.rmtree(study / "cells" / "pinwheel" / "gan")
    results = plant("gaussian_mixture", "vae", kl=(-0.05, 0.004), blur=(0.004, 0.0006))
    topics = [sentences.of_target(results, t) for t in results.targets]
    topics += [sentences.of_family(results, f) for f in results.families]
    found = [f for topic in topics for group in topic.values() for f in group]
    for rule in (overall.abstract, overall.overview, overall.caveats):
        found += rule(results)
    text = " ".join(f.text for f in found)
    assert {label(f) for f in results.families} <= set(re.findall(r"\w+", text))
    assert "GAN on the pinwheel (not run)" in text
    assert "VAE on the Gaussian mixture: KL divergence is -0.05" in text
    assert "on the Gaussian mixture" in text
    assert identifiers(results, text) == []
    targets = "|".join(map(label, results.targets))
    assert not re.search(rf"\b(?i:on|and|,) (?i:{targets})\b", text), "a target without its article"


def test_tables_show_no_identifier(study):
    results = Results.read(study)
    for table in (
        tables.headline(results),
        tables.ranking(results, "kl"),
        tables.choices(results),
        tables.complete(results),
    ):
        html = table._repr_html_()
        shown = re.sub(r"<small>.*?</small>", "", html)  # a provenance may be a KDE's
        assert identifiers(results, shown) == []
        assert all(label(target) in shown for target in results.targets)


def test_the_write_up_and_the_gallery_show_no_identifier(study):
    results = Results.read(study)
    data = writeup.content(results)
    prose = [data["protocol"], *data["reading"], *data["captions"].values()]
    prose += [data["headline_caption"], data["choices_caption"]]
    assert identifiers(results, " ".join(prose)) == []
    content = gallery.content(results)
    names = {row["name"]: row["label"] for row in (*content["rows"], *content["targets"])}
    assert names == {name: label(name) for name in names}
    assert {t["name"]: t["prose"] for t in content["targets"]} == {
        name: in_prose(name) for name in results.targets
    }
    title = re.search(rb"<title>(.*)</title>", gallery.page(results))
    assert title
    assert title[1].decode() == "Gallery: Spiral, Pinwheel, Checkerboard and Gaussian mixture"
