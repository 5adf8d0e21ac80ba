"""Numbers do not depend on what JAX is told by the program around, or by its environment."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from safetensors.numpy import load

import densitometer as dm
import small_fit
from densitometer.numerics import pinned

ELSEWHERE = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
}

MEMORY = {
    "JAX_COMPILATION_CACHE_DIR": str(jax.config.values["jax_compilation_cache_dir"]),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
}
"""That of the tests: what is computed is the same, so it has been compiled."""


def test_a_program_that_has_jax_otherwise_gets_the_same_numbers_and_the_same_model(tmp_path):
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    here = small_fit.fit_and_save(ours)
    there = subprocess.run(
        [sys.executable, small_fit.__file__, str(theirs), str(ours)],
        capture_output=True,
        text=True,
        env=os.environ | ELSEWHERE | MEMORY,
    )
    assert there.returncode == 0, there.stderr
    *numbers, drawn = there.stdout.splitlines()
    assert numbers == here.splitlines()
    assert drawn == small_fit.draws(theirs)  # each loads what the other saved
    assert theirs.read_bytes() == ours.read_bytes()


def test_parameters_made_in_64_bits_are_rounded_when_they_are_loaded(tmp_path):
    family = dm.families.get("gan", width=8, depth=1)
    with jax.enable_x64(True):
        state = family.init(jax.random.key(0), jax.numpy.ones((4, 2)))
        dm.save(tmp_path / "m.safetensors", family.model(state), family)
    wide = load((tmp_path / "m.safetensors").read_bytes())
    assert {array.dtype for array in wide.values()} == {np.dtype("float64")}
    leaves = jax.tree.leaves(dm.load(tmp_path / "m.safetensors"))
    assert {leaf.dtype for leaf in leaves} == {np.dtype("float32")}
    expected = sorted(array.astype(np.float32).tobytes() for array in wide.values())
    assert sorted(np.asarray(leaf).tobytes() for leaf in leaves) == expected


def test_seeds_that_jax_moves_are_refused(tmp_path):
    jax.config.update("jax_random_seed_offset", 5)
    try:
        with pytest.raises(dm.UsageError, match=r"told to add 5 to every seed.*set jax_random"):
            dm.targets.get("spiral").sample(jax.random.key(0), 3)
    finally:
        jax.config.update("jax_random_seed_offset", 0)


def test_jax_that_does_not_start_is_no_fault_of_a_file(tmp_path, monkeypatch):
    def devices():
        raise AssertionError

    family = dm.families.get("gan", width=8, depth=1)
    state = family.init(jax.random.key(0), jax.numpy.ones((4, 2)))
    dm.save(tmp_path / "m.safetensors", family.model(state), family)
    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(dm.UsageError) as told:
        dm.load(tmp_path / "m.safetensors")
    assert str(told.value) == (
        "JAX does not start here (AssertionError: raise AssertionError); set JAX_PLATFORMS to what "
        "this machine has."
    )


def test_a_family_that_cannot_be_imported_is_no_fault_of_a_file(tmp_path, monkeypatch):
    family = dm.families.get("gan", width=8, depth=1)
    state = family.init(jax.random.key(0), jax.numpy.ones((4, 2)))
    dm.save(tmp_path / "m.safetensors", family.model(state), family)

    def get(*_, **__):
        raise ModuleNotFoundError("No module named 'diffrax'")

    monkeypatch.setattr(dm.families, "get", get)
    with pytest.raises(ModuleNotFoundError, match="diffrax"):
        dm.load(tmp_path / "m.safetensors")


def test_what_is_pinned_is_let_go_again():
    with jax.enable_x64(True), jax.default_prng_impl("rbg"):
        with pinned():
            assert jax.numpy.ones(1).dtype == np.float32
            assert jax.random.key_impl(jax.random.key(0)) == "threefry2x32"
        assert jax.numpy.ones(1).dtype == np.float64
        assert jax.random.key_impl(jax.random.key(0)) == "rbg"
