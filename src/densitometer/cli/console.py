"""What commands print with: standard output in any encoding, and sentences on standard error."""

import codecs
import io
import sys
import unicodedata
from typing import Any

_PLAIN = {
    "±": "+-", "–": "-", "−": "-", "×": "x", "≈": "~", "≤": "<=", "≥": ">=", "→": "->",
    "²": "^2", "½": "1/2", "‖": "||", "√": "sqrt ", "∫": "int ", "Σ": "sum ", "∇": "grad ",
    "δ": "delta", "ε": "eps", "σ": "sigma", "’": "'", "“": '"', "”": '"', "…": "...",
}  # fmt: skip
"""What is printed for a character that the encoding of an output lacks."""


def print_in_any_encoding() -> None:
    """Print the nearest plain character where the encoding of an output lacks one."""
    codecs.register_error("densitometer", _in_plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="densitometer")


def warn(sentence: str) -> None:
    """Print a sentence on standard error."""
    print(f"densitometer: {sentence}", file=sys.stderr)


def new_console() -> Any:
    """A rich console that prints text as it is."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def count(n: int, noun: str) -> str:
    """A number of things, as "1 process" or "2 processes"."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{n} {noun if n == 1 else plural}"


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    plain = ""
    for letter in error.object[error.start : error.end]:
        base = unicodedata.normalize("NFKD", letter)[0]
        plain += _PLAIN.get(letter, base if base.isascii() else "?")
    return plain, error.end
