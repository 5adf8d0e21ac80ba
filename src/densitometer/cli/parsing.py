"""The parser of arguments, whose complaints are one sentence, and how a command is added to it."""

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NoReturn

from densitometer.errors import UsageError


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence that names the nearest right word."""

    def __init__(self, **settings: Any):
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        """Complain.

        Raises:
            UsageError: the complaint, and where to find help.
        """
        raise UsageError(f"{message}; see {self.prog} --help.")

    def refuse(self, word: str) -> NoReturn:
        """Complain about an unknown word.

        Raises:
            UsageError: the complaint.
        """
        if not word.startswith("-"):
            self.error(f"'{word}' is one word too many")
        name = word.split("=")[0]
        self.error(f"there is no option '{name}'{_nearest(name, self._option_string_actions)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.metavar or action.dest
            hint = _nearest(str(value), action.choices) or f", only {', '.join(action.choices)}"
            self.error(f"there is no {str(name).lower()} '{value}'{hint}")


def add_command(
    commands: Any, name: str, run: Callable[..., int], summary: str, **settings: Any
) -> Callable[..., Any]:
    """Add a command that `run` carries out; returns what adds arguments to it."""
    summary = summary.replace("%", "%%")
    parser = commands.add_parser(name, help=summary, description=summary, **settings)
    parser.set_defaults(run=run, parser=parser)
    return parser.add_argument


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read(word: str) -> int:
        if not (word.isascii() and word.isdigit() and least <= int(word) <= most):
            raise argparse.ArgumentTypeError(f"'{word}' is no whole number from {least} to {most}")
        return int(word)

    return read


def _nearest(word: str, words: Any) -> str:
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.5)
    return f", did you mean '{near[0]}'?" if near else ""
