"""Whole numbers from outside."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer.counts import MAX_SEED, check_count, check_seed
from densitometer.models import HasBound, HasPath
from densitometer.randomness import key_for
from densitometer.scoring.scorecard import score_samples
from densitometer.study.plan import Plan
from densitometer.training import fit_seeds

FAMILY = toy.MeanFamily(steps=20)
TRAIN, HOLDOUT = toy.gaussian(0, 50), toy.gaussian(1, 20)
TARGET = dm.targets.get("gaussian_mixture")


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3), np.array(3), jnp.array(3)])
def test_a_whole_number_is_itself_whatever_holds_it(value):
    found = check_count(value, "n")
    assert (found, type(found)) == (3, int)


@pytest.mark.parametrize(
    "value", [0, -1, 2**31, 2.5, 3.0, True, np.True_, "3", None, np.float64(3), np.array([3]), 3j]
)
def test_anything_else_is_no_count(value):
    with pytest.raises(dm.UsageError, match=r"^n must be a whole number from 1 to 2147483647, not"):
        check_count(value, "n")


def test_the_sentence_shows_what_was_given():
    with pytest.raises(dm.UsageError) as told:
        check_seed(2**32)
    sentence = "seed must be a whole number from 0 to 4294967295, not 4294967296."
    assert str(told.value) == sentence


@pytest.mark.parametrize("seed", [-1, 2**32, 2**64, True])
@pytest.mark.parametrize(
    "enter",
    [
        lambda seed: dm.fit(FAMILY, TRAIN, HOLDOUT, seed=seed),
        lambda seed: fit_seeds(FAMILY, [TRAIN] * 2, [HOLDOUT] * 2, seeds=[0, seed]),
        lambda seed: dm.score(toy_model(), TARGET, seed),
        lambda seed: score_samples(TRAIN.repeat(3, axis=0), TARGET, seed),
        lambda seed: key_for(seed, "train"),
        lambda seed: Plan.make({"gan": {}}, ["spiral"], [0, seed]),
    ],
)
def test_a_seed_that_would_be_another_is_refused_wherever_it_enters(enter, seed):
    with pytest.raises(dm.UsageError, match=r"must be a whole number from 0 to 4294967295, not"):
        enter(seed)


def toy_model():
    return FAMILY.model(FAMILY.init(jax.random.key(0), jnp.zeros((3, 2))))


def test_all_seeds_up_to_the_largest_are_honoured():
    ends = [
        fit.curves_csv()
        for fit in (
            dm.fit(FAMILY, TRAIN, HOLDOUT, seed=seed)
            for seed in (0, 2**31, MAX_SEED, np.uint32(MAX_SEED))
        )
    ]
    assert len(set(ends)) == 3
    assert ends[2] == ends[3]
    seeds: list[Any] = [np.int64(5), MAX_SEED]
    plan = Plan.make({"gan": {}}, ["spiral"], seeds)
    assert json.loads(plan.to_json())["seeds"] == [5, MAX_SEED]


def test_a_traced_seed_gives_the_key_of_the_same_number():
    seeds = np.array([0, 7, 2**31, MAX_SEED], np.uint32)
    traced = jax.vmap(lambda seed: jax.random.key_data(key_for(seed, "fit")))(seeds)
    alone = [jax.random.key_data(key_for(int(seed), "fit")) for seed in seeds]
    np.testing.assert_array_equal(traced, alone)


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda n: toy_model().sample(jax.random.key(0), n), "n"),
        (lambda n: TARGET.sample(jax.random.key(0), n), "n"),
        (lambda n: dm.score(toy_model(), TARGET, n_test=n), "n_test"),
        (lambda n: dm.score(toy_model(), TARGET, n_samples=n), "n_samples"),
        (lambda n: dm.score(toy_model(), TARGET, n_grid=n), "n_grid"),
        (lambda n: score_samples(TRAIN.repeat(3, axis=0), TARGET, n_test=n), "n_test"),
    ],
)
def test_a_count_is_no_truth_value_nor_0(ask, name):
    for value in (True, 0, -3):
        with pytest.raises(dm.UsageError, match=f"^{name} must be a whole number from 10? to"):
            ask(value)


def test_counts_of_numpy_are_those_of_python():
    key, n = jax.random.key(0), np.int64(5)
    np.testing.assert_array_equal(toy_model().sample(key, n), toy_model().sample(key, 5))
    np.testing.assert_array_equal(TARGET.sample(key, n), TARGET.sample(key, 5))


def test_paths_and_bounds_take_counts_too():
    family = dm.families.get("vae", width=8, depth=1)
    model = family.model(family.init(jax.random.key(0), jnp.zeros((3, 2))))
    assert isinstance(model, HasPath)
    assert isinstance(model, HasBound)
    key, x = jax.random.key(0), jnp.zeros(2)
    with pytest.raises(dm.UsageError, match=r"^frames must be a whole number from 2 to"):
        model.path(key, 3, 1)
    with pytest.raises(dm.UsageError, match=r"^n must be a whole number from 1 to"):
        model.path(key, True, 3)
    with pytest.raises(dm.UsageError, match=r"^k must be a whole number from 1 to"):
        model.log_prob_bound(key, x, 0)
    assert model.log_prob_bound(key, x, np.int64(2)) == model.log_prob_bound(key, x, 2)
