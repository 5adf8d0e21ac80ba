"""Domains: the values that a hyper-parameter may have, stated by the annotation of its field.

    ema: Share = 0.1
    depth: Annotated[int, Range(at_least=1, at_most=100)] = 3
    sigma: Noise | None = None

A domain is made from the annotation itself or from its source text, so that help needs no JAX. The
text may use the names of this module and of Python's built-in types.
"""

import ast
import builtins
import contextlib
import dataclasses
import math
import numbers
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from densitometer.errors import UsageError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """The finite numbers between two ends."""

    above: float = -math.inf
    at_least: float = -math.inf
    below: float = math.inf
    at_most: float = math.inf

    def __contains__(self, number: float) -> bool:
        return self.above < number < self.below and self.at_least <= number <= self.at_most

    def __str__(self) -> str:
        ends = {name: end for name, end in vars(self).items() if abs(end) < math.inf}
        if list(ends) == ["at_least", "at_most"]:
            return f"from {self.at_least} to {self.at_most}"
        words = {"at_least": "of at least", "at_most": "at most"}
        return " and ".join(f"{words.get(name, name)} {end}" for name, end in ends.items())


# Whole numbers are bounded above so that no foreign file can ask for all memory there is, others
# because single precision is.

Steps = Annotated[int, Range(at_least=1, at_most=1_000_000_000)]
"""How often something is done."""

Count = Annotated[int, Range(at_least=1, at_most=65_536)]
"""How many of something."""

CountOrZero = Annotated[int, Range(at_least=0, at_most=65_536)]
"""The same, or none."""

Depth = Annotated[int, Range(at_least=1, at_most=100)]
"""Hidden layers of a network."""

Features = Annotated[int, Range(at_least=0, at_most=4096)]
"""Fourier features of a point, or none."""

Positive = Annotated[float, Range(above=0, at_most=1_000_000)]
"""A rate, a scale, a weight."""

PositiveOrZero = Annotated[float, Range(at_least=0, at_most=1_000_000)]
"""The same, or 0 for none."""

Share = Annotated[float, Range(above=0, below=1)]
"""A part of a whole, neither none nor all of it."""

ShareOrZero = Annotated[float, Range(at_least=0, below=1)]
"""The same, or none of it."""

Noise = Annotated[float, Range(at_least=1e-5, at_most=10_000)]
"""A standard deviation of noise, in standardised units, that single precision can resolve."""


@dataclasses.dataclass(frozen=True)
class Domain:
    """The values of any of some kinds; its text says in words what a value must be."""

    kinds: tuple[Any, ...]
    """Annotations: `None`, text, a truth value, words to choose from, or numbers in a range."""

    @classmethod
    def of(cls, annotation: Any) -> "Domain":
        """The domain of an annotation.

        Raises:
            TypeError: a hyper-parameter cannot be annotated so.
        """
        union = get_origin(annotation) in (Union, UnionType)
        domain = cls(get_args(annotation) if union else (annotation,))
        for kind in domain.kinds:
            base, _ = _base_and_range(kind)
            if base not in _WORDS and get_origin(base) is not Literal:
                known = "int, float, bool, str, None, Literal and the names in densitometer.domains"
                raise TypeError(f"a hyper-parameter is annotated by {known}, not by {annotation}")
        return domain

    @classmethod
    def from_source(cls, text: str) -> "Domain":
        """The domain of an annotation's source text.

        Raises:
            TypeError: a hyper-parameter cannot be annotated so.
        """
        return cls.of(_evaluated(ast.parse(text, mode="eval").body))

    def __str__(self) -> str:
        return " or ".join(map(_in_words, self.kinds))

    def plain(self, value: Any) -> Any:
        """The value as plain Python, which JSON can write: NumPy's numbers become Python's.

        A whole number is a number too, a truth value is none.

        Raises:
            ValueError: the value is not in the domain.
        """
        for kind in self.kinds:
            base, allowed = _base_and_range(kind)
            if base is NoneType and value is None:
                return None
            if base is bool and isinstance(value, bool):
                return value
            if isinstance(value, str) and (base is str or value in get_args(base)):
                return str(value)
            number: Any = numbers.Integral if base is int else numbers.Real
            if base in (int, float) and isinstance(value, number) and not isinstance(value, bool):
                with contextlib.suppress(OverflowError):  # a whole number beyond all floats
                    if (plain := base(value)) in allowed:
                        return plain
        shown = " ".join(repr(value).split())[:50]
        raise ValueError(f"must be {self}, not {shown}")

    def checked(self, value: Any, name: str) -> Any:
        """The value as `plain` gives it.

        Raises:
            UsageError: the value is not in the domain; the sentence begins with `name`.
        """
        try:
            return self.plain(value)
        except ValueError as error:
            raise UsageError(f"{name} {error}.") from None

    def read(self, word: str) -> Any:
        """The value that a word on the command line stands for.

        Raises:
            ValueError: it stands for none of the domain.
        """
        constants = {"none": None, "true": True, "false": False}
        for reading in (lambda word: constants[word.lower()], int, float, str):
            with contextlib.suppress(KeyError, ValueError):
                return self.plain(reading(word))
        raise ValueError(f"must be {self}, not '{word}'")


_WORDS = {
    NoneType: "None",
    bool: "True or False",
    str: "text",
    int: "a whole number",
    float: "a number",
}


def _base_and_range(kind: Any) -> tuple[Any, Range]:
    """The type of a kind's annotation, and its range."""
    if kind is None:
        return NoneType, Range()
    base, *metadata = get_args(kind) if get_origin(kind) is Annotated else (kind,)
    return base, next((m for m in metadata if isinstance(m, Range)), Range())


def _in_words(kind: Any) -> str:
    base, allowed = _base_and_range(kind)
    words = _WORDS.get(base) or " or ".join(map(repr, get_args(base)))
    return f"{words} {allowed}".rstrip()


def _evaluated(node: ast.expr) -> Any:
    """The value of an annotation's syntax, found without running any code."""
    match node:
        case ast.Constant(None):
            return None
        case ast.Name(name):
            return globals().get(name) or getattr(builtins, name, name)
        case ast.BinOp(left, ast.BitOr(), right):
            return _evaluated(left) | _evaluated(right)
        case ast.Subscript(ast.Name("Literal"), words):
            return Literal[ast.literal_eval(words)]
        case ast.Subscript(ast.Name("Annotated"), ast.Tuple([base, ast.Call(keywords=ends)])):
            range_ = Range(**{str(end.arg): ast.literal_eval(end.value) for end in ends})
            return Annotated[_evaluated(base), range_]
    return ast.unparse(node)
