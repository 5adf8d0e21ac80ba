"""What every family promises, asked of every member of the registry, new ones unasked."""

import ast
import dataclasses
import inspect
import itertools
import json
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer import checkpoint, training
from densitometer.families import FAMILIES
from densitometer.models import HasDensity, HasPath, HasScore, Standardiser, batched
from densitometer.seeds import each, keys_for

pytestmark = pytest.mark.parametrize("name", FAMILIES)

SHORT, LEAST = 0.1, 400
"""Share of the standard steps, and steps at least, that must do for a Gaussian."""

EVALUATIONS = 8
"""Of a short fit: evaluating costs more than learning."""

N = 2000
"""Points and samples: one number for all tests, for most of their time is compilation."""


def short(name):
    family = dm.families.get(name)
    return dataclasses.replace(
        family, steps=max(LEAST, int(family.steps * SHORT)) // EVALUATIONS * EVALUATIONS
    )


@pytest.fixture(scope="module")
def short_fit():
    """Each family fitted briefly to points of a Gaussian in some units, once for all tests."""
    fits = {}

    def fit(name, units=(1.0, 1.0)):
        if (name, units) not in fits:
            scale = np.asarray(units, np.float32)
            train, holdout = (toy.gaussian(s, n) * scale for s, n in ((0, N), (1, 500)))
            checkpoints[name] = []
            [fits[name, units]] = training.fit_seeds(
                short(name),
                [train],
                [holdout],
                seeds=[0],
                evaluations=EVALUATIONS,
                keep=checkpoints[name].append,
                keep_every=0.0,
            )
        return fits[name, units]

    checkpoints = {}
    cast(Any, fit).checkpoints = checkpoints

    return fit


@pytest.fixture(scope="module")
def standardised():
    points = jnp.asarray(toy.gaussian(0, N))
    return Standardiser.from_data(points).forward(points)


def begin(family, data, keys):
    """The states that fits begin with: as all below, with an axis for the seeds, as `fit` does."""
    return each(training._init, (None, 0, 0), family, keys, data)


def advance(family, state, start, data, keys, steps=None):
    """As far as `fit` goes between two evaluations, with the program that it has compiled."""
    axes, steps = (None, None, 0, 0, None, 0), steps or family.steps // EVALUATIONS
    return each(training._scan, axes, family, steps, keys, state, jnp.asarray(start), data)


def keys(*seeds):
    return keys_for(seeds, "fit")


def steps_one_by_one(name, data, keys, n=1):
    """A small network after n steps, the first of which ends its fit, and the info of the last."""
    family = dm.families.get(name, steps=1, width=4, depth=1)
    data = jnp.asarray(data)
    state, info = begin(family, data, keys), None
    for start in range(n):
        state, info = advance(family, state, start, data, keys, steps=1)
    return state, cast(Any, info)


def test_a_family_is_hashable_json_and_its_help(name):
    family = dm.families.get(name)
    assert family.name == name
    assert hash(family) == hash(dm.families.get(name))
    again = json.loads(json.dumps(family.hyperparameters()))
    assert dm.families.get(name, **again) == family
    fields = FAMILIES.fields(name)  # read from the source, as the command line does
    assert [f.name for f in fields] == [f.name for f in dataclasses.fields(family)]
    assert {f.name: f.default for f in fields} == family.hyperparameters()
    assert all(f.doc for f in fields), "each hyper-parameter needs a docstring: it is its help"
    assert FAMILIES.summary(name)


def test_a_family_refuses_hyperparameters_that_make_no_sense(name):
    for field, wrong, right in (
        ("steps", 0, "a whole number from 1 to 1000000000, not 0"),
        ("batch_size", -3, "a whole number from 1 to 65536, not -3"),
        ("width", 8.0, r"a whole number from 1 to 65536, not 8\.0"),
        ("depth", True, "a whole number from 1 to 100, not True"),
        ("learning_rate", float("nan"), "a number above 0 and at most 1000000, not nan"),
        ("learning_rate", 10**400, "a number above 0 and at most 1000000, not 1000"),
        ("ema", 1, "a number above 0 and below 1, not 1"),
    ):
        with pytest.raises(dm.UsageError, match=f"^{name}: {field} must be {right}"):
            dm.families.get(name, **{field: wrong})
        if type(wrong) is type(getattr(FAMILIES[name], field)):  # else beartype comes first
            with pytest.raises(dm.UsageError, match=f"^{name}: {field} must be {right}"):
                FAMILIES[name](**{field: wrong})
    with pytest.raises(dm.UsageError, match="has no hyper-parameter 'colour'"):
        dm.families.get(name, colour="blue")


