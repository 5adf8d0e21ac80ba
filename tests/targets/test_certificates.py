"""What is certain of a target, with any parameters: held against quadratures of other densities."""

import dataclasses
import functools
import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from target_oracles import LOG_DENSITIES, Cells, disc_cells, square_cells

import densitometer as dm
from densitometer.metrics.own_samples import LogTrueDensity
from densitometer.metrics.support import OffSupport
from densitometer.models import batched
from densitometer.scoring.scorecard import score_samples
from densitometer.system.files import cache_folder
from densitometer.targets import certificate
from densitometer.targets.base import Target
from densitometer.targets.certificate import Certificate, certify
from densitometer.targets.checkerboard import Checkerboard
from densitometer.targets.gaussian_mixture import GaussianMixture
from densitometer.targets.pinwheel import Pinwheel
from densitometer.targets.rings import Rings
from densitometer.targets.spiral import Spiral
from densitometer.targets.swiss_roll import SwissRoll
from densitometer.targets.two_moons import TwoMoons

SIZE = 100_000
"""Draws behind a certificate here: its errors are twice those of `certificate.N`."""

OTHERS: dict[Target, Callable[[], Cells]] = {
    GaussianMixture(noise=0.36): lambda: square_cells(4.5, 0.25, 6),
    GaussianMixture(components=3): lambda: square_cells(2.5, 0.1, 6),
    GaussianMixture(radius=30.0, noise=5.0): lambda: square_cells(80.0, 4.0, 6),
    Spiral(turns=2.0, noise=0.1): lambda: square_cells(1.6, 0.1, 6),
    Spiral(turns=1.0, growth=0.5, noise=0.5): lambda: square_cells(7.5, 0.5, 6),
    Pinwheel(arms=5, noise=0.3): lambda: disc_cells(20, 60, 6),
    Pinwheel(arms=2, twist=1.0, noise=3.0): lambda: disc_cells(20, 60, 6),
    Checkerboard(squares=6, side=0.5): lambda: square_cells(2.0, 0.5, 2),
    Checkerboard(squares=2, side=3.0): lambda: square_cells(4.5, 1.5, 2),
    TwoMoons(radius=2.0, noise=0.4): lambda: square_cells(6.0, 0.4, 4),
    Rings(count=2, radius=1.0, noise=0.3): lambda: square_cells(3.0, 0.3, 4),
    SwissRoll(start=0.5, turns=1.0, growth=0.3, noise=0.4): lambda: square_cells(6.0, 0.4, 4),
}
"""Targets of other parameters than the default ones, and cells that cover each."""

others = pytest.mark.parametrize("target", OTHERS, ids=repr)


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(certificate, "N", SIZE)
        certificate._cached.cache_clear()
        yield
        certificate._cached.cache_clear()


