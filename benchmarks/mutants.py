"""Break the code on purpose, one line at a time, and see that a test notices.

`tests/mutants.toml` lists the mutations, each with the tests that must fail. Each is made in a copy
of the package; what no test notices is printed, and the exit status is then 1. A quarter of an hour
on two cores:

    make mutants
    make mutants ARGS="--only floors.py"
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LISTED = ROOT / "tests" / "mutants.toml"


class Mutant(NamedTuple):
    """A mutation of one file of the package, and what of the tests must fail."""

    file: str
    old: str
    new: str
    tests: str

    def __str__(self) -> str:
        return f"{self.file}: {self.old.strip()!r} → {self.new.strip()!r}"


def listed(path: Path = LISTED) -> list[Mutant]:
    """The mutations of a file.

    Raises:
        ValueError: what one replaces is not in its file just once.
    """
    mutants = [Mutant(**entry) for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]]
    for mutant in mutants:
        times = (ROOT / "src" / "densitometer" / mutant.file).read_text("utf-8").count(mutant.old)
        if times != 1:
            raise ValueError(f"{mutant.file} has {times} times {mutant.old!r}, not once")
    return mutants


def failing(copy: Path, tests: Sequence[str]) -> bool:
    """Whether some tests fail in a copy of the checkout.

    Raises:
        RuntimeError: there are no such tests.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | threads | {"PYTHONPATH": str(copy / "src")}
    ran = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    if ran.returncode not in (0, 1, 2):  # 2: a module that cannot be imported is noticed, too
        raise RuntimeError(f"{' '.join(tests)} cannot be run:\n{ran.stdout}{ran.stderr}")
    return ran.returncode != 0


def copied(folder: Path) -> Path:
    """A copy of what tests need, which shares the tests' compiled programs."""
    for name in ("src", "tests", "benchmarks", "docs", ".ci"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "Makefile"):
        shutil.copy(ROOT / name, folder)
    (ROOT / ".pytest_cache").mkdir(exist_ok=True)
    (folder / ".pytest_cache").symlink_to(ROOT / ".pytest_cache")
    return folder


def noticed(copy: Path, mutant: Mutant) -> bool:
    """Whether the tests of a mutant fail when it is made."""
    path = copy / "src" / "densitometer" / mutant.file
    sound = path.read_text("utf-8")
    path.write_text(sound.replace(mutant.old, mutant.new), "utf-8")
    try:
        return failing(copy, shlex.split(mutant.tests))
    finally:
        path.write_text(sound, "utf-8")


def main() -> int:
    """Make them all; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="mutants of files whose path has this in it")
    parser.add_argument("--workers", type=int, default=2, help="copies that are tested at once")
    options = parser.parse_args()
    mutants = [mutant for mutant in listed() if options.only in mutant.file]
    survivors: list[Mutant] = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.workers) as pool:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(options.workers):
            copies.put(copied(Path(folder) / str(number)))

        def run(tests: str, mutant: Mutant | None) -> bool:
            copy = copies.get()
            try:
                return (
                    failing(copy, shlex.split(tests)) if mutant is None else noticed(copy, mutant)
                )
            finally:
                copies.put(copy)

        chosen = sorted({mutant.tests for mutant in mutants})
        broken = list(pool.map(lambda tests: run(tests, None), chosen))
        for tests in (tests for tests, fails in zip(chosen, broken, strict=True) if fails):
            print(f"fails without a mutant: {tests}")
        if any(broken):
            return 1
        for mutant, seen in zip(
            mutants, pool.map(lambda mutant: run(mutant.tests, mutant), mutants), strict=True
        ):
            if not seen:
                survivors.append(mutant)
                print(f"not noticed by {mutant.tests}: {mutant}", flush=True)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants were noticed")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
