"""Every target of the registry: it is a law, its sampler draws from it, its constants are its own.

Tolerances are standard errors of the n = 200,000 draws, or the accuracy the targets claim.
"""

import dataclasses
import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chi2, vonmises
from target_oracles import CELLS, LOG_DENSITIES, spiral

import densitometer as dm
from densitometer.models import batched
from densitometer.targets.base import Target
from densitometer.targets.spiral import Spiral

NAMES = list(dm.targets.TARGETS)
BY_FORMULA = [name for name in NAMES if name not in ("two_moons", "swiss_roll")]
"""One target for each formula of a density: these two have the spiral's."""

N = 200_000


def log_prob(target, points) -> np.ndarray:
    return np.asarray(target.log_prob(jnp.asarray(points, jnp.float32)), float)


@functools.cache
def draws(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The same draws for every test, with their log-densities."""
    target = dm.targets.get(name)
    x = np.asarray(target.sample(jax.random.key(2), N))
    return x, log_prob(target, x)


@functools.cache
def masses(name: str) -> np.ndarray:
    """p integrated over each node of each cell, (cells, nodes)."""
    cells = CELLS[name]
    log_p = log_prob(dm.targets.get(name), cells.points.reshape(-1, 2))
    return cells.weights * np.exp(log_p).reshape(cells.weights.shape)


def fit_p_value(name: str, samples: np.ndarray) -> float:
    """Pearson's χ² test of `samples` against the cell masses of the density.

    Cells that expect fewer than five points are pooled with the outside of all cells.
    """
    probabilities = masses(name).sum(axis=1)
    index = CELLS[name].locate(samples)
    expected = len(samples) * probabilities
    observed = np.bincount(index[index >= 0], minlength=len(expected))
    kept = expected >= 5
    expected = np.append(expected[kept], len(samples) - expected[kept].sum())
    observed = np.append(observed[kept], len(samples) - observed[kept].sum())
    statistic = ((observed - expected) ** 2 / np.maximum(expected, 1)).sum()
    return float(chi2.sf(statistic, len(expected) - 1))


PARAMETERS = [
    (name, field.name, field.default)
    for name in NAMES
    for field in dataclasses.fields(dm.targets.TARGETS[name])
]


@pytest.mark.parametrize("name", NAMES)
def test_integrates_to_one(name):
    assert masses(name).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_box_holds_the_mass(name):
    lower, upper = dm.targets.get(name).box
    points = CELLS[name].points
    outside = ((points < lower) | (points > upper)).any(axis=-1)
    assert masses(name)[outside].sum() < 1e-9
    samples, _ = draws(name)
    assert (samples >= lower).all()
    assert (samples <= upper).all()


@pytest.mark.parametrize("name", NAMES)
def test_sampler_agrees_with_density(name):
    samples, log_p = draws(name)
    assert fit_p_value(name, samples) > 1e-3
    assert np.isfinite(log_p).all()


@pytest.mark.parametrize(("name", "parameter", "value"), PARAMETERS)
def test_sampler_of_a_law_five_percent_away_does_not(name, parameter, value):
    changed = value + 2 if isinstance(value, int) else 1.05 * value
    other = dataclasses.replace(dm.targets.get(name), **{parameter: changed})
    samples = np.asarray(other.sample(jax.random.key(1), N))
    assert fit_p_value(name, samples) < 1e-9


@pytest.mark.parametrize("name", NAMES)
def test_entropy(name):
    entropy = dm.targets.get(name).entropy
    _, log_p = draws(name)
    stderr = math.hypot(log_p.std() / math.sqrt(N), entropy.stderr)
    assert -log_p.mean() == pytest.approx(entropy.value, abs=4 * stderr + 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_density_level_leaves_one_in_a_thousand_below(name):
    _, log_p = draws(name)
    below = (log_p < dm.targets.get(name).hdr_log_density).mean()
    if name == "checkerboard":  # uniform: its level is below every point of the support
        assert below == 0
    else:
        assert below == pytest.approx(1e-3, abs=4 * math.sqrt(1e-3 / N))


def hard_points(name: str) -> np.ndarray:
    """Draws, points all over a box a quarter wider, and the places where something changes."""
    samples, _ = draws(name)
    rng = np.random.default_rng(0)
    lower, upper = dm.targets.get(name).box
    everywhere = rng.uniform(1.25 * np.array(lower), 1.25 * np.array(upper), (2000, 2))
    angle = rng.uniform(0, 2 * math.pi, 300)
    circle = np.stack([np.sin(angle), np.cos(angle)], axis=1)
    end = 0.05 * 6 * math.pi
    special = {
        # The two ends of the curve, seven standard deviations around them, and between arms.
        "spiral": [circle * 0.28, circle * 0.28 + [end, 0], circle * end, [[0, 0], [end, 0]]],
        # The way into the pole, and both sides of the rim.
        "pinwheel": [circle * np.geomspace(1e-30, 1, 300)[:, None], circle * 0.9999, circle * 1.01],
        # The corners of all squares: each belongs to the square above and to the right.
        "checkerboard": [np.stack(np.meshgrid(*2 * [np.arange(-6.0, 7.0)]), -1).reshape(-1, 2)],
        "gaussian_mixture": [circle * 0.84 + [1.2, 0], circle * 1.2, [[0, 0]]],
        # Around each end of a curve, where it leaps or stops.
        "two_moons": [circle * 0.7 + [s * 1.5, s * -0.25] for s in (-1, 1)],
        # Around the centre, where a radius has no derivative, and within the smallest circle.
        "rings": [[[0, 0]], circle * np.geomspace(1e-30, 0.75, 300)[:, None], circle * 3],
        "swiss_roll": [circle * 1.4 + [0, r] for r in (-0.3 * math.pi, 0.9 * math.pi)],
    }
    far = [[s * r, t * r] for r in (1e1, 1e5, 1e20, 3e38) for s, t in ((1, 0), (-1, 1))]
    points = np.concatenate([samples[:2000], everywhere, *special[name], far])
    return points.astype(np.float32).astype(float)


@pytest.mark.parametrize("name", NAMES)
def test_log_prob_against_an_independent_density(name):
    points = hard_points(name)
    points = points[(points != 0).any(axis=1)] if name == "pinwheel" else points
    ours, reference = log_prob(dm.targets.get(name), points), LOG_DENSITIES[name](points)
    assert not np.isnan(ours).any()
    np.testing.assert_array_equal(np.isneginf(ours), np.isneginf(reference))
    accurate = reference > math.log(1e-12)
    assert accurate.sum() > 2000
    assert (ours[reference < -1100] < -1000).all()  # and no overflow to +∞ far away
    np.testing.assert_allclose(ours[accurate], reference[accurate], rtol=0, atol=1e-5)


def test_spiral_quadrature_follows_the_parameters():
    """Twice the accuracy is needed for half the noise."""
    law = Spiral(turns=2.0, growth=0.08, noise=0.015)
    points = np.asarray(law.sample(jax.random.key(0), 500), float)
    points = np.concatenate([points, np.random.default_rng(0).uniform(-1.2, 1.2, (2000, 2))])
    points = points.astype(np.float32).astype(float)
    reference = spiral(points, 2.0, 0.08, 0.015)
    accurate = reference > math.log(1e-12)
    np.testing.assert_allclose(
        log_prob(law, points)[accurate], reference[accurate], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", BY_FORMULA)
def test_score_against_finite_differences(name):
    """Central differences of the independent density, good to about 1e-8 of the score."""
    target = dm.targets.get(name)
    points = hard_points(name)
    radius = np.hypot(*points.T)
    step = 1e-5 * np.minimum(radius if name == "pinwheel" else 1.0, 1.0)
    low_high = [
        [LOG_DENSITIES[name](points + sign * step[..., None] * axis) for sign in (-1, 1)]
        for axis in np.eye(2)
    ]
    with np.errstate(invalid="ignore"):
        expected = np.stack([(high - low) / (2 * step) for low, high in low_high], axis=1)
    smooth = np.isfinite(expected).all(axis=1) & (LOG_DENSITIES[name](points) > math.log(1e-12))
    assert smooth.sum() > 2000
    score = np.asarray(target.score(jnp.asarray(points, jnp.float32)))
    by_caller = np.asarray(batched(jax.grad(target.log_prob), jnp.asarray(points, jnp.float32)))
    size = 1 + np.linalg.norm(expected[smooth], axis=1, keepdims=True)
    np.testing.assert_allclose(score[smooth] / size, expected[smooth] / size, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(score, by_caller)
    assert not np.isnan(score).any()


def test_pinwheel_pole():
    target = dm.targets.get("pinwheel")
    assert target.log_prob(jnp.zeros(2)) == jnp.inf
    radii = np.geomspace(1e-44, 1e-3, 200)
    near = jnp.asarray(np.outer(np.append(0, radii), [0.6, -0.8]), jnp.float32)
    assert not jnp.isnan(target.log_prob(near)).any()
    assert not jnp.isnan(target.score(near)).any()


@pytest.mark.parametrize("name", ["pinwheel", "checkerboard"])
def test_off_the_support(name):
    outside = {
        "pinwheel": [[1.0, 1e-3], [0.8, -0.61], [1.0, 1.0], [-3.0, 0.0]],
        "checkerboard": [[1.0, -1.0], [-1.0, 1.0], [3.0, 1.0], [4.0, 1.0], [5.0, 5.0], [1.0, -5.0]],
    }
    assert (log_prob(dm.targets.get(name), outside[name]) == -np.inf).all()


@pytest.mark.parametrize("name", BY_FORMULA)
def test_same_numbers_however_called(name):
    """Alone, under vmap, jit or a batched scan, and with 64-bit types on or off."""
    target = dm.targets.get(name)
    key = jax.random.key(3)
    samples = target.sample(key, 20)
    expected = target.log_prob(samples)
    assert samples.dtype == expected.dtype == jnp.float32
    ways = [
        batched(target.log_prob, samples),
        jax.vmap(target.log_prob)(samples),
        jax.jit(jax.vmap(target.log_prob))(samples),
        jnp.stack([target.log_prob(x) for x in samples]),
    ]
    with jax.enable_x64(True):
        np.testing.assert_array_equal(target.sample(key, 20), samples)
        ways.append(jax.vmap(target.log_prob)(samples.astype(jnp.float64)))
    for way in ways:
        np.testing.assert_allclose(way, expected, rtol=1e-6)


@pytest.mark.parametrize("name", BY_FORMULA)
@pytest.mark.parametrize("method", ["log_prob", "score"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (0,)])
def test_wrong_shape(name, method, shape):
    target = dm.targets.get(name)
    with pytest.raises(dm.UsageError, match=rf"^target.{method} takes one point of shape \(2,\)"):
        getattr(target, method)(jnp.zeros(shape))


@pytest.mark.parametrize("name", BY_FORMULA)
@pytest.mark.parametrize("method", ["log_prob", "score"])
def test_a_batch_gives_what_its_points_give(name, method):
    target = dm.targets.get(name)
    function = getattr(target, method)
    samples = target.sample(jax.random.key(4), 1030)
    values = function(samples)
    np.testing.assert_array_equal(values, batched(function, samples))
    np.testing.assert_array_equal(
        function(samples.reshape(2, 515, 2)).reshape(values.shape), values
    )
    alone = jnp.stack([function(x) for x in samples[-3:]])
    np.testing.assert_allclose(values[-3:], alone, rtol=1e-6)
    assert function(samples[:0]).shape == values[:0].shape


@pytest.mark.parametrize("name", BY_FORMULA)
def test_jax_transforms_the_log_density_of_points_and_batches(name):
    target = dm.targets.get(name)
    samples = target.sample(jax.random.key(4), 20)
    score = target.score(samples)
    ways = [
        jax.vmap(jax.grad(target.log_prob))(samples),
        jax.jit(jax.vmap(jax.grad(target.log_prob)))(samples),
        jax.jit(jax.grad(lambda x: jnp.sum(target.log_prob(x))))(samples),
        jax.vmap(target.score)(samples.reshape(4, 5, 2)).reshape(20, 2),
    ]
    for way in ways:
        np.testing.assert_allclose(way, score, rtol=1e-5, atol=1e-5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VonMises(Target):
    """exp(κ cos x) / (2π I₀(κ)), a target of one's own with a special function."""

    name: ClassVar[str] = "von_mises"
    dim: ClassVar[int] = 1

    @property
    def box(self):
        return (-math.pi,), (math.pi,)

    def _sample(self, key):
        raise NotImplementedError

    def _log_prob(self, x):
        kappa = 3.0 + 0.0 * x[0]
        return kappa * (jnp.cos(x[0]) - 1) - jnp.log(2 * math.pi * jax.scipy.special.i0e(kappa))


def test_a_batch_is_compiled_with_64_bit_types_too():
    """JAX lowers some functions, such as i0e, by what is enabled around the whole program."""
    x = np.linspace(-3, 3, 7)[:, None]
    got = VonMises().log_prob(jnp.asarray(x, jnp.float32))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, vonmises.logpdf(x[:, 0], 3.0), rtol=1e-6)


def test_points_in_float64_are_not_rounded():
    """Far out a density is steep: rounding x to float32 would show in log p."""
    target = dm.targets.get("gaussian_mixture")
    x = np.array([[10.0000004, 0.0], [10.0, 0.0]])
    assert len(np.unique(x.astype(np.float32)[:, 0])) == 1
    further, nearer = target.log_prob(x)
    assert further < nearer
    np.testing.assert_array_equal([further, nearer], [target.log_prob(p) for p in x])


@pytest.mark.parametrize("name", NAMES)
def test_names_and_values(name):
    target = dm.targets.get(name)
    assert target.name == name
    assert target.dim == 2
    assert target == dm.targets.get(name)
    assert hash(target) == hash(dm.targets.get(name))
