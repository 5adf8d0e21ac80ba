"""Build what is released, and use it as a stranger would. Quiet but for what fails.

The source distribution holds what git does; the wheel, which is built from it, the package and
nothing else. It is installed into an empty environment in a temporary folder, where nothing of the
checkout can be imported, and a small study there ends with all that a person is promised.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
METADATA = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
PROMISED = ("py.typed", "scoring/floors.json", "report/gallery/gallery.js", "report/report.typ")
STUDY = ("study", "--budget", "smoke", "--families", "vae", "gan", "--targets", "spiral")
WRITTEN = ("results.csv", "report.pdf", "gallery.html", "notebook.ipynb", "figures/samples.pdf")


def run(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """What a command prints; if it fails, that and its errors are printed, and all ends."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def compare(what: Path, holds: set[str], should: set[str]) -> None:
    """End with the differences, if there are any."""
    if lacks := sorted(should - holds):
        sys.exit(f"{what.name} lacks {', '.join(lacks)}.")
    if strange := sorted(holds - should):
        sys.exit(f"{what.name} holds {', '.join(strange)}, which nobody should get.")


def check_contents(sdist: Path, wheel: Path, tracked: set[str]) -> None:
    """See that both hold what they should, given the files that git knows."""
    with tarfile.open(sdist) as archive:
        names = {m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()}
    compare(sdist, names, tracked | {"PKG-INFO"})
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    package = {str(PurePosixPath(n).relative_to("src")) for n in tracked if n.startswith("src/")}
    package |= {f"densitometer/{name}" for name in PROMISED}
    name, version, *_ = wheel.name.split("-")
    compare(wheel, names, package | {f"{name}-{version}.dist-info/{part}" for part in METADATA})


def main() -> None:
    """Build, look into, install, use."""
    with tempfile.TemporaryDirectory() as folder:
        dist, env, away = (Path(folder) / name for name in ("dist", "env", "away"))
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, ROOT)
        [sdist], [wheel] = dist.glob("*.tar.gz"), dist.glob("*.whl")
        check_contents(sdist, wheel, set(run("git", "ls-files", "-z").rstrip("\0").split("\0")))

        run(sys.executable, "-m", "venv", env)
        pip = (env / "bin" / "python", "-m", "pip", "install", "-qq", "--disable-pip-version-check")
        run(*pip, "--constraint", ROOT / "constraints.txt", f"{wheel}[report]")
        away.mkdir()
        densitometer = env / "bin" / "densitometer"
        version = run(densitometer, "--version", cwd=away).strip()
        if f"-{version}-" not in wheel.name:
            sys.exit(f"{wheel.name} says that it is version {version}.")
        # With a cache of its own: what is missing in the package must not be found there.
        run(densitometer, *STUDY, "--out", "study", cwd=away, XDG_CACHE_HOME=f"{away}/cache")
        for name in WRITTEN:
            path = away / "study" / name
            if not path.is_file() or not path.stat().st_size:
                sys.exit(f"a study by the installed wheel leaves no {name}.")


if __name__ == "__main__":
    main()
