"""The one exception that means "the person asked for something that cannot be done"."""

import traceback

__all__ = ["UsageError"]


class UsageError(ValueError):
    """Bad input, told in one sentence that says what to do.

    The command line prints the sentence and exits with status 2; in Python it is an ordinary
    `ValueError`. Anything else that escapes is a bug of ours and keeps its traceback.
    """


def cause(error: BaseException) -> str:
    """What kind of error it is and what it says, in one line: "ValueError: this cell is ill".

    Notes that libraries add to an error do not belong to it. Of one that says nothing it is the
    line that raised it.
    """
    says = str(error).strip().splitlines()
    if not says:
        frames = traceback.extract_tb(error.__traceback__)
        says = [frames[-1].line or frames[-1].name] if frames else [""]
    return f"{type(error).__name__}: {says[0]}".rstrip(": ")
