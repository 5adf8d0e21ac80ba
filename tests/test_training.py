import dataclasses
import functools
import inspect
import time
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import densitometer as dm
import toy
from densitometer import curves, preparation, training
from densitometer.models import Standardiser
from densitometer.randomness import key_for


@pytest.fixture(scope="module")
def data():
    return toy.gaussian(0, 400), toy.gaussian(1, 200)


def test_learns_and_keeps_curves_for_both_sets(data):
    train, holdout = data[0], toy.gaussian(1, 400)
    fit = dm.fit(toy.MeanFamily(), train, holdout)
    assert fit.curves["step"].tolist() == list(range(20, 401, 20))
    # −E log N(z; 0, I) of points with unit variance is log 2π + 1, exactly.
    assert fit.curves["train_loss"][-1] == pytest.approx(np.log(2 * np.pi) + 1, abs=0.05)
    # At step 20 the mean is still off by 2 · 0.95²⁰ on each axis, give or take that of 400 points.
    off = 2 * 0.95**20
    higher = fit.curves["train_loss"][0] - fit.curves["train_loss"][-1]
    assert higher == pytest.approx(off**2, abs=4 * off * np.sqrt(2 / 400))
    shift = np.asarray(fit.model.standardiser.inverse(fit.state.mean)) - train.mean(axis=0)
    assert np.all(np.abs(shift) < 4 * train.std(axis=0) / np.sqrt(32 / 0.05))
    assert fit.diverged_at is None


def test_own_and_common_curves_are_of_the_holdout_set(data):
    train, holdout = data
    fit = dm.fit(toy.MeanFamily(), train, holdout)
    z = np.asarray(Standardiser.from_data(jnp.asarray(train)).forward(jnp.asarray(holdout)))
    mean = np.asarray(fit.state.mean)
    expected = np.log(2 * np.pi) + 0.5 * np.mean(np.sum((z - mean) ** 2, axis=1))
    row = fit.curves["step"].tolist().index(fit.selected_step)
    assert fit.curves["holdout_loss"][row] == pytest.approx(expected, rel=1e-5)
    # The common curve: a KDE of samples, at points that are moved by its kernel, forth and back.
    standardiser = fit.model.standardiser
    order_key, blur_key = jax.random.split(key_for(0, "data"))
    ordered = jax.random.permutation(order_key, standardiser.forward(jnp.asarray(train)))
    h = float(curves.common_bandwidth(ordered))
    noise = h * np.asarray(jax.random.normal(blur_key, z.shape))
    key = jax.random.fold_in(key_for(0, "fit"), 0)
    samples = np.asarray(standardiser.forward(fit.model.sample(key, curves.CURVE_SAMPLES)))
    apart = np.concatenate([z + noise, z - noise])[:, None] - samples[None]
    kernels = np.exp(-np.sum(apart**2, axis=2) / (2 * h**2)) / (2 * np.pi * h**2)
    common = -np.mean(np.log(np.mean(kernels, axis=1)))
    assert fit.curves["holdout_kde_nll"][row] == pytest.approx(common, abs=1e-4)


def test_the_common_curve_is_lowest_for_the_law_itself():
    """With kernels of width h on samples of N(0, s² I) and hold-out of N(0, I), at s = 1.

    Points that are not blurred too would prefer s² = 1 − h², here s = .8.
    """
    h, normal = jnp.asarray(0.6), jax.random.normal
    keys = jax.random.split(jax.random.key(0), 3)
    points, noise = (normal(k, (n, 2)) for k, n in zip(keys[:2], (4000, 2000), strict=True))
    blurred = curves.blur(keys[2], points, h)
    assert np.std(blurred) == pytest.approx(np.sqrt(1 + 0.6**2), rel=4 / np.sqrt(2 * 8000))
    at = {s: -curves.kde_log_likelihood(s * noise, blurred, h) for s in (0.8, 0.9, 1, 1.1, 1.2)}
    assert min(at, key=at.__getitem__) == 1
    # Both are N(0, (1 + h²) I) then: the entropy, up to the sampling of points and of noise.
    entropy = np.log(2 * np.pi * np.e * (1 + 0.6**2))
    assert at[1] == pytest.approx(entropy, abs=4 / np.sqrt(4000) + 0.01)


def test_holdout_never_reaches_a_gradient(data):
    train, holdout = data
    one = dm.fit(toy.MeanFamily(), train, holdout)
    other = dm.fit(toy.MeanFamily(), train, holdout + 5)
    assert np.array_equal(one.curves["train_loss"], other.curves["train_loss"])


def test_keeps_the_best_state_by_holdout(data):
    fit = dm.fit(toy.MeanFamily(worsens_at=200), *data)
    best = fit.curves["holdout_loss"].argmin()
    assert fit.selected_step == fit.curves["step"][best] <= 200
    assert fit.state.count == fit.selected_step
    assert fit.curves["step"][-1] == 400


