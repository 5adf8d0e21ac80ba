"""Curves of a fit: over all points of both sets, without what no state can be rid of."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toy
from densitometer import families, preparation
from densitometer.curves import groups_of_draws, pieces
from densitometer.models import Standardiser
from densitometer.preparation import prepare
from densitometer.training import begin, evaluate


@pytest.mark.parametrize(
    ("n", "m", "draws"),
    [(2000, 500, 16), (500, 2000, 16), (130, 120, 3), (100, 100, 4), (7, 3, 1), (40, 4, 5)],
)
def test_the_larger_set_is_met_once_and_the_smaller_by_every_draw(n, m, draws):
    groups, size = groups_of_draws(draws, n, m)
    assert draws <= groups * size < draws + size
    for points, other in ((n, m), (m, n)):
        met = np.zeros((points, groups), int)
        for where, which in pieces(points, other, groups):
            assert where.stop - where.start <= min(n, m)
            met[where, which] += 1
        assert (met.sum(axis=1) == (groups if points == min(n, m) else 1)).all()
        assert met.max() == 1
        assert met.any(axis=0).all()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Noisy(toy.MeanFamily):
    """Says that what no state can be rid of is the points' mean square, and 0.1 a candidate."""

    def least_loss(self, key, batch, candidates):
        return jnp.mean(batch**2) + 0.1 * len(candidates)


def test_a_family_s_own_curves_are_of_all_points_less_what_no_state_can_be_rid_of(monkeypatch):
    sets = {"train": toy.gaussian(0, 220), "holdout": toy.gaussian(1, 100)}
    prepared = lambda: prepare(Noisy(steps=4), [sets["train"]], [sets["holdout"]], [0], 2)
    setup = prepared()
    row = evaluate(setup, begin(setup))
    standardise = Standardiser.from_data(sets["train"]).forward
    for name, points in sets.items():
        z = np.asarray(standardise(jnp.asarray(points)), float)
        loss = np.log(2 * np.pi) + 0.5 * np.mean(np.sum((z - 2.0) ** 2, axis=1))  # of mean 2
        least = np.mean(z**2) + 0.1 * 320
        assert row[f"{name}_loss"][0] == pytest.approx(loss - least, rel=1e-5)
    monkeypatch.setattr(preparation, "MOST_CANDIDATES", 319)
    assert prepared().least_train == prepared().least_holdout == 0


def test_whoever_has_seen_neither_set_has_the_same_excess_on_both():
    """The exact predictor for N(0, I), whose network is 0, on pairs of sets of a hundred points."""
    family = families.get("ddpm", width=4, depth=1)
    exact = jax.tree.map(jnp.zeros_like, family.init(jax.random.key(0), jnp.zeros((3, 2))))

    @jax.jit
    @jax.vmap
    def on_both(key, sets):
        of = lambda x: (family.loss(key, exact, x), family.least_loss(key, x, sets.reshape(-1, 2)))
        return jnp.stack([jnp.stack(of(sets[0])), jnp.stack(of(sets[1]))])

    n = 60
    sets = np.random.default_rng(0).normal(size=(n, 2, 100, 2)).astype(np.float32)
    losses, least = np.moveaxis(
        np.asarray(on_both(jax.random.split(jax.random.key(1), n), sets)), 2, 0
    )
    excess = losses - least
    gaps = excess[:, 0] - excess[:, 1]
    assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(n)
    assert gaps.std() < 0.7 * (losses[:, 0] - losses[:, 1]).std()
    assert 0 < excess.mean() < losses.mean()


@pytest.mark.parametrize("name", ["dsm", "ddpm"])
def test_of_a_single_point_nothing_is_unknown(name):
    family = families.get(name, width=4, depth=1)
    x = jnp.array([[0.3, -0.8]])
    least = family.least_loss(jax.random.key(0), jnp.tile(x, (50, 1)), x)
    assert float(least) == pytest.approx(0.0, abs=1e-6)
    apart = jnp.concatenate([x, x + 0.2])
    assert float(family.least_loss(jax.random.key(0), jnp.tile(x, (50, 1)), apart)) > 1e-3
