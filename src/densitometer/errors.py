"""The one exception that means "the person asked for something that cannot be done"."""

__all__ = ["UsageError"]


class UsageError(ValueError):
    """Bad input, told in one sentence that says what to do.

    The command line prints the sentence and exits with status 2; in Python it is an ordinary
    `ValueError`. Anything else that escapes is a bug of ours and keeps its traceback.
    """