def test_divergence_is_recorded_and_the_best_state_survives(data):
    fit = dm.fit(toy.MeanFamily(breaks_at=205), *data)
    assert fit.diverged_at == 220
    assert fit.curves["step"][-1] == 220
    assert fit.selected_step <= 200
    assert np.isfinite(np.asarray(fit.model.sample(jax.random.key(0), 10))).all()


def test_divergence_before_the_first_evaluation_gives_the_initial_state(data):
    fit = dm.fit(toy.MeanFamily(breaks_at=0), *data)
    assert (fit.diverged_at, fit.selected_step) == (20, 0)
    assert np.array_equal(fit.state.mean, [2.0, 2.0])


def test_chunks_do_not_change_a_bit(data):
    family, points = toy.MeanFamily(), jnp.asarray(data[0])
    key = key_for(0, "fit")
    state = family.init(key, points)
    whole, _ = training._scan(family, 60, key, state, jnp.asarray(0), points)
    half, _ = training._scan(family, 30, key, state, jnp.asarray(0), points)
    half, _ = training._scan(family, 30, key, half, jnp.asarray(30), points)
    other, _ = training._scan(family, 60, key, state, jnp.asarray(1), points)
    assert np.array_equal(whole.mean, half.mean)
    assert not np.array_equal(whole.mean, other.mean)


def test_a_batch_is_drawn_with_replacement_or_is_all_there_is_from_anywhere_on():
    data = jnp.arange(10.0)[:, None]
    keys = jax.random.split(jax.random.key(0), 4000)
    few, all_ = (
        np.asarray(jax.vmap(lambda key, n=n: training._batch(key, n, data)[:, 0])(keys))
        for n in (4, 12)
    )
    for first in (few[:, 0], few[:, 3], all_[:, 0]):
        share = np.bincount(first.astype(int), minlength=10) / len(keys)
        assert np.all(np.abs(share - 0.1) < 4 * np.sqrt(0.1 * 0.9 / len(keys)))
    assert abs(np.corrcoef(few[:, 0], few[:, 1])[0, 1]) < 4 / np.sqrt(len(keys))
    assert np.array_equal(np.sort(all_, axis=1), np.broadcast_to(data[:, 0], all_.shape))


class SightedInfo(toy.MeanInfo):
    first: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sighted(toy.MeanFamily):
    """Asks for all points, to see which come first: `step_first` is their mean, squared."""

    @property
    def points_per_step(self):
        return 10**6

    def step(self, key, state, batch):
        state, info = super().step(key, state, batch)
        return state, SightedInfo(info.loss, jnp.mean(batch[:50, 0]) ** 2)


def test_sorted_points_are_no_worse_than_others(data):
    train, holdout = data
    ordered = train[np.argsort(train[:, 0])]
    first = dm.fit(Sighted(), ordered, holdout).curves["step_first"]
    # Fifty points at random have a mean of variance 1/50 at most; fifty neighbours nearly 1.
    assert np.mean(first) < 2 / 50


def test_same_seed_same_result_other_seed_another(data):
    one, two, other = (dm.fit(toy.MeanFamily(), *data, seed=s) for s in (0, 0, 1))
    assert one.curves_csv() == two.curves_csv() != other.curves_csv()


def test_curves_csv_keeps_every_digit(data):
    fit = dm.fit(toy.MeanFamily(), *data)
    header, *rows = fit.curves_csv().splitlines()
    assert header.startswith("step,train_loss,holdout_loss,holdout_kde_nll")
    assert [float(r.split(",")[2]) for r in rows] == fit.curves["holdout_loss"].tolist()


@pytest.mark.parametrize(
    ("steps", "standard", "smoke"), [(1, 1, 1), (30, 30, 1), (1600, 1600, 16), (8000, 8000, 80)]
)
def test_a_budget_scales_steps_and_rounds_to_one_step(steps, standard, smoke):
    family = toy.MeanFamily(steps=steps)
    assert preparation.at_budget(family, "standard").steps == standard
    assert preparation.at_budget(family, "smoke").steps == smoke


