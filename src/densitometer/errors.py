"""The exception of bad input, and how any other is described in one line."""

import traceback

__all__ = ["UsageError"]


class UsageError(ValueError):
    """Bad input: one sentence that says what is wrong and what to do.

    The command line prints the sentence and exits with status 2; in Python it is an ordinary
    `ValueError`. Any other exception that escapes is a bug of ours and shows its traceback.
    """


def cause(error: BaseException) -> str:
    """The type of an error and what it says, in one line: "ValueError: this cell is ill".

    Notes that libraries add to an error are left out. For an error without a message, the line of
    code that raised it stands in its place.
    """
    says = str(error).strip().splitlines()
    if not says:
        frames = traceback.extract_tb(error.__traceback__)
        says = [frames[-1].line or frames[-1].name] if frames else [""]
    return f"{type(error).__name__}: {says[0]}".rstrip(": ")
