"""The report of a study: figures, a write-up, a gallery and a notebook, from its folder.

Only `build` imports Matplotlib and Typst, which come with ``pip install 'densitometer[report]'``.
"""

import contextlib
import importlib.util
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from densitometer.errors import UsageError, cause

if TYPE_CHECKING:
    from densitometer.findings.results import Results

__all__ = ["build"]

_NEEDED = ("matplotlib", "typst", "jupytext", "nbclient", "ipykernel")


def build(folder: Path | str, *, failed: Callable[[str], None] | None = None) -> list[Path]:
    """Write the report of the study in `folder`, finished or not, into that folder.

    The same results give the same bytes, whatever the user's own settings are. If a part cannot be
    made, the others still are.

    Args:
        folder: of the study.
        failed: called with a sentence for each part that could not be made.

    Returns:
        The paths written: ``figures/*.pdf``, ``*.png`` and ``sampling.svg``, ``report.pdf``,
        ``gallery.html``, and ``notebook.ipynb``, executed.

    Raises:
        UsageError: there is no study in `folder` or no finished cell, the folder cannot be
            written, or a package of the extra ``report`` is missing; or, after all others are
            written, a part could not be made and `failed` is None.
    """
    folder = Path(folder)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a report needs {', '.join(missing)}; get it with pip install 'densitometer[report]'."
        )
    from densitometer.findings.results import Results
    from densitometer.system.files import write_file

    results, errors = Results.read(folder), {}
    with ThreadPoolExecutor(1) as aside:  # a notebook runs in a process of its own
        run = aside.submit(_executed, results)
        files = _drawn(results, errors)
        with _part("notebook.ipynb", errors):
            files["notebook.ipynb"] = run.result()
    for name, content in files.items():
        write_file(folder / name, content)
    sentences = [f"{name} could not be made ({why})." for name, why in errors.items()]
    if failed is not None:
        for sentence in sentences:
            failed(sentence)
    elif errors:
        raise UsageError(" ".join(sentences))
    return [folder / name for name in files]


@contextlib.contextmanager
def _part(name: str, errors: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # whatever a font, a kernel or a typesetter raises
        errors[name] = cause(error)


def _executed(results: "Results") -> bytes:
    from densitometer.report import notebook

    return notebook.executed(results)


def _drawn(results: "Results", errors: dict[str, str]) -> dict[str, bytes]:
    """All files but the notebook; in `errors`, by name, why some could not be made."""
    files: dict[str, bytes] = {}
    vectors: dict[str, bytes] = {}
    with _part("figures", errors):
        from densitometer.report import figures

        for name, draw in figures.ALL.items():
            with _part(f"figures/{name}", errors):
                figure = draw(results)
                vectors[name] = figures.render(figure, "pdf")
                files[f"figures/{name}.pdf"] = vectors[name]
                files[f"figures/{name}.png"] = figures.render(figure, "png")
    with _part("report.pdf", errors):
        from densitometer.report import writeup

        files["report.pdf"] = writeup.pdf(results, vectors)
    with _part("gallery.html", errors):
        from densitometer.report.gallery.page import page

        files["gallery.html"] = page(results)
    with _part("figures/sampling.svg", errors):
        from densitometer.report import animation

        files["figures/sampling.svg"] = animation.svg(results)
    return files
