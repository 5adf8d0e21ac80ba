"""Where random numbers come from."""

import itertools

import jax
import numpy as np

from densitometer.randomness import key_for

SEEDS = (0, 1, 2)
PURPOSES = ("train", "holdout", "test", "fit")


def test_keys_are_the_same_every_time():
    first, again = (jax.random.key_data(key_for(3, "train")) for _ in range(2))
    np.testing.assert_array_equal(first, again)


def test_a_seed_means_the_same_numbers_for_ever():
    """Results on disk stay comparable with those of later versions."""
    assert np.asarray(jax.random.key_data(key_for(0, "train"))).tolist() == [2561911289, 2218184944]


def test_no_two_purposes_or_seeds_share_a_key():
    keys = {
        tuple(np.asarray(jax.random.key_data(key_for(seed, purpose))).tolist())
        for seed, purpose in itertools.product(SEEDS, PURPOSES)
    }
    assert len(keys) == len(SEEDS) * len(PURPOSES)
