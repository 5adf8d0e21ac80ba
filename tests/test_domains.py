"""Which values a hyper-parameter may have."""

import fractions
import math
from typing import Annotated, Literal, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from densitometer import domains
from densitometer.domains import Domain, Range
from densitometer.errors import UsageError
from densitometer.families import FAMILIES

Unit = Annotated[float, Range(at_least=0, at_most=1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("int", "a whole number"),
        ("Count", "a whole number from 1 to 65536"),
        ("float", "a number"),
        ("Positive", "a number above 0 and at most 1000000"),
        ("PositiveOrZero", "a number from 0 to 1000000"),
        ("Annotated[float, Range(at_least=0)]", "a number of at least 0"),
        ("Share", "a number above 0 and below 1"),
        ("ShareOrZero", "a number of at least 0 and below 1"),
        ("Noise | None", "a number from 1e-05 to 10000 or None"),
        ("None | Noise", "None or a number from 1e-05 to 10000"),
        ("Annotated[float, Range(above=0, at_most=1)]", "a number above 0 and at most 1"),
        ("Annotated[int, Range(at_least=2, at_most=65_536)]", "a whole number from 2 to 65536"),
        ("Literal['ode', 'langevin']", "'ode' or 'langevin'"),
        ("Literal['all'] | int", "'all' or a whole number"),
        ("bool", "True or False"),
        ("str", "text"),
    ],
)
def test_the_source_says_what_the_annotation_says(text, words):
    evaluated = eval(text, {**vars(domains), "Literal": Literal, "Annotated": Annotated})
    assert str(Domain.from_source(text)) == str(Domain.of(evaluated)) == words


@pytest.mark.parametrize(
    "text", ["list", "tuple[int, ...]", "complex", "Colour", "'int'", "int | 3"]
)
def test_an_annotation_of_another_kind_is_told_to_its_author(text):
    with pytest.raises(TypeError):
        Domain.from_source(text)


@pytest.mark.parametrize("name", FAMILIES)
def test_what_help_says_of_a_field_is_what_its_family_checks(name):
    hints = get_type_hints(FAMILIES[name], include_extras=True)
    for field in FAMILIES.fields(name):
        assert str(field.domain) == str(Domain.of(hints[field.name]))
        assert field.domain.plain(field.default) == field.default


@given(st.one_of(st.integers(), st.floats(), st.fractions()))
def test_a_number_is_in_its_range_or_refused(number):
    domain, inside = Domain.of(Unit), 0 <= number <= 1
    if inside:
        assert domain.plain(number) == float(number)
    else:
        with pytest.raises(ValueError, match="must be a number from 0 to 1, not "):
            domain.plain(number)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan, 10**400, True, "1", None, 1j])
def test_what_is_no_finite_number_is_none(number):
    with pytest.raises(ValueError, match="must be a number, not "):
        Domain.of(float).plain(number)


def test_values_become_plain():
    for value, annotation, plain in (
        (np.int64(3), int, 3),
        (np.float32(0.5), float, 0.5),
        (3, float, 3.0),
        (np.int8(3), float, 3.0),
        (fractions.Fraction(1, 4), float, 0.25),
        (np.str_("ode"), Literal["ode"], "ode"),
        (None, domains.Noise | None, None),
        (True, bool, True),
    ):
        got = Domain.of(annotation).plain(value)
        assert got == plain
        assert type(got) is type(plain)


@pytest.mark.parametrize("value", [3.0, np.float64(3), True, np.True_, np.array(3), "3", None])
def test_what_is_no_whole_number_is_none(value):
    with pytest.raises(ValueError, match="must be a whole number, not "):
        Domain.of(int).plain(value)


def test_words_of_the_command_line_are_read():
    either = Domain.from_source("Noise | None")
    assert [either.read(word) for word in ("none", "None", "1", "1e-2")] == [None, None, 1.0, 0.01]
    assert [Domain.of(bool).read(word) for word in ("true", "False")] == [True, False]
    assert Domain.from_source("Literal['ode', '1']").read("1") == "1"
    for domain, word in (("Noise | None", "nan"), ("Count", "1.0"), ("Share", "1"), ("Count", "")):
        with pytest.raises(ValueError, match=f"must be .*, not '{word}'"):
            Domain.from_source(domain).read(word)


def test_a_value_out_of_its_domain_is_a_sentence():
    with pytest.raises(UsageError, match=r"^n must be a whole number from 1 to 65536, not 0\.$"):
        Domain.of(domains.Count).checked(0, "n")


def test_a_sentence_shows_the_beginning_of_a_long_value_on_one_line():
    with pytest.raises(UsageError) as refused:
        Domain.of(domains.Count).checked(np.zeros((99, 3)), "n")
    sentence = str(refused.value)
    assert sentence.startswith("n must be a whole number from 1 to 65536, not array([[0., 0., 0.],")
    assert "\n" not in sentence
    assert len(sentence) < 100