def test_numbers_of_numpy_become_python_s(name):
    given = {"width": np.int64(8), "learning_rate": np.float32(0.25), "ema": np.float64(0.5)}
    family = dm.families.get(name, **given)
    assert family == dm.families.get(name, width=8, learning_rate=0.25, ema=0.5)
    assert {type(getattr(family, field)) for field in given} == {int, float}
    assert json.loads(json.dumps(family.hyperparameters()))["learning_rate"] == 0.25
    whole = dm.families.get(name, learning_rate=1)
    assert isinstance(whole.hyperparameters()["learning_rate"], float)


def test_a_fit_of_one_step_makes_one_step(name):
    state, info = steps_one_by_one(name, toy.gaussian(0, 50)[None], keys(0))
    leaves = jax.tree.leaves(state)
    clocks = {int(a[0]) for a in leaves if jnp.issubdtype(a.dtype, jnp.integer)}
    assert clocks - {0} == {1}  # an optimiser whose turn never comes reads 0
    assert all(np.isfinite(column).all() for column in info.columns().values())


def test_states_keep_their_shape_and_infos_are_scalars(name, standardised):
    family = short(name)
    state = begin(family, standardised[None], keys(0))
    new, info = advance(family, state, 0, standardised[None], keys(0))
    describe = lambda tree: jax.tree.map(lambda a: (a.shape, a.dtype), tree)
    assert describe(new) == describe(state)
    columns = info.columns()
    assert "step_loss" in columns
    assert all(v.shape == (1,) and np.isfinite(v).all() for v in columns.values())
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(new), strict=True)
        if a.size
    ]
    assert any(changed)


def test_the_info_documents_each_of_its_fields(name, standardised):
    """They are columns of `curves.csv`, in the order of the alphabet."""
    family = short(name)
    _, shapes = jax.eval_shape(
        lambda data: family.step(keys(0)[0], family.init(keys(0)[0], data), data), standardised
    )
    info = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    body = cast(ast.ClassDef, ast.parse(inspect.getsource(type(info))).body[0]).body
    documented = {
        ast.unparse(field.target)
        for field, text in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }
    assert documented == {field.name for field in dataclasses.fields(info)}
    columns = list(info.columns())
    assert columns == sorted(columns)
    assert set(columns) <= {f"step_{field}" for field in documented}


def test_a_family_compiles_once_for_all_seeds_and_data(name, standardised):
    family, mapped = short(name), cast(Any, each)
    compiled = set()
    for seed in range(3):
        state = begin(family, standardised[None] + seed, keys(seed))
        advance(family, state, seed, standardised[None] + seed, keys(seed))
        compiled.add(mapped._cached._cache_size())
    assert len(compiled) == 1


def test_a_fit_that_goes_on_ends_with_the_same_bits(name, short_fit):
    whole, checkpoints = short_fit(name), short_fit.checkpoints[name]
    points = [toy.gaussian(0, N)], [toy.gaussian(1, 500)]
    begun = partial(
        training.fit_seeds,
        short(name),
        *points,
        evaluations=EVALUATIONS,
        resume=checkpoints[-2],
    )
    [again] = begun(seeds=[0])
    assert len(checkpoints) == EVALUATIONS
    assert again.curves_csv() == whole.curves_csv()
    assert (again.selected_step, again.diverged_at) == (whole.selected_step, whole.diverged_at)
    assert checkpoint.encode_model(again.model, again.family) == checkpoint.encode_model(
        whole.model, whole.family
    )
    with pytest.raises(dm.UsageError, match="another fit"):
        begun(seeds=[1])


def test_seeds_together_are_those_alone(name):
    """Over few steps: training amplifies the rounding of any two programs."""
    data = np.stack([toy.gaussian(seed, 50) for seed in range(3)])

    def losses(data, keys):
        return np.array([steps_one_by_one(name, data, keys, n)[1].loss for n in (1, 3)])

    alone = np.concatenate([losses(data[[i]], keys(i)) for i in range(3)], axis=1)
    together = losses(data, keys(0, 1, 2))
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert len(np.unique(alone)) == 6


def test_a_model_comes_back_from_its_file(name, short_fit, tmp_path):
    fit = short_fit(name)
    dm.save(tmp_path / "model.safetensors", fit.model, fit.family)
    back = dm.load(tmp_path)
    assert type(back) is type(fit.model)
    assert set(back.derived) < {field.name for field in dataclasses.fields(back)}
    key = jax.random.key(0)
    assert np.array_equal(back.sample(key, N), fit.model.sample(key, N))