@functools.cache
def oracle(target: Target) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points, the masses around them and the log-densities there, by the second formulas."""
    cells = OTHERS[target]()
    points = cells.points.reshape(-1, 2)
    log_p = LOG_DENSITIES[target.name](points, **dataclasses.asdict(target))
    return points, cells.weights.ravel() * np.exp(log_p), log_p


@functools.cache
def own_log_p(target: Target) -> np.ndarray:
    """The target's log-densities at draws of its own, from another key than the certificate's."""
    points = target.sample(jax.random.key(11), 20_000)
    return np.asarray(batched(target.log_prob, points), float)


@others
def test_entropy_is_that_of_these_parameters(target):
    _, mass, log_p = oracle(target)
    assert mass.sum() == pytest.approx(1, abs=1e-6)
    expected = -np.sum(mass * np.where(mass > 0, log_p, 0.0))
    assert target.entropy.value == pytest.approx(expected, abs=4 * target.entropy.stderr + 1e-4)
    assert target.entropy.stderr < 0.01


@others
def test_density_is_that_of_these_parameters(target):
    points = np.asarray(target.sample(jax.random.key(12), 1000), float)
    reference = LOG_DENSITIES[target.name](points, **dataclasses.asdict(target))
    np.testing.assert_allclose(
        np.asarray(batched(target.log_prob, jnp.asarray(points, jnp.float32))), reference, atol=2e-5
    )


@others
def test_box_follows_the_parameters_and_is_no_larger_than_needed(target):
    points, mass, _ = oracle(target)
    lower, upper = np.array(target.box)
    outside = ((points < lower) | (points > upper)).any(axis=1)
    assert mass[outside].sum() < 1e-9
    near = ((points < 0.75 * lower) | (points > 0.75 * upper)).any(axis=1)
    assert mass[near].sum() > 1e-9


@others
def test_level_leaves_one_in_a_thousand_below(target):
    _, mass, log_p = oracle(target)
    level = target.certificate.hdr_log_density
    if target.name == "checkerboard":
        assert mass[log_p < level.value].sum() == 0
        assert mass[log_p < level.value + 0.002].sum() == pytest.approx(1, abs=1e-9)
        return
    # by the level's own error, and by the cells that the level cuts
    low, high = (mass[log_p < level.value + k * level.stderr].sum() for k in (-4, 4))
    assert low - 5e-5 < 1e-3 < high + 5e-5
    share = math.sqrt(1e-3 / SIZE)  # binomial
    assert mass[log_p < level.value].sum() == pytest.approx(1e-3, abs=4 * share + 5e-5)


@others
def test_own_true_samples_are_judged_true(target):
    log_p = own_log_p(target)
    excess = LogTrueDensity.of(log_p, target.entropy)
    assert abs(excess.value) <= 4 * excess.stderr + 1e-6
    found = OffSupport.of(log_p, target.hdr_log_density).value
    expected = 0.0 if target.name == "checkerboard" else 1e-3
    assert found == pytest.approx(expected, abs=4 * math.sqrt(1e-3 / SIZE + 1e-3 / len(log_p)))


@pytest.mark.parametrize("name", list(dm.targets.TARGETS))
def test_what_is_shipped_agrees_with_what_is_found(name):
    target = dm.targets.get(name)
    shipped, found = target.certificate, certify(target)
    for ours, theirs in (
        (shipped.entropy, found.entropy),
        (shipped.hdr_log_density, found.hdr_log_density),
    ):
        error = math.hypot(ours.stderr, theirs.stderr)
        assert ours.value == pytest.approx(theirs.value, abs=4 * error + 1e-9)
        assert ours.provenance.kind in ("exact", "quadrature")
        assert str(theirs.provenance) == f"samples(n={SIZE})"


def test_what_is_shipped_has_not_changed():
    facts = {
        name: (t.box[1][0], t.entropy.value, t.hdr_log_density)
        for name in dm.targets.TARGETS
        for t in [dm.targets.get(name)]
    }
    assert facts == {
        "spiral": (1.2, 0.18020601, -5.304),
        "pinwheel": (1.0, -0.09190466, -5.145),
        "checkerboard": (4.0, math.log(32), -math.log(32) - 1e-3),
        "gaussian_mixture": (2.0, 0.54321751, -6.450),
        "two_moons": (2.2, 1.00758483, -5.931),
        "rings": (3.6, 2.62318277, -7.669),
        "swiss_roll": (4.2, 2.66964617, -7.322),
    }


@pytest.mark.parametrize("noise", [0.36, 0.03])
def test_a_scorecard_holds_numbers_against_the_target_it_was_given(noise):
    """Against the entropy of the default one, likelihoods on a narrow mixture are impossible."""
    target = GaussianMixture(noise=noise)
    samples = np.asarray(target.sample(jax.random.key(5), 500))
    card = score_samples(samples, target, n_test=500)
    assert card.entropy == target.entropy
    assert card.impossible() == []
    excess = card["log_true_density"]
    assert abs(excess.value) < 4 * excess.stderr


# --- the cache


def narrow(noise: float = 0.2) -> tuple[GaussianMixture, Path]:
    """A target that this process has forgotten, and where its certificate is cached."""
    target = GaussianMixture(noise=noise)
    certificate._cached.cache_clear()
    name = certificate._cache_name(target)
    assert name is not None
    folder = cache_folder()
    assert folder is not None
    return target, folder / name


def test_a_certificate_is_found_once(monkeypatch):
    target, path = narrow()
    found = target.certificate
    assert json.loads(path.read_bytes())["target"] == repr(target)
    certificate._cached.cache_clear()
    monkeypatch.setattr(certificate, "certify", None)
    assert target.certificate == found
    path.unlink()
    assert GaussianMixture(noise=0.2).certificate == found  # remembered by this process


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'{"target": "REPR"}',
        b'{"target": "REPR", "entropy": [1.0, 0.1], "hdr_log_density": [1.0, 0.1, "x"]}',
        b'{"target": "REPR", "entropy": [NaN, 0.1, "x"], "hdr_log_density": [1.0, 0.1, "x"]}',
        b'{"target": "REPR", "entropy": [1.0, -0.1, "x"], "hdr_log_density": [1.0, 0.1, "x"]}',
        b'{"target": "other", "entropy": [1.0, 0.1, "x"], "hdr_log_density": [1.0, 0.1, "x"]}',
    ],
)
def test_a_damaged_or_foreign_file_is_as_if_it_were_not_there(content, monkeypatch):
    target, path = narrow(0.25)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.replace(b"REPR", repr(target).encode()))
    afresh = Certificate.uniform(2.0)
    monkeypatch.setattr(certificate, "certify", lambda target: afresh)
    assert target.certificate == afresh
    certificate._cached.cache_clear()
    monkeypatch.setattr(certificate, "certify", None)
    assert target.certificate == afresh  # and has been written again


def test_a_density_that_is_edited_gets_a_certificate_of_its_own(tmp_path, monkeypatch):
    """The same name and repr, but for one line of the source."""
    monkeypatch.syspath_prepend(tmp_path)
    source = "from densitometer.targets.gaussian_mixture import GaussianMixture\n\n\n"
    source += "class Own(GaussianMixture):\n    pass\n"
    names = []
    for module, line in (("one", ""), ("two", "    smooth = False\n")):
        (tmp_path / f"own_{module}.py").write_text(source + line)
        own = importlib.import_module(f"own_{module}").Own(noise=0.2)
        names.append(certificate._cache_name(own))
    assert None not in names
    assert names[0] != names[1]


def test_a_base_class_that_is_edited_changes_the_certificates_of_its_targets(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    base = "from densitometer.targets.gaussian_mixture import GaussianMixture as Base\n"
    (tmp_path / "shared.py").write_text(base)
    (tmp_path / "heir.py").write_text("from shared import Base\n\n\nclass Own(Base):\n    pass\n")
    names = []
    for line in ("", "\n\nclass Edited(Base):\n    smooth = False\n\n\nBase = Edited\n"):
        (tmp_path / "shared.py").write_text(base + line)
        for module in ("heir", "shared"):
            monkeypatch.delitem(sys.modules, module, raising=False)
        importlib.invalidate_caches()
        names.append(certificate._cache_name(importlib.import_module("heir").Own(noise=0.2)))
    assert None not in names
    assert names[0] != names[1]


# --- authors


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slab(Target):
    """Uniform on [0, length) in one dimension, with a fault or none."""

    name: ClassVar[str] = "slab"
    dim: ClassVar[int] = 1
    length: float = 3.0
    reach: float = 1.0
    seen: float = 1.0

    @property
    def box(self):
        return (0.0,), (self.length * self.seen,)

    def _sample(self, key):
        return self.length * self.reach * jax.random.uniform(key, (1,))

    def _log_prob(self, x):
        inside = (x[0] >= 0) & (x[0] < self.length)
        return jnp.where(inside, -math.log(self.length), -jnp.inf)


def test_an_author_states_a_box_and_the_rest_is_found():
    found = certify(Slab())
    assert found.entropy.value == pytest.approx(math.log(3.0), abs=1e-9)
    assert found.entropy.stderr < 1e-9
    assert found.hdr_log_density.value == pytest.approx(-math.log(3.0) - 1e-3, abs=1e-9)
    assert Certificate.uniform(3.0).hdr_log_density.value == -math.log(3.0) - 1e-3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"reach": 1.5}, "draws have no finite log-density; make its sampler and its density"),
        ({"seen": 0.5}, r"of 100000 draws are outside its box; state a larger box\."),
    ],
)
def test_a_target_that_contradicts_itself_is_refused(fault, message):
    with pytest.raises(dm.UsageError, match=message):
        certify(Slab(**fault))


def test_a_subclass_does_not_inherit_what_is_shipped(monkeypatch):
    class Other(GaussianMixture):
        pass

    afresh = Certificate.uniform(2.0)
    monkeypatch.setattr(certificate, "certify", lambda target: afresh)
    certificate._cached.cache_clear()
    assert Other().certificate == afresh
    certificate._cached.cache_clear()
