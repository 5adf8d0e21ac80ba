"""Numbers as text, with no more digits than their error justifies."""

import math

MINUS = "\N{MINUS SIGN}"
NBSP = "\N{NO-BREAK SPACE}"
_WORDS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)


def split(value: float, error: float, *, scale: float = 1.0) -> tuple[str, str]:
    """A value and its error as two strings with the same decimals; the error "" if there is none.

    The error has one significant digit, two if the first is 1 (0.0123 → 0.012, 0.047 → 0.05).
    A value whose error is 0 or unknown has six significant digits.

    Args:
        value: the number.
        error: its standard error or spread, same unit.
        scale: a factor for both, e.g. 100 for per cent.
    """
    value, error = value * scale, error * scale
    if not math.isfinite(value):
        return ("n/a" if math.isnan(value) else "∞" if value > 0 else f"{MINUS}∞"), ""
    if not math.isfinite(error) or error <= 0:
        return _signed(f"{value:.6g}"), ""
    decimals = -math.floor(math.log10(error))
    if f"{error:.0e}"[0] == "1":
        # 0.096 rounds to 0.10, one place above its own first digit.
        decimals = -math.floor(math.log10(float(f"{error:.0e}"))) + 1
    decimals = max(decimals, 0)
    if decimals > 6:
        return _signed(f"{value:.6g}"), f"{error:.0e}"
    return _signed(f"{value:.{decimals}f}"), f"{error:.{decimals}f}"


def plus_minus(value: float, error: float, *, scale: float = 1.0, unit: str = "") -> str:
    """``0.088 ± 0.004``, with `unit` appended if there is one; never broken across lines."""
    text, spread = split(value, error, scale=scale)
    return (f"{text}{NBSP}±{NBSP}{spread}" if spread else text) + (NBSP + unit if unit else "")


def interval(value: float, low: float, high: float) -> str:
    """``0.012 [0.004, 0.020]``, with the digits that a quarter of its length justifies."""
    text, error = split(value, (high - low) / 4)
    if not error:
        return text
    places = len(error.partition(".")[2])
    return f"{text} [{_signed(f'{low:.{places}f}')}, {_signed(f'{high:.{places}f}')}]"


def span(low: float, high: float) -> str:
    """``0.991 to 0.994``, to two significant digits of the difference."""
    if not (math.isfinite(low) and math.isfinite(high)) or low == high:
        return f"{low:.4g} to {high:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(high - low)))
    return f"{_signed(f'{low:.{decimals}f}')} to {_signed(f'{high:.{decimals}f}')}"


def count(n: int) -> str:
    """A whole number with its thousands separated: 20,000."""
    return f"{n:,}"


def in_words(n: int) -> str:
    """A small count in a sentence: seven; from thirteen on in digits."""
    return _WORDS[n] if n < len(_WORDS) else count(n)


def listed(words: list[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def _signed(text: str) -> str:
    # The sign of "−0.000" means nothing.
    if text.startswith("-") and not text.strip("-0."):
        text = text[1:]
    return text.replace("-", MINUS)