def test_samples_depend_on_the_key_and_only_on_it(name, short_fit):
    model = short_fit(name).model
    one, two = (np.asarray(model.sample(jax.random.key(0), N)) for _ in range(2))
    other = np.asarray(model.sample(jax.random.key(1), N))
    assert np.array_equal(one, two)
    assert len(np.unique(np.concatenate([one, other]), axis=0)) == 2 * N


def test_learns_a_gaussian(name, short_fit):
    fit = short_fit(name)
    samples = np.asarray(fit.model.sample(jax.random.key(0), N))
    sd = np.sqrt(np.diag(toy.COVARIANCE))
    # Two finite samples and a short training: 5 standard errors and 5 % of a standard deviation.
    tolerance = 5 * sd * np.sqrt(2 / N) + 0.05 * sd
    assert np.all(np.abs(samples.mean(axis=0) - toy.MEAN) < tolerance)
    covariance = np.cov(samples.T)
    # sd of a sample covariance: sqrt((C_ii C_jj + C_ij²) / n)
    error = np.sqrt((np.outer(sd, sd) ** 2 + toy.COVARIANCE**2) / N)
    assert np.all(np.abs(covariance - toy.COVARIANCE) < 5 * error + 0.15 * np.outer(sd, sd))
    assert fit.diverged_at is None


def test_a_density_is_one_and_is_that_of_the_samples(name, short_fit):
    model = short_fit(name).model
    if not isinstance(model, HasDensity):
        return  # nothing is promised
    x = toy.gaussian(2, N)
    log_ratio = toy.gaussian_log_prob(x) - np.asarray(batched(model.log_prob, jnp.asarray(x)))
    error = log_ratio.std() / np.sqrt(len(x))
    assert -3 * error < log_ratio.mean() < 0.1
    # E_q[p/q] = 1 only if q is normalised where p is, and its samples follow it.
    samples = model.sample(jax.random.key(3), N)
    ratio = np.exp(
        toy.gaussian_log_prob(np.asarray(samples)) - np.asarray(batched(model.log_prob, samples))
    )
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(N) + 0.01


def test_a_score_points_to_the_data(name, short_fit):
    model = short_fit(name).model
    if not isinstance(model, HasScore):
        return
    x = toy.gaussian(2, 500)
    got = np.asarray(batched(model.score, jnp.asarray(x)))
    exact = -np.linalg.solve(toy.COVARIANCE, (x - toy.MEAN).T).T
    # The cosine between the two, over all points: −1 for a wrong sign, and noise takes little away.
    # The size, a regression's slope, is at the smallest noise known but roughly after a short
    # training; the exact factor is for the family's own tests.
    product, size = np.sum(got * exact), np.sum(exact**2)
    assert product / np.sqrt(np.sum(got**2) * size) > 0.85
    assert 0.5 < product / size < 2


def test_a_path_ends_in_a_sample_and_starts_in_noise(name, short_fit):
    model = short_fit(name).model
    if not isinstance(model, HasPath):
        return
    path = np.asarray(model.path(jax.random.key(0), 400, 9))
    assert path.shape == (9, 400, 2)
    end = path[-1]
    assert np.all(np.abs(end.mean(axis=0) - toy.MEAN) < 0.25)
    shift = [np.linalg.norm(frame - end, axis=1).mean() for frame in path]
    # Chains begin with chance moves, which may lead away.
    assert np.all(np.diff(shift) < 0.1 * shift[0]), "hardly further from the end than before"
    assert shift[-2] < 0.7 * shift[0]


def test_a_change_of_units_changes_nothing_but_the_units(name, short_fit):
    """Fitted to a·x, a family gives a·x, and log q shifts by −log |a|: the Jacobian.

    In units of a power of two no number is rounded differently, so training is the same to the bit.
    """
    units = (4.0, 0.5)
    scale = np.asarray(units, np.float32)
    plain, other = short_fit(name).model, short_fit(name, units).model
    key = jax.random.key(0)
    expected = np.asarray(plain.sample(key, N)) * scale
    np.testing.assert_allclose(other.sample(key, N), expected, rtol=1e-4, atol=1e-4)
    if isinstance(plain, HasDensity):
        x = toy.gaussian(2, N)
        expected = np.asarray(batched(plain.log_prob, jnp.asarray(x))) - np.log(units).sum()
        moved = batched(other.log_prob, jnp.asarray(x * scale))
        np.testing.assert_allclose(moved, expected, atol=1e-3)
