import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

import toy
from densitometer import families
from densitometer.batches import CHUNK
from densitometer.errors import UsageError
from densitometer.gaussian import log_normal
from densitometer.models import (
    HasBound,
    HasEnergy,
    HasPath,
    Standardiser,
    batched,
)

STANDARDISER = Standardiser(jnp.array([3.0, -1.0]), jnp.array([2.0, 0.25]))


class Everything(HasEnergy, toy.Normal, HasBound):
    """N(0, I); its bound is as far below as its key says."""

    standardiser: Standardiser = STANDARDISER

    def _energy(self, z):
        return 0.5 * jnp.sum(z**2)

    def _log_prob_bound(self, key, z, k):
        return log_normal(z) - jnp.mean(jax.random.uniform(key, (k,)))


@pytest.fixture
def model():
    return toy.Shifted(STANDARDISER, jnp.array([1.0, 0.0]))


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


@pytest.mark.parametrize("method", ["log_prob", "score", "energy"])
def test_a_batch_gives_what_its_points_give(method):
    function = getattr(Everything(), method)
    x = jnp.asarray(toy.gaussian(0, 2 * CHUNK + 14))
    values = function(x)
    np.testing.assert_array_equal(values, batched(function, x))
    np.testing.assert_array_equal(function(x.reshape(2, -1, 2)).reshape(values.shape), values)
    np.testing.assert_allclose(values[-3:], jnp.stack([function(p) for p in x[-3:]]), rtol=1e-5)
    assert function(x[:0]).shape == values[:0].shape
    assert function(x[:0, None]).shape == (0, 1, *values.shape[1:])


def test_each_point_of_a_batch_has_its_own_draws_behind_its_bound():
    model, key = Everything(), jax.random.key(0)
    x = jnp.asarray(toy.gaussian(0, CHUNK + 14))
    bounds = model.log_prob_bound(key, x, 3)
    each = lambda pair: model.log_prob_bound(pair[0], pair[1], 3)
    np.testing.assert_array_equal(bounds, batched(each, (jax.random.split(key, len(x)), x)))
    below = model.log_prob(x) - bounds
    assert len(np.unique(np.round(below, 3))) > 100
    folded = model.log_prob_bound(key, x.reshape(2, -1, 2), np.int64(3))
    np.testing.assert_array_equal(folded.reshape(-1), bounds)


def test_jax_transforms_the_methods_of_points_and_of_batches():
    model = Everything()
    x = jnp.asarray(toy.gaussian(0, 20))
    score = model.score(x)
    ways = [
        jax.jit(jax.vmap(jax.grad(model.log_prob)))(x),
        jax.grad(lambda p: jnp.sum(model.log_prob(p)))(x),
        eqx.filter_jit(model.score)(x),
        jax.vmap(model.score)(x.reshape(4, 5, 2)).reshape(20, 2),
        -jax.vmap(jax.grad(model.energy))(x),
    ]
    for way in ways:
        np.testing.assert_allclose(way, score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)])
def test_what_is_neither_a_point_nor_a_batch_is_a_sentence(shape):
    model, x = Everything(), jnp.zeros(shape)
    for method in ("log_prob", "score", "energy"):
        with pytest.raises(UsageError, match=rf"^model.{method} takes one point of shape \(2,\)"):
            getattr(model, method)(x)


def test_a_wrong_shape_is_found_by_every_test():
    with pytest.raises(jaxtyping.TypeCheckError, match="data"):
        Standardiser.from_data(jnp.zeros(3))
