"""Files that are whole or absent, and points read from files made by anything."""

import contextlib
import csv
import errno
import functools
import hashlib
import io
import itertools
import json
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from densitometer.errors import UsageError

PARTIAL = ".partial"
"""Suffix of whatever is being written, and so of what a killed run leaves behind."""

MANIFEST = "manifest.json"
"""Name of the file that lists the files of a folder and their hashes."""

ASIDE = ".damaged"
"""Suffix of a folder in which something was not as it was written."""

FORMATS = (".npy", ".csv")

ONE_A_LINE = (
    "give one point a line, as in 0.5,1.5, below a line of names or none, without row names"
)

VALUES = ("na", "n/a", "null", "none", "true", "false")
"""Words that tables use as values: a first line of these is not a line of names."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` (no permission, full disk, a file in the way) into a sentence.

    Raises:
        UsageError: the sentence.
    """
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"cannot write {path}: {(error.strerror or str(error)).lower()}."
        ) from None


def write_file(path: Path, content: bytes) -> None:
    """Write a file, atomically: whoever reads `path` sees the old content or the new.

    Of several processes that write it at once each succeeds, and the last one's content stays.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as partial:
            _write(partial, content)
            os.replace(partial, path)
        _sync(path.parent)


def write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files, atomically: it appears whole, in place of one already there.

    Of several processes that write it at once each succeeds, and the last one's files stay.
    """
    with writing(path), _partial(path) as partial, _partial(path) as old:
        partial.mkdir(parents=True)
        for name, content in files.items():
            _write(partial / name, content)
        _sync(partial)
        while not _renamed(partial, path):
            old.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # another writer was as quick
                os.replace(path, old / secrets.token_hex(4))
        _sync(path.parent)


def sealed(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files, and beside them a `MANIFEST` with the SHA-256 of each, in hexadecimal."""
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return {**files, MANIFEST: (json.dumps(digests, indent=2) + "\n").encode()}


def read_sealed(folder: Path) -> dict[str, bytes]:
    """The files that `sealed` listed, each as it was written.

    Raises:
        UsageError: a sentence that names the first file which is not.
    """
    try:
        digests = json.loads((folder / MANIFEST).read_bytes())
        wanted = {str(name): str(digest) for name, digest in digests.items()}
    except FileNotFoundError:
        raise UsageError(f"{folder} has no {MANIFEST}.") from None
    except (OSError, ValueError, AttributeError, RecursionError):
        raise UsageError(f"{folder / MANIFEST} is damaged.") from None
    files = {}
    for name, digest in wanted.items():
        if name != Path(name).name:
            raise UsageError(f"{folder / MANIFEST} names files that are not beside it.")
        try:
            files[name] = (folder / name).read_bytes()
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"{folder / name} cannot be read: {why}.") from None
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise UsageError(f"{folder / name} is not as it was written.")
    return files


def set_aside(folder: Path) -> Path:
    """Rename a folder so that its place is free; returns where it is now."""
    aside = folder.with_name(f"{folder.name}{ASIDE}")
    with writing(folder):
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        _sync(folder.parent)
    return aside


def remove_partial(folder: Path) -> None:
    """Remove what killed runs left half-written anywhere under `folder`."""
    with writing(folder):
        for path in list(folder.rglob(f".*{PARTIAL}")):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def check_writable(path: Path) -> Path:
    """Return `path` if a file can be written there: to be asked before a long computation.

    Raises:
        UsageError: it cannot, or its name is not that of a file of points.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"the name of {path} must end in {' or '.join(FORMATS)}.")
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder.")
    check_folder(path.parent)
    return path


