"""The whole report: what is in it, and that it is the same bytes twice."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest

from densitometer import report
from densitometer.errors import UsageError
from densitometer.findings.results import Results
from densitometer.metrics import METRICS
from densitometer.report import figures, style, tables, writeup


@pytest.fixture(scope="module")
def built(finished_study, tmp_path_factory):
    """A study's folder and the paths of its report; a second report, made meanwhile in another
    process, with another order of sets and hashes, of a copy of the study, by a person who has
    settings for everything and a home that cannot be written."""
    folder, again = (tmp_path_factory.mktemp(name) / "study" for name in ("one", "other"))
    for copy in (folder, again):
        shutil.copytree(finished_study, copy)
    code = f"from densitometer import report; report.build({str(again)!r})"
    own = tmp_path_factory.mktemp("settings")
    (own / "matplotlibrc").write_text("text.usetex: True\naxes.grid: True\nfigure.dpi: 31\n")
    (own / "startup.py").write_text("print('hello')")
    settings = {
        "HOME": "/dev/null",
        "MPLCONFIGDIR": str(own),
        "MPLBACKEND": "svg",
        "PYTHONSTARTUP": str(own / "startup.py"),
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "TZ": "Asia/Kathmandu",
        "SOURCE_DATE_EPOCH": "1",
    }
    with subprocess.Popen([sys.executable, "-c", code], env=os.environ | settings) as other:
        paths = report.build(folder)
    assert other.returncode == 0
    return folder, paths, again


def test_what_is_written(built):
    folder, paths, _ = built
    assert {str(p.relative_to(folder)) for p in paths} == {
        *(
            f"figures/{n}.{kind}"
            for n in ("curves", "samples", "densities", "faults")
            for kind in ("pdf", "png")
        ),
        "figures/sampling.svg",
        "report.pdf",
        "gallery.html",
        "notebook.ipynb",
    }
    assert all(p.stat().st_size > 1000 for p in paths)
    assert (folder / "report.pdf").stat().st_size < 5e6


def test_the_same_results_give_the_same_bytes(built):
    folder, paths, again = built
    for path in paths:
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path.name


def test_the_notebook_was_run_and_kept_its_outputs(built):
    notebook = nbformat.read(built[0] / "notebook.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    outputs = [o for c in code for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    kinds = [kind for o in outputs for kind in o.get("data", {})]
    assert kinds.count("image/png") == 6
    assert kinds.count("text/html") == 4 + 3  # four tables, and one a family
    text = json.dumps(notebook)
    assert "the closest density is that of DSM" in text
    assert str(built[0]) not in text


def test_the_write_up_opens_with_what_was_run(finished_study):
    data = writeup.content(Results.read(finished_study))
    assert [f["name"] for f in data["families"]] == ["dsm", "vae", "gan"]
    assert [t["name"] for t in data["targets"]][-1] == "gaussian_mixture"
    facts = {f["name"]: f["text"] for f in data["facts"]}
    assert facts["Protocol"].startswith("2,000 training points, 500 hold-out points, 10,000 fresh")
    assert all(word in facts["Versions"] for word in ("densitometer", "jax", "Python"))
    assert "one seed" in " ".join(data["reading"])


def test_the_write_up_has_every_hyper_parameter(finished_study):
    results = Results.read(finished_study)
    for block in writeup.content(results)["hyperparameters"]:
        values = {v["name"]: v["value"] for v in block["values"]}
        assert list(values) == list(results.plan.families[block["name"]])
        assert values["steps"] == "8,000"


def test_every_number_is_in_the_whole_table_with_its_provenance(finished_study):
    results = Results.read(finished_study)
    blocks = tables.complete(results).blocks
    for files in results.cells():
        for metric in files.scorecard:
            label = METRICS.label(metric)
            (block,) = [b for b in blocks if b.title.split(":")[0] == label]
            row = next(r for r in block.rows if r.name == files.cell.family)
            entry = row.entries[results.targets.index(files.cell.target)]
            assert entry.note == str(files.scorecard[metric].provenance)


def test_a_bound_never_stands_without_its_label(finished_study):
    for block in tables.complete(Results.read(finished_study)).blocks:
        for row in block.rows:
            for entry in row.entries:
                bound = entry.note.startswith(("bound", "importance"))
                assert ("(bound)" in entry.mark) == bound


def test_a_study_that_is_incomplete_is_reported(study):
    for family in ("truth", "gmm", "gan"):
        shutil.rmtree(study / "cells" / "checkerboard" / family)
    results = Results.read(study)
    drawn = {name: figures.render(draw(results), "pdf") for name, draw in figures.ALL.items()}
    assert writeup.pdf(results, drawn).startswith(b"%PDF")
    data = writeup.content(results)
    assert "3 are missing" in data["caveats"][0]["text"]


def test_a_warning_of_the_typesetter_is_an_error(finished_study, monkeypatch):
    results = Results.read(finished_study)
    drawn = {name: figures.render(figures.curves(results), "pdf") for name in figures.ALL}
    original = writeup.content
    monkeypatch.setattr(writeup, "content", lambda r: original(r) | {"font": "No Such Font"})
    with pytest.raises(RuntimeError, match="unknown font"):
        writeup.pdf(results, drawn)


def unwell(*_):
    raise RuntimeError("\nno kernel\nof that name")


def test_a_part_that_cannot_be_made_is_named_and_does_not_cost_the_others(study, monkeypatch):
    monkeypatch.setattr(report, "_executed", unwell)
    monkeypatch.setattr(writeup, "pdf", unwell)
    told = []
    written = {str(path.relative_to(study)) for path in report.build(study, failed=told.append)}
    assert told == [
        "report.pdf could not be made (RuntimeError: no kernel).",
        "notebook.ipynb could not be made (RuntimeError: no kernel).",
    ]
    assert {"gallery.html", "figures/sampling.svg", "figures/faults.pdf"} <= written
    assert not {"report.pdf", "notebook.ipynb"} & written
    assert (study / "gallery.html").exists()


def test_a_figure_that_cannot_be_drawn_is_named_and_so_is_what_needs_it(study, monkeypatch):
    monkeypatch.setattr(report, "_executed", lambda _: b"{}")
    monkeypatch.setitem(figures.ALL, "curves", unwell)
    with pytest.raises(UsageError) as told:
        report.build(study)
    assert re.fullmatch(
        r"figures/curves could not be made \(RuntimeError: no kernel\)\. "
        r"report\.pdf could not be made \(TypstError: .*curves\.pdf.*\)\.",
        str(told.value),
    )
    assert (study / "figures/faults.pdf").exists()
    assert (study / "gallery.html").exists()


@pytest.mark.parametrize("name", ["matplotlib", "typst"])
def test_a_missing_extra_is_told_in_a_sentence(finished_study, monkeypatch, name):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == name else find(n, *a)
    )
    with pytest.raises(UsageError, match=rf"{name}.*pip install 'densitometer\[report\]'"):
        report.build(finished_study)


def test_no_study(tmp_path):
    with pytest.raises(UsageError, match="holds no study"):
        report.build(tmp_path)


def test_importing_the_report_imports_no_drawing():
    unwanted = {"matplotlib", "typst", "jax", "nbclient"}
    code = f"import sys, densitometer.report; print({unwanted} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_variant_is_reported_as_its_family_under_its_own_name(study):
    plan = study / "plan.json"
    content = json.loads(plan.read_text())
    content["families"]["dsm.width=64"] = content["families"].pop("dsm")
    plan.write_text(json.dumps(content))
    for folder in list(study.glob("cells/*/dsm")):
        folder.rename(folder.with_name("dsm.width=64"))
    for card in study.glob("cells/*/dsm.width=64/*/scorecard.json"):
        card.write_text(card.read_text().replace('"family": "dsm"', '"family": "dsm.width=64"'))
    results = Results.read(study)
    assert results.families == ("vae", "gan", "dsm.width=64")
    assert style.colour("dsm.width=64") == style.colour("dsm")
    assert report._drawn(results, {})["report.pdf"].startswith(b"%PDF")
