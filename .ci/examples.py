"""Run the examples of documents, those of one file after another as one program.

Of Markdown the ``python`` blocks are run, and the commands of ``console`` blocks. Those stand after
a ``$`` and must print what the page says: ``…`` is anything, and a number may differ a little, as
it does between machines. Other blocks (``sh``, ``toml``) are only read. A .py is run.
"""

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from densitometer.system.processes import configure_numerics

NUMBER = r"[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
RELATIVE, ABSOLUTE = 0.05, 0.005


def blocks(text: str) -> list[tuple[str, int, str]]:
    """(language, lines above, content) of each fenced block."""
    fenced = re.finditer(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [(m[1], text.count("\n", 0, m.start(2)), m[2]) for m in fenced]


def run_console(content: str, where: str) -> None:
    """Run the commands of a console block and compare what they print."""
    for command, output in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", content, re.MULTILINE):
        env = os.environ | {"COLUMNS": "120"}
        done = subprocess.run(command, shell=True, capture_output=True, text=True, env=env)
        if done.returncode != 0:
            sys.exit(f"{where}: $ {command}\n{done.stdout}{done.stderr}")
        if not alike(output, done.stdout):
            sys.exit(f"{where}: $ {command}\nprints\n{done.stdout}\nand not\n{output}")


def alike(expected: str, printed: str) -> bool:
    """Whether a text is what a page expects it to be."""
    expected, printed = " ".join(expected.split()), " ".join(printed.split())
    parts = re.split(rf"({NUMBER}|…)", expected)
    pattern = "".join(
        ".*?" if part == "…" else f"({NUMBER})" if i % 2 else re.escape(part)
        for i, part in enumerate(parts)
    )
    found = re.fullmatch(pattern, printed)
    numbers = [float(part.replace("−", "-")) for part in parts[1::2] if part != "…"]
    return found is not None and all(
        math.isclose(a, float(b.replace("−", "-")), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        for a, b in zip(numbers, found.groups(), strict=True)
    )


def main(names: list[str]) -> None:
    """Run all examples of all files."""
    for name in names:
        text = Path(name).read_text(encoding="utf-8")
        words: dict[str, Any] = {"__name__": "example"}
        found = [("python", 0, text)] if name.endswith(".py") else blocks(text)
        for language, above, content in found:
            if language == "python":
                # As many lines before it as in the file, so that a traceback names the right one.
                exec(compile("\n" * above + content, name, "exec"), words)
            elif language == "console":
                run_console(content, f"{name}, line {above + 1}")


if __name__ == "__main__":
    configure_numerics()  # one thread a page, and what one has compiled is there for the next
    main(sys.argv[1:])