def check_folder(path: Path) -> Path:
    """Return `path`, made with its parents, if files can be written into it.

    Raises:
        UsageError: they cannot.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        # On a file system without nameless files it has a name for a moment.
        tempfile.TemporaryFile(dir=path, prefix=".", suffix=PARTIAL).close()
    return path


def cache_folder() -> Path | None:
    """The folder for what can be computed again, shared by all runs; None if there is none."""
    try:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # nobody, without a home
        return None
    return caches / "densitometer"


def keep_in_cache(name: str, content: bytes) -> None:
    """Cache under a name what can be computed again.

    A failure to do so is reported on standard error, once a process, and has no other effect.
    """
    folder = cache_folder()
    try:
        if folder is None:
            raise UsageError("there is no home directory.")
        write_file(folder / name, content)
    except UsageError as error:
        _warn_uncached(folder, str(error).rstrip("."))


def read_from_cache(name: str) -> bytes | None:
    """What is cached under a name, None if nothing can be read there."""
    folder = cache_folder()
    try:
        return None if folder is None else (folder / name).read_bytes()
    except OSError:
        return None


@functools.cache
def _warn_uncached(folder: Path | None, why: str) -> None:
    print(
        f"densitometer: {why}; what was measured is not kept for the next time, set XDG_CACHE_HOME "
        "to a folder that can be written.",
        file=sys.stderr,
    )


def write_points(path: Path, array: Any) -> None:
    """Write an array as float32, to ``.npy`` or ``.csv``: either is read back without loss."""
    file, array = io.BytesIO(), np.asarray(array, np.float32)
    if path.suffix == ".npy":
        np.save(file, array, allow_pickle=False)
    else:
        # With a decimal point, so that a row of whole numbers is not taken for column numbers.
        np.savetxt(file, array, fmt="%#.9g", delimiter=",")
    write_file(path, file.getvalue())


def read_points(path: Path) -> np.ndarray:
    """The array in a ``.npy`` file, of whatever type, or the numbers of a ``.csv`` as float64.

    Nothing in the file is executed, and a ``.npy`` takes no more memory than the file has bytes.

    A ``.csv`` has one point a line, numbers with a decimal point between commas; row k is line k,
    or line k + 1 below a line of names. No line is skipped: an empty one, one of another length, or
    one of anything but finite numbers is refused. The first line may be one of names, which begin
    with a letter; column numbers could be names or a point, so they are refused too.

    Raises:
        UsageError: the file is missing, of another kind, damaged or refused.
    """
    if path.suffix not in FORMATS:
        raise UsageError(f"cannot read {path}: give a file of points that ends in .npy or .csv.")
    try:
        return _read_npy(path) if path.suffix == ".npy" else _read_csv(path)
    except UsageError as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    except Exception:  # whatever a damaged file makes a parser raise
        raise UsageError(f"cannot read {path}: it is damaged or no {path.suffix} file.") from None


def _read_npy(path: Path) -> np.ndarray:
    # Mapped, so that a header which promises more than the file holds is refused at once.
    return np.array(np.lib.format.open_memmap(path, mode="r"))


def _read_csv(path: Path) -> np.ndarray:
    with path.open(encoding="utf-8-sig") as file:
        rows = _Rows(file)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # no rows: the caller checks how many there are
            try:
                array = np.loadtxt(rows, delimiter=",", comments=None, ndmin=2)
            except (UsageError, UnicodeDecodeError):
                raise
            except ValueError:  # in the line that was read last
                raise rows.refusal(rows.line.split(",")) from None
    if not len(array):
        return np.empty((0, rows.width))
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        row, column = bad[0]
        number = row + 1 + rows.named
        raise UsageError(
            f"line {number} has {array[row, column]}, no finite number; remove that line."
        )
    return array


class _Rows:
    """The lines of a ``.csv`` that are points, each with as many words as the first line."""

    def __init__(self, lines: Iterator[str]):
        self.number, self.line = 1, next(lines, "")
        if not self.line:
            raise UsageError(f"it is empty; {ONE_A_LINE}.")
        self.lines = lines
        words = [w.strip() for w in next(csv.reader([self.line], skipinitialspace=True))]
        self.named = self._are_names(words)
        self.width = len(words) if self.named else self.line.count(",") + 1

    def __iter__(self) -> Iterator[str]:
        rows = self.lines if self.named else itertools.chain([self.line], self.lines)
        for number, line in enumerate(rows, 1 + self.named):
            if line.isspace():
                raise UsageError(f"line {number} is empty; {ONE_A_LINE}.")
            words = line.count(",") + 1
            if words != self.width:
                values = "value" if words == 1 else "values"
                raise UsageError(
                    f"line {number} has {words} {values}, line 1 has {self.width}; {ONE_A_LINE}."
                )
            self.number, self.line = number, line
            yield line

    def refusal(self, words: list[str]) -> UsageError:
        """The sentence about the first of the last line's words that is no number."""
        word = next((word for word in words if not _is_number(word.strip())), self.line)
        return UsageError(
            f"line {self.number} has {word.strip()[:20]!r}, which is no number; {ONE_A_LINE}."
        )

    def _are_names(self, words: list[str]) -> bool:
        """Whether the first line is one of names.

        Raises:
            UsageError: it may be or not, or is neither all names nor all numbers.
        """
        if words and all(map(_is_name, words)):
            return True
        if not words or not all(map(_is_number, words)):
            raise self.refusal(words)
        if words in ([str(i + first) for i in range(len(words))] for first in (0, 1)):
            point = ",".join(f"{word}.0" for word in words[:3]) + ",…" * (len(words) > 3)
            raise UsageError(
                f"line 1 has column numbers, which may be names or a point; remove it if they are "
                f"names, or write the point as {point}."
            )
        return False


def _is_number(word: str) -> bool:
    """Whether a word is a number to every reader, not only to Python as 1_000 is."""
    try:
        return word.isascii() and "_" not in word and bool([float(word)])
    except ValueError:
        return False


@contextlib.contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A unique name beside `path`; whatever still has it at the end is removed."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        yield partial
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                partial.unlink()


def _renamed(folder: Path, path: Path) -> bool:
    """Rename a folder, unless there is one with files in its new place."""
    try:
        os.replace(folder, path)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _is_name(word: str) -> bool:
    """Whether a word can only be a name: it has a letter before any digit and is no value."""
    letter = next((c for c in word if c.isalnum()), "")
    return letter.isalpha() and not _is_number(word) and word.lower() not in VALUES


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut, where the system can open folders."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