@given(st.integers(1, 10**9), st.integers(1, 50))
@settings(derandomize=True)
def test_evaluations_are_as_many_as_asked_or_one_a_step_and_the_last_is_at_the_end(steps, n):
    moments = preparation.evaluation_steps(steps, n)
    gaps = np.diff([0, *moments])
    assert len(moments) == min(steps, n)
    assert moments[-1] == steps
    assert np.all(gaps > 0)
    assert np.ptp(gaps) <= 1  # so that there are two programs to compile at most
    if steps % n == 0:
        assert moments == list(range(steps // n, steps + 1, steps // n))


@pytest.mark.parametrize(("steps", "step"), [(1, [1]), (3, [1, 2, 3]), (7, [1, 2, 3, 4, 5, 6, 7])])
def test_a_short_fit_is_evaluated_after_every_step(data, steps, step):
    assert dm.fit(toy.MeanFamily(steps=steps), *data).curves["step"].tolist() == step


def test_a_fit_of_uneven_chunks_is_that_of_one_chunk(data):
    family, heard = toy.MeanFamily(steps=50, worsens_at=40), []
    fit = dm.fit(family, *data, progress=lambda *a: heard.append(a))
    step = [2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37, 40, 42, 45, 47, 50]
    assert fit.curves["step"].tolist() == [s for s, _, _ in heard] == step
    assert fit.state.count == fit.selected_step == 40
    whole = dm.fit(dataclasses.replace(family, steps=40), *data, evaluations=1)
    assert whole.curves["step"].tolist() == [40]
    assert np.array_equal(whole.state.mean, fit.state.mean)


def test_divergence_in_uneven_chunks_is_told_at_its_evaluation(data):
    fit = dm.fit(toy.MeanFamily(steps=50, breaks_at=21), *data)
    assert fit.diverged_at == 22
    assert fit.curves["step"].tolist() == [2, 5, 7, 10, 12, 15, 17, 20, 22]


def test_a_fit_of_uneven_chunks_goes_on_with_the_same_bits(data):
    checkpoints, again = [], []
    begun = functools.partial(
        training.fit_seeds, toy.MeanFamily(steps=33), [data[0]], [data[1]], seeds=[0]
    )
    [whole] = begun(keep=checkpoints.append, keep_every=0.0)
    for resume in checkpoints[::6]:
        [fit] = begun(resume=resume, progress=lambda *a: again.append(a))
        assert fit.curves_csv() == whole.curves_csv()
        assert np.array_equal(fit.state.mean, whole.state.mean)
    assert len(again) == 19 + 13 + 7 + 1
    with pytest.raises(dm.UsageError, match="another fit"):
        begun(resume=checkpoints[0], evaluations=11)


@pytest.mark.parametrize(("every", "checkpoints"), [(5.0, 4), (10.0, 2), (11.0, 1), (100.0, 0)])
def test_checkpoints_are_as_far_apart_as_asked(data, monkeypatch, every, checkpoints):
    """Of four evaluations, five seconds each."""
    now, left = [0.0], []
    clock = SimpleNamespace(monotonic=lambda: sum(now), perf_counter=time.perf_counter)
    monkeypatch.setattr(training, "time", clock)
    training.fit_seeds(
        toy.MeanFamily(steps=20),
        [data[0]],
        [data[1]],
        seeds=[0],
        evaluations=4,
        progress=lambda *_: now.append(5.0),
        keep=left.append,
        keep_every=every,
    )
    assert len(left) == checkpoints


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"evaluations": 0}, "evaluations must be a whole number from 1 to 2147483647, not 0"),
        ({"evaluations": True}, "evaluations must be a whole number from 1 .*, not True"),
        ({"keep_every": -1.0}, r"keep_every must be a number .*, not -1\.0"),
        ({"keep_every": float("nan")}, "keep_every must be a number .*, not nan"),
    ],
)
def test_what_says_how_often_is_refused_in_a_sentence(data, given, message):
    fit_seeds = inspect.unwrap(training.fit_seeds)  # for whom no beartype stands at the door
    with pytest.raises(dm.UsageError, match=message):
        fit_seeds(toy.MeanFamily(), [data[0]], [data[1]], seeds=[0], **given)


@pytest.mark.parametrize("budget", ["huge", ["smoke"], None, 3])
def test_a_budget_that_there_is_not_is_a_sentence(budget):
    at_budget = inspect.unwrap(preparation.at_budget)  # for whom no beartype stands at the door
    with pytest.raises(dm.UsageError, match=r"there is no budget .*; choose from smoke, standard"):
        at_budget(toy.MeanFamily(), budget)


@pytest.mark.parametrize("family", ["dsm", toy.MeanFamily, None])
def test_what_is_no_family_is_a_sentence(family):
    at_budget = inspect.unwrap(preparation.at_budget)
    with pytest.raises(dm.UsageError, match="a family is made by families"):
        at_budget(family, "smoke")


def test_budgets_scale_steps(data):
    assert preparation.at_budget(toy.MeanFamily(steps=8000), "smoke").steps == 80
    assert preparation.at_budget(toy.MeanFamily(steps=8000), "standard").steps == 8000
    assert preparation.at_budget(toy.MeanFamily(steps=8000), "long").steps == 32000
    with pytest.raises(dm.UsageError, match="no budget 'huge'"):
        dm.fit(toy.MeanFamily(), *data, budget="huge")


