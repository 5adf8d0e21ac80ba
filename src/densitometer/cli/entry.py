"""The entry: the parser of all commands, signals, and the sentence that an error ends in."""

import argparse
import contextlib
import errno
import os
import signal
from collections.abc import Iterator, Sequence
from typing import NoReturn

import densitometer
from densitometer.cli import fit, list, log_prob, report, sample, score, study
from densitometer.cli.console import print_in_any_encoding, warn
from densitometer.cli.parsing import Parser
from densitometer.errors import UsageError

COMMANDS = (study, fit, sample, log_prob, score, report, list)

ENDING = tuple(getattr(signal, s) for s in ("SIGTERM", "SIGHUP") if hasattr(signal, s))
"""The signals that ask to end, other than Ctrl-C's; Windows has one of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status."""
    command = None
    print_in_any_encoding()
    try:
        with _ending_signals_raise():
            options, unknown = _parser().parse_known_args(arguments)
            if unknown:
                options.parser.refuse(unknown[0])
            command = options.command
            return options.run(options)
    except UsageError as error:
        return _end(2, " ".join(str(error).split()))
    except (KeyboardInterrupt, _Ended) as signalled:
        for again in (signal.SIGINT, *ENDING):
            signal.signal(again, signal.SIG_IGN)  # we are ending; asking twice changes nothing
        number = signalled.number if isinstance(signalled, _Ended) else signal.SIGINT
        hint = "; the same command continues where it was" if command == "study" else ""
        return _end(128 + number, f"stopped by {signal.Signals(number).name}{hint}.")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains when it flushes
        return 128 + getattr(signal, "SIGPIPE", 13)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):  # JAX's
            raise
        return _end(2, "not enough memory.")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return _end(2, f"cannot write {error.filename or 'a file'}: the disk is full.")


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="densitometer", description=(densitometer.__doc__ or "").split("\n")[0])
    parser.add_argument("--version", action="version", version=densitometer.__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return parser


class _Ended(BaseException):
    """The process was asked to end by a signal other than Ctrl-C."""

    def __init__(self, number: int):
        self.number = number


@contextlib.contextmanager
def _ending_signals_raise() -> Iterator[None]:
    """Unwind on SIGTERM and SIGHUP as on Ctrl-C; what is ignored (nohup) stays ignored."""

    def end(number: int, _: object) -> NoReturn:
        raise _Ended(number)

    before = {s: signal.getsignal(s) for s in ENDING}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(status: int, sentence: str) -> int:
    warn(sentence)
    return status
