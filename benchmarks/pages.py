"""Tables in pages: what a benchmark writes stands between two marks."""

from collections.abc import Iterable
from pathlib import Path


def fill(page: Path, mark: str, lines: Iterable[str]) -> None:
    """Put lines between ``<!-- mark -->`` and ``<!-- end of mark -->``."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(f"<!-- {mark} -->\n")
    _, end, tail = rest.partition(f"<!-- end of {mark} -->")
    if not end:
        raise ValueError(f"{page} has no marks for {mark}.")
    page.write_text(head + begin + "\n" + "\n".join(lines) + "\n\n" + end + tail, encoding="utf-8")
