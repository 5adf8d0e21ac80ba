"""The list of mutants is of this code: `make mutants` runs them."""

from pathlib import Path

import pytest

import mutants


def test_every_mutant_can_be_made_and_has_its_tests():
    found = mutants.listed()
    assert len(found) >= 100
    for mutant in found:
        assert mutant.old != mutant.new
        path = mutant.tests.split()[0].partition("::")[0]
        assert (Path(__file__).parents[1] / path).exists(), mutant.tests


def test_a_mutant_of_other_code_is_told(tmp_path):
    path = tmp_path / "mutants.toml"
    path.write_text(
        '[[mutant]]\nfile = "blocks/optim.py"\nold = "nowhere"\nnew = ""\ntests = "tests"\n'
    )
    with pytest.raises(ValueError, match=r"blocks/optim.py has 0 times 'nowhere', not once"):
        mutants.listed(path)
