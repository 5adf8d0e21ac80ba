"""Whether this checkout computes what another commit did, numbers and samples to the byte.

    python benchmarks/same.py COMMIT

A study of the smoke budget, and a standard cell each of a family whose density comes from an ODE
and of one that is an energy, run from the sources of COMMIT and from those of this checkout, with
the same interpreter. What the other has written in `results.csv` must stand here too, and each
array must hold the same bytes; more rows and more files may be here. The exit status is 1 if
anything differs. What COMMIT gives is kept in `build/same/`, for the next time.
"""

import argparse
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "same"

STUDIES = {
    "smoke": ["--budget", "smoke"],
    "ode": ["--families", "ddpm", "--targets", "pinwheel"],
    "energy": ["--families", "ebm", "--targets", "gaussian_mixture"],
}
"""Arguments of `densitometer study` by the name of the folder."""


def run(source: Path, out: Path) -> Path:
    """The studies, run by the package in `source`, in a folder of `out` each."""
    for name, arguments in STUDIES.items():
        command = [sys.executable, "-m", "densitometer", "study", "--out", str(out / name)]
        environment = os.environ | {"PYTHONPATH": str(source)}
        ran = subprocess.run(
            [*command, *arguments], env=environment, capture_output=True, text=True
        )
        if ran.returncode:
            raise SystemExit(f"{name}, from {source}:\n{ran.stdout}{ran.stderr}")
    return out


def of_commit(commit: str) -> Path:
    """What another commit gives, computed once."""
    kept = KEPT / _git("rev-parse", "--short", f"{commit}^{{commit}}")
    if not kept.is_dir():
        tree = KEPT / "tree"
        _git("worktree", "add", "--force", "--detach", str(tree), commit)
        try:
            partial = kept.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            run(tree / "src", partial).rename(kept)
        finally:
            _git("worktree", "remove", "--force", str(tree))
    return kept


def differences(old: Path, new: Path) -> list[str]:
    """What is no longer as it was, a line each."""
    found = []
    for name in STUDIES:
        before, now = (_rows(folder / name / "results.csv") for folder in (old, new))
        for key, values in before.items():
            if now.get(key) != values:
                found.append(f"{name}: {' '.join(key)} was {values}, is {now.get(key)}")
        for array in sorted((old / name).rglob("*.npy")):
            here = new / array.relative_to(old)
            if not here.is_file() or here.read_bytes() != array.read_bytes():
                found.append(f"{here.relative_to(new)} differs")
    return found


def _rows(path: Path) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Value, error and provenance, as they are written, by target, family, seed and metric."""
    rows = list(csv.reader(path.read_text("utf-8").splitlines()))[1:]
    return {tuple(row[:4]): tuple(row[4:7]) for row in rows}


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(ran.stderr.strip())
    return ran.stdout.strip()


def main() -> int:
    """Run the command line; the exit status is 1 if something differs."""
    parser = argparse.ArgumentParser(description="Compare what this checkout computes.")
    parser.add_argument("commit", help="with which; any name that git knows")
    old = of_commit(parser.parse_args().commit)
    new = KEPT / "here"
    shutil.rmtree(new, ignore_errors=True)
    found = differences(old, run(ROOT / "src", new))
    rows = sum(len(_rows(old / name / "results.csv")) for name in STUDIES)
    arrays = len(list(old.rglob("*.npy")))
    print("\n".join(found) or f"the same: {rows} numbers, {arrays} arrays")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