def test_progress_hears_of_every_evaluation(data):
    heard = []
    fit = dm.fit(toy.MeanFamily(), *data, progress=lambda *a: heard.append(a))
    rows = zip(fit.curves["step"], fit.curves["holdout_loss"], strict=True)
    assert heard == [(step, 400, loss) for step, loss in rows]


@pytest.mark.parametrize(
    ("train", "holdout", "message"),
    [
        (np.zeros(30), np.zeros((30, 2)), "shape"),
        (np.zeros((30, 2)), np.zeros((30, 2)), "no spread"),
        (np.eye(30, 2), np.eye(30, 3), "dimension 2 but holdout 3"),
        (np.full((30, 2), np.nan), np.eye(30, 2), "NaN"),
        (np.eye(3, 2), np.eye(30, 2), "3 points"),
        ("points", np.eye(30, 2), "array of numbers"),
    ],
)
def test_bad_points_are_told_in_a_sentence(train, holdout, message):
    with pytest.raises(dm.UsageError, match=message):
        dm.fit(toy.MeanFamily(), train, holdout)


@pytest.fixture(scope="module")
def three_fits():
    trains = [toy.gaussian(s, 400) for s in range(3)]
    return trains, [toy.gaussian(s + 10, 200) for s in range(3)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noisy(toy.MeanFamily):
    """Learns with noise of its own, as most families do."""

    def step(self, key, state, batch):
        noise = jax.random.normal(key, batch.shape)
        return super().step(key, state, batch + noise)


def test_seeds_fitted_together_are_those_fitted_alone(three_fits):
    """The same batches, noise, curves and choice; sums are rounded in another order."""
    family = Noisy(steps=40)
    trains, holdouts = three_fits
    together = training.fit_seeds(family, trains, holdouts, seeds=[4, 5, 6])
    for fit, train, holdout, seed in zip(together, trains, holdouts, [4, 5, 6], strict=True):
        alone = dm.fit(family, train, holdout, seed=seed)
        assert fit.curves.keys() == alone.curves.keys()
        for name, curve in alone.curves.items():
            np.testing.assert_allclose(fit.curves[name], curve, rtol=1e-5, err_msg=name)
        assert fit.selected_step == alone.selected_step
        same = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        jax.tree.map(same, fit.state, alone.state)
        assert np.array_equal(fit.model.standardiser.shift, alone.model.standardiser.shift)


class Fragile(toy.MeanFamily):
    """Breaks on a point that is far out."""

    def step(self, key, state, batch):
        new, info = super().step(key, state, batch)
        broken = toy.MeanState(jnp.full_like(new.mean, jnp.nan), new.count)
        return jax.tree.map(lambda a, b: jnp.where(jnp.max(batch) > 8, a, b), broken, new), info


def test_a_seed_that_diverges_leaves_the_others_alone(three_fits):
    trains, holdouts = three_fits
    outlier = trains[1].copy()
    outlier[7] = 40.0
    trains = [trains[0], outlier, trains[2]]
    family = Fragile(steps=60)
    fits = training.fit_seeds(family, trains, holdouts, seeds=[0, 1, 2])
    for i, fit in enumerate(fits):
        alone = dm.fit(family, trains[i], holdouts[i], seed=i)
        assert (fit.diverged_at, fit.selected_step) == (alone.diverged_at, alone.selected_step)
        assert (fit.diverged_at is None) == (i != 1)
        assert len(fit.curves["step"]) == len(alone.curves["step"])
        assert np.all(np.isfinite(fit.state.mean))


def test_a_seed_that_has_diverged_stays_so_where_the_others_go_on(three_fits):
    trains, holdouts = three_fits
    trains = [trains[0], np.concatenate([trains[1][:-1], [[40.0, 0.0]]]), trains[2]]
    checkpoints = []
    begun = functools.partial(
        training.fit_seeds, Fragile(steps=60), trains, holdouts, seeds=[0, 1, 2]
    )
    whole = begun(keep=checkpoints.append, keep_every=0.0)
    again = begun(resume=checkpoints[-1])
    assert [fit.diverged_at is None for fit in again] == [True, False, True]
    for fit, other in zip(again, whole, strict=True):
        assert fit.curves_csv() == other.curves_csv()
        assert (fit.selected_step, fit.diverged_at) == (other.selected_step, other.diverged_at)
        assert np.array_equal(fit.state.mean, other.state.mean)


def test_seeds_that_do_not_go_together_are_refused(three_fits):
    trains, holdouts = three_fits
    family = toy.MeanFamily()
    with pytest.raises(dm.UsageError, match="3 training sets, 3 hold-out sets and 2 seeds"):
        training.fit_seeds(family, trains, holdouts, seeds=[0, 1])
    with pytest.raises(dm.UsageError, match="train of one fit has another shape"):
        training.fit_seeds(family, [trains[0], trains[1][:50]], holdouts[:2], seeds=[0, 1])
