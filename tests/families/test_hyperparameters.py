"""Hyper-parameters that make no sense, alone or together, are refused wherever they come from."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer import checkpoint
from densitometer.domains import Count, Positive
from densitometer.families.base import Family
from densitometer.study.plan import Plan
from toy import MeanFamily

SENSELESS = [
    ("dsm", {"sigma_min": 10.0}, "sigma_min must be below sigma_max = 5.0, not 10.0"),
    (
        "dsm",
        {"sigma_min": 1.0, "sigma_max": 1.0},
        "sigma_min must be below sigma_max = 1.0, not 1.0",
    ),
    ("dsm", {"sigma_max": 1e-6}, "sigma_max must be a number from 1e-05 to 10000, not 1e-06"),
    (
        "dsm",
        {"sigma_min": 1e-4},
        "sigma_min must be at least 0.001 unless posterior_points is 0, not 0.0001",
    ),
    (
        "dsm",
        {"sigma": 1e-4},
        "sigma must be at least 0.001 unless posterior_points is 0, not 0.0001",
    ),
    ("dsm", {"sigma": 0.0}, "sigma must be a number from 1e-05 to 10000 or None, not 0.0"),
    (
        "dsm",
        {"batch_size": 4096},
        "posterior_points must be 0 or at least batch_size = 4096, not 2048",
    ),
    ("dsm", {"dropout": 1.0}, "dropout must be a number of at least 0 and below 1, not 1.0"),
    (
        "cnf",
        {"sigma_min": 1.0},
        "sigma_min must be a number of at least 1e-05 and below 1, not 1.0",
    ),
    (
        "cnf",
        {"sigma_min": 1e-4},
        "sigma_min must be at least 0.001 unless posterior_points is 0, not 0.0001",
    ),
    (
        "cnf",
        {"posterior_points": 255},
        "posterior_points must be 0 or at least batch_size = 256, not 255",
    ),
    ("cnf", {"tolerance": 1.0}, "tolerance must be a number above 0 and below 1, not 1.0"),
    (
        "cnf",
        {"objective": "both", "posterior_points": 0, "batch_size": 64},
        "likelihood_batch must be at most the points of a step, 64, not 128",
    ),
    ("ddpm", {"offset": 0.8}, "offset must be a number from 0.0001 to 0.78, not 0.8"),
    (
        "ddpm",
        {"offset": 5e-4},
        "offset must be at least 0.001 unless posterior_points is 0, not 0.0005",
    ),
    ("ddpm", {"timesteps": 1}, "timesteps must be a whole number from 2 to 65536, not 1"),
    ("ddpm", {"sample_steps": 1}, "sample_steps must be a whole number from 2 to 65536, not 1"),
    (
        "ddpm",
        {"sampler": "ddim", "timesteps": 50},
        "sample_steps must be at most timesteps = 50, not 100",
    ),
    (
        "ddpm",
        {"posterior_points": 1},
        "posterior_points must be 0 or at least batch_size = 256, not 1",
    ),
    ("sm", {"noise": 0.8}, "noise must be at most noise_start = 0.7, not 0.8"),
    ("sm", {"noise": 0.0}, "noise must be a number from 1e-05 to 10000, not 0.0"),
    ("ebm", {"wide_share": 1.0}, "wide_share must be a number above 0 and below 1, not 1.0"),
    ("gan", {"batch_size": 32}, "penalty_points must be at most batch_size = 32, not 64"),
    (
        "gan",
        {"penalty_decay": 1.5},
        "penalty_decay must be a number above 0 and at most 1, not 1.5",
    ),
    ("vae", {"min_sd": 0.0}, "min_sd must be a number above 0 and at most 1000000, not 0.0"),
    ("ebm", {"noise": 1e300}, "noise must be a number from 0 to 1000000, not 1e+300"),
    ("vae", {"latent": 0}, "latent must be a whole number from 1 to 65536, not 0"),
]


@pytest.mark.parametrize(("name", "given", "sentence"), SENSELESS)
def test_what_makes_no_sense_is_refused_in_python_and_in_a_plan(name, given, sentence):
    for make in (
        lambda: dm.families.get(name, **given),
        lambda: dataclasses.replace(dm.families.get(name), **given),
        lambda: Plan.make({name: given}),
        lambda: Plan.make({f"{name}.x": {k: [v] for k, v in given.items()}}),
    ):
        with pytest.raises(dm.UsageError) as refused:
            make()
        assert str(refused.value) == f"{name}: {sentence}."


def test_what_makes_no_sense_is_refused_in_a_model_s_file(tmp_path, monkeypatch):
    family = dm.families.get("dsm", width=4, depth=1)
    model = family.model(family.init(jax.random.key(0), jnp.ones((4, 2))))
    header = checkpoint._header(family, 2)
    header["hyperparameters"]["sigma_min"] = 10.0
    monkeypatch.setattr(checkpoint, "_header", lambda family, dim: header)
    dm.save(tmp_path / "model.safetensors", model, family)
    with pytest.raises(dm.UsageError, match="sigma_min must be below sigma_max"):
        dm.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("dsm", {"sigma_min": 1e-4, "posterior_points": 0}),
        ("dsm", {"batch_size": 2048}),
        ("dsm", {"sigma": 0.1, "sigma_min": 1e-4}),
        ("cnf", {"posterior_points": 0, "batch_size": 64}),
        ("ddpm", {"timesteps": 50}),
        ("ddpm", {"timesteps": 50, "sampler": "ancestral", "sample_steps": 50}),
        ("sm", {"noise": 0.7}),
        ("gan", {"batch_size": 32, "penalty": 0}),
        ("gan", {"penalty_decay": 1}),
        ("ebm", {"noise": 0}),
    ],
)
def test_what_makes_sense_is_not_refused(name, given):
    family = dm.families.get(name, **given)
    assert {field: getattr(family, field) for field in given} == given


def test_a_plan_holds_plain_values():
    plan = Plan.make(
        {"gan": {"width": np.int64(8), "spread": np.float32(0.5)}}, ["spiral"], seeds=np.arange(2)
    )
    again = json.loads(plan.to_json())
    assert again["families"]["gan"]["width"] == 8
    assert again["families"]["gan"]["spread"] == 0.5
    assert again["seeds"] == [0, 1]


def test_the_base_s_fields_are_checked_however_a_subclass_annotates_them():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Careless(MeanFamily):
        steps: int = 400
        colours: int = 3

    assert Careless(colours=-3).colours == -3
    with pytest.raises(dm.UsageError, match="mean: steps must be a whole number from 1"):
        Careless(steps=0)
    assert issubclass(Careless, Family)


def test_all_conflicts_of_a_subclass_are_asked():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Odd(MeanFamily):
        count: Count = 3
        scale: Positive = 1.0

        def conflicts(self):
            if self.count < self.scale:
                yield f"count must be at least scale = {self.scale}, not {self.count}"

    assert Odd().count == 3
    with pytest.raises(dm.UsageError, match=r"^mean: count must be at least scale = 4.0, not 3\.$"):
        Odd(scale=4)
