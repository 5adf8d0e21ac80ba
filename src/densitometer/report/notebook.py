"""The notebook: the report cell by cell, executed, with its outputs.

The source is the percent-format script ``notebook.txt`` beside this file.
"""

import asyncio
import os
import tempfile
from importlib import resources

import jupytext
import matplotlib
import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import NotebookNode

from densitometer.findings.results import Results

TIMEOUT = 300
"""Seconds that one cell may take."""


def source() -> NotebookNode:
    """The notebook before it is run."""
    text = resources.files("densitometer.report").joinpath("notebook.txt").read_text("utf-8")
    notebook = jupytext.reads(text, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell.id = f"cell-{index:02d}"  # random by default
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
    }
    return notebook


def executed(results: Results) -> bytes:
    """The notebook run in the study's folder; the same study gives the same bytes."""
    notebook = source()
    with tempfile.TemporaryDirectory() as profile:
        # The kernel is this Python, whatever kernels are installed, with a profile and settings of
        # its own; it finds the font cache of Matplotlib that this process has filled.
        manager = AsyncKernelManager(
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            connection_file=f"{profile}/connection.json",
            **_transport(profile),
        )
        own = {
            "IPYTHONDIR": profile,
            "MATPLOTLIBRC": f"{matplotlib.get_data_path()}/matplotlibrc",
            "MPLCONFIGDIR": matplotlib.get_configdir(),
            "MPLBACKEND": "",
            "PYTHONSTARTUP": "",
            "PYTHONWARNINGS": "",
            "JAX_PLATFORMS": "cpu",
        }
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=TIMEOUT,
            record_timing=False,
            resources={"metadata": {"path": str(results.folder)}},
        )
        asyncio.run(client.async_execute(cleanup_kc=True, env={**os.environ, **own}))
    return nbformat.writes(notebook).encode() + b"\n"


def _transport(folder: str) -> dict[str, str]:
    """Sockets in a private folder where the system has them, rather than open ports."""
    return {"transport": "ipc", "ip": f"{folder}/kernel"} if os.name == "posix" else {}
