import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import toy
from densitometer import families
from densitometer.errors import UsageError
from densitometer.models import CHUNK, HasPath, Standardiser, batched


@pytest.fixture
def model():
    shift, scale = jnp.array([3.0, -1.0]), jnp.array([2.0, 0.25])
    return toy.Shifted(Standardiser(shift, scale), jnp.array([1.0, 0.0]))


def test_standardiser_gives_zero_mean_and_unit_variance_and_inverts():
    x = jnp.asarray(toy.gaussian(0, 1000))
    s = Standardiser.from_data(x)
    z = s.forward(x)
    np.testing.assert_allclose(np.mean(z, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.std(z, axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(s.inverse(z), x, rtol=1e-5, atol=1e-5)


def test_log_prob_is_in_data_coordinates(model):
    # z ~ N((1, 0), I), so x ~ N((3 + 2·1, −1), diag(4, 1/16)).
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    expected = toy.gaussian_log_prob(x, np.array([5.0, -1.0]), np.diag([4.0, 1 / 16]))
    np.testing.assert_allclose(jax.vmap(model.log_prob)(x), expected, rtol=1e-4)


def test_samples_are_in_data_coordinates(model):
    x = np.asarray(model.sample(jax.random.key(0), 4000))
    assert np.all(np.abs(x.mean(axis=0) - [5, -1]) < 4 * np.array([2, 0.25]) / np.sqrt(4000))
    assert np.all(np.abs(x.std(axis=0) / [2, 0.25] - 1) < 4 / np.sqrt(2 * 4000))


def test_first_draws_do_not_depend_on_how_many_are_asked(model):
    assert model.sample(jax.random.key(0), CHUNK + 7).shape == (CHUNK + 7, 2)
    one = model.sample(jax.random.key(0), 5)
    assert len(np.unique(np.asarray(one))) == 10


@pytest.mark.parametrize(("n", "frames", "wrong"), [(0, 2, "n"), (-3, 2, "n"), (5, 1, "frames")])
@pytest.mark.parametrize("name", ["dsm", "sm", "gan"])
def test_numbers_of_draws_and_frames_that_make_no_sense_are_a_sentence(name, n, frames, wrong):
    family = families.get(name, width=4, depth=1)
    model = family.model(family.init(jax.random.key(0), jnp.ones((4, 3))))
    assert isinstance(model, HasPath)
    least = {"n": 1, "frames": 2}[wrong]
    with pytest.raises(UsageError, match=f"^{wrong} must be a whole number from {least} to"):
        model.path(jax.random.key(0), n, frames)
    if wrong == "n":
        with pytest.raises(UsageError, match=rf"^n must be .* from 1 to .*, not {n}\.$"):
            model.sample(jax.random.key(0), n)


def test_batched_equals_vmap_over_uneven_chunks(model):
    x = jnp.asarray(toy.gaussian(0, CHUNK + 13))
    np.testing.assert_allclose(batched(model.log_prob, x), jax.vmap(model.log_prob)(x), rtol=1e-5)


def test_a_wrong_shape_is_found_by_every_test():
    with pytest.raises(jaxtyping.TypeCheckError, match="data"):
        Standardiser.from_data(jnp.zeros(3))
