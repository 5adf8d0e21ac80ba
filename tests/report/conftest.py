import shutil
from pathlib import Path

import fabricated
import pytest

from densitometer.findings.results import Results


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory) -> Path:
    """A complete study; read only."""
    return fabricated.fabricate(tmp_path_factory.mktemp("finished") / "study")


@pytest.fixture
def study(finished_study, tmp_path) -> Path:
    """A copy of the complete study, to plant results in."""
    return Path(shutil.copytree(finished_study, tmp_path / "study"))


@pytest.fixture
def plant(study):
    """Plant numbers in the copy: plant(target, family, metric=(value, stderr)); the results."""

    def planted(target: str, family: str, **values) -> Results:
        fabricated.rewrite(study, target, family, **values)
        return Results.read(study)

    return planted
