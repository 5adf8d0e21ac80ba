"""What people look at: figures, a write-up and a notebook, drawn from a study's folder.

Only `build` imports Matplotlib and Typst, which come with ``pip install 'densitometer[report]'``.
"""

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from densitometer.errors import UsageError

if TYPE_CHECKING:
    from densitometer.report.results import Results

__all__ = ["build"]

_NEEDED = ("matplotlib", "typst", "jupytext", "nbclient", "ipykernel")


def build(folder: Path | str) -> list[Path]:
    """Write the report of the study in `folder`, finished or not, into that folder.

    The same results give the same bytes.

    Returns:
        The paths written: ``figures/*.pdf``, ``*.png`` and ``sampling.svg``, ``report.pdf``,
        ``gallery.html``, and ``notebook.ipynb``, executed.

    Raises:
        UsageError: there is no study in `folder` or no finished cell, the folder cannot be
            written, or a package of the extra ``report`` is missing.
    """
    folder = Path(folder)
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"a report needs {', '.join(missing)}; get it with pip install 'densitometer[report]'."
        )
    from densitometer.files import write_file
    from densitometer.report import notebook
    from densitometer.report.results import Results

    results = Results.read(folder)
    with ThreadPoolExecutor(1) as aside:  # a notebook runs in a process of its own
        run = aside.submit(notebook.executed, results)
        files = _drawn(results)
        files["notebook.ipynb"] = run.result()
    for name, content in files.items():
        write_file(folder / name, content)
    return [folder / name for name in files]


def _drawn(results: "Results") -> dict[str, bytes]:
    from densitometer.report import animation, figures, gallery, writeup

    drawn = {name: draw(results) for name, draw in figures.ALL.items()}
    vectors = {name: figures.render(figure, "pdf") for name, figure in drawn.items()}
    files = {f"figures/{name}.pdf": content for name, content in vectors.items()}
    files |= {f"figures/{name}.png": figures.render(f, "png") for name, f in drawn.items()}
    files["report.pdf"] = writeup.pdf(results, vectors)
    files["gallery.html"] = gallery.page(results)
    files["figures/sampling.svg"] = animation.svg(results)
    return files
