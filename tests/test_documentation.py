"""What is kept of the documentation is what its sources say."""

import importlib.util
import re
from pathlib import Path

import jupytext
import nbformat
import pytest

from densitometer.study.store import COLUMNS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("examples", ROOT / ".ci" / "examples.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tutorial_is_kept_as_its_source_was_executed():
    kept = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    source = jupytext.read(ROOT / "docs" / "tutorial.py")
    cells = lambda notebook: [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert cells(kept) == cells(source), "run make tutorial"
    code = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert not kinds & {"error"}
    streams = [o for c in code for o in c.outputs if o.output_type == "stream"]
    assert {stream.name for stream in streams} == {"stdout"}
    assert (ROOT / "docs" / "tutorial.ipynb").stat().st_size < 500_000


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("kl  0.100 ± 0.01\n", "kl 0.104 ± 0.012", True),
        ("kl 0.100", "kl 0.109", False),
        ("kl 0.100", "kl -0.100", False),
        ("kl 0.100 !", "kl 0.100", False),
        ("first\n…\nlast", "first\nand 3 others\nlast", True),
        ("first\n…\nlast", "first\nlast but one", False),
        ("", "", True),
        ("", "unexpected", False),
    ],
)
def test_examples_compare_what_is_printed(examples, expected, printed, same):
    assert examples.alike(expected, printed) is same


def test_examples_run_what_claims_to_be_run(examples, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nx = 2\n```\n```sh\nexit 1\n```\n```python\nprint(x + 1)\n```\n"
        "```console\n$ echo one; echo two\none\n…\n$ true\n```\n"
    )
    examples.main([str(page)])
    assert capsys.readouterr().out == "3\n"
    page.write_text("\n```console\n$ echo one\ntwo\n```\n")
    with pytest.raises(SystemExit, match=r"page\.md, line 3: \$ echo one"):
        examples.main([str(page)])
    page.write_text("```console\n$ false\n```\n")
    with pytest.raises(SystemExit, match="false"):
        examples.main([str(page)])


def test_the_page_of_what_is_promised_names_what_the_package_does():
    page = (ROOT / "docs" / "interface.md").read_text()
    named = dict(re.findall(r"^\| `(densitometer[\w.]*)` \| (.*) \|$", page, re.MULTILINE))
    assert len(named) == 14
    for module, names in named.items():
        assert re.findall(r"`(\w+)`", names) == importlib.import_module(module).__all__, module
    stating = [p for p in ROOT.glob("src/**/*.py") if "\n__all__ = " in p.read_text()]
    assert len(stating) == len(named), "a module states what is public, and is not on the page"
    assert ", ".join(f"`{name}`" for name in COLUMNS) in " ".join(page.split())
