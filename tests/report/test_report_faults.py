"""Faults that are planted are found, named, and looked for where they are."""

import dataclasses

import numpy as np
import pytest

from densitometer import targets
from densitometer.findings import localise
from densitometer.findings.results import Results
from densitometer.randomness import key_for

RNG = np.random.default_rng


@pytest.fixture
def sampled(study, plant):
    """Plant samples and numbers: sampled(target, family, points, metric=(value, stderr))."""

    def planted(target, family, points, **values):
        path = study / "cells" / target / family / "0" / "samples.npy"
        np.save(path, np.asarray(points, np.float32))
        return plant(target, family, **values)

    return planted


def true(target, n=2000, seed=7):
    return np.asarray(targets.get(target).sample(key_for(seed, "planted"), n), np.float64)


def of(results: Results, target, family):
    plain = lambda words: words.replace("\N{NO-BREAK SPACE}", " ")
    found = localise.of_cell(results, target, family)
    return {f.kind: dataclasses.replace(f, words=plain(f.words)) for f in found}


def holds(window, point):
    return bool(window.holds(np.asarray([point]))[0])


@pytest.mark.parametrize("target", ["spiral", "pinwheel", "checkerboard", "gaussian_mixture"])
def test_true_samples_have_no_faults(sampled, target):
    for seed in range(3):
        results = sampled(target, "gan", true(target, seed=seed), off_support=(0.001, 0.0007))
        assert of(results, target, "gan") == {}


def test_a_hole_is_found_where_it_is(sampled):
    """An arm of the pinwheel that gets a third of its due."""
    points = true("pinwheel", 4000)
    centre = np.array([0.55, 0.35])
    near = np.linalg.norm(points - centre, axis=1) < 0.3
    points = points[~near | (RNG(0).uniform(size=4000) < 0.33)][:2000]
    fault = of(sampled("pinwheel", "gan", points), "pinwheel", "gan")["too little mass"]
    assert holds(fault.window, centre)
    share = fault.window.holds(points).mean()
    assert fault.words.startswith(f"{100 * share:.1f}")


def test_a_thread_is_distinguished_from_a_leak(sampled):
    """Forty strays between two modes, on a line; then as many all over the middle."""
    points = true("gaussian_mixture")
    modes = targets.get("gaussian_mixture").modes
    assert modes is not None
    centres, _ = modes
    t = RNG(0).uniform(size=(40, 1))
    points[:40] = centres[0] * t + centres[3] * (1 - t)
    fault = of(sampled("gaussian_mixture", "gan", points), "gaussian_mixture", "gan")["thread"]
    strays = fault.window.holds(points[:40]).sum()
    assert strays > 10
    points[:40] = RNG(1).uniform(-0.4, 0.4, (40, 2))
    fault = of(sampled("gaussian_mixture", "gan", points), "gaussian_mixture", "gan")["leak"]
    assert holds(fault.window, (0.0, 0.0))
    assert fault.words.startswith("2.0")


def test_the_heaviest_mode_is_shown(sampled):
    points = true("gaussian_mixture")
    modes = targets.get("gaussian_mixture").modes
    assert modes is not None
    centres, _ = modes
    points[:300] = centres[2] + 0.12 * RNG(0).normal(size=(300, 2))
    results = sampled("gaussian_mixture", "gan", points, mode_weights=(0.13, 0.01))
    fault = of(results, "gaussian_mixture", "gan")["wrong mode weights"]
    np.testing.assert_allclose(np.mean(fault.window, axis=0), centres[2])
    assert "13.0 ± 1.0" in fault.words
    assert "instead of 14.3 %" in fault.words
    results = sampled("gaussian_mixture", "gan", points, mode_weights=(0.02, 0.01))
    assert "wrong mode weights" not in of(results, "gaussian_mixture", "gan")


def explained(fault, value=0.6):
    return (value, 0.1, f"chi2(df=45, faults={fault})")


def test_blur_is_sought_where_it_is(sampled):
    """Only one corner of the spiral is blurred."""
    points = true("spiral")
    corner = (points > 0.1).all(axis=1)
    points[corner] += 0.06 * RNG(0).normal(size=(corner.sum(), 2))
    planted = {"blur": (0.008, 0.0006), "unexplained": explained("blur 0.008")}
    fault = of(sampled("spiral", "gan", points, **planted), "spiral", "gan")["blur"]
    assert fault.window.lower[0] > -0.2
    assert fault.window.lower[1] > -0.2
    assert f"noise of {np.sqrt(0.008):.3f}" in fault.words


@pytest.mark.parametrize("faults", ["unknown", "turn 3.0 + leak 0.01"])
def test_a_size_beyond_its_floor_has_no_name_if_it_explains_nothing(sampled, faults):
    planted = {"blur": (0.008, 0.0006), "unexplained": explained(faults, 2.0)}
    assert "blur" not in of(sampled("spiral", "gan", true("spiral"), **planted), "spiral", "gan")


def test_an_ideal_learner_is_allowed_the_chance_of_its_training_points(sampled):
    """√2 times the worst excess that chance allows true samples: 1.75 half-widths of .00075."""
    for size, named in ((0.0016, False), (0.0022, True)):
        planted = {"blur": (size, 0.0001), "unexplained": explained(f"blur {size}")}
        found = of(sampled("spiral", "gan", true("spiral"), **planted), "spiral", "gan")
        assert ("blur" in found) == named


def test_a_fault_within_its_floor_is_none(sampled):
    planted = {"blur": (0.0009, 0.0004), "unexplained": explained("blur 0.0009")}
    results = sampled("spiral", "gan", true("spiral"), **planted)
    assert of(results, "spiral", "gan") == {}


def test_pictures_are_of_what_sets_a_family_apart(sampled):
    """All three blur the spiral, dsm most; vae alone blurs the pinwheel, if less surely."""
    for family, size in (("dsm", 0.0080), ("vae", 0.0060), ("gan", 0.0065)):
        planted = {"blur": (size, 0.0006), "unexplained": explained(f"blur {size}")}
        results = sampled("spiral", family, true("spiral"), **planted)
    planted = {"blur": (0.004, 0.0006), "unexplained": explained("blur 0.004")}
    results = sampled("pinwheel", "vae", true("pinwheel"), **planted)
    for target in ("pinwheel", "checkerboard", "gaussian_mixture"):
        for family in ("dsm", "vae", "gan"):
            results = sampled(target, family, true(target), off_support=(0.001, 0.0007))
    shown = {(f.family, f.target, f.kind) for f in localise.shown(results).values()}
    assert ("dsm", "spiral", "blur") in shown
    assert ("vae", "pinwheel", "blur") in shown
    assert ("vae", "spiral", "blur") not in shown
    assert list(localise.shown(results)) == sorted(localise.shown(results))


def test_a_plane_is_needed_and_a_truth(study, sampled):
    (study / "cells" / "spiral" / "truth" / "0" / "log_density.npy").unlink()
    results = sampled("spiral", "gan", true("spiral") + 5.0)
    assert of(results, "spiral", "gan") == {}
