"""Execute a percent-format script as a notebook, and keep it with its outputs beside the script."""

import os
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

TIMEOUT = 300
"""Seconds that one cell may take."""


def main(name: str) -> None:
    """Write ``x.ipynb`` beside ``x.py``."""
    source = Path(name)
    notebook = jupytext.read(source)
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02d}"  # random by default
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    with tempfile.TemporaryDirectory() as folder:
        # Sockets in a private folder where the system has them, rather than open ports.
        ipc = {"transport": "ipc", "ip": f"{folder}/kernel"} if os.name == "posix" else {}
        NotebookClient(
            notebook,
            config=Config({"ConnectionFileMixin": ipc}),
            timeout=TIMEOUT,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        ).execute()
    nbformat.write(notebook, source.with_suffix(".ipynb"))


if __name__ == "__main__":
    main(sys.argv[1])
