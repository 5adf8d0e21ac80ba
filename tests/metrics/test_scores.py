"""Scores of the truth, of a model's density and of its network, and how far they are apart."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
import toy
from densitometer import families, metrics
from densitometer.errors import UsageError
from densitometer.estimates import EXACT, Provenance
from densitometer.metrics import scores
from densitometer.models import HasDensity, HasScore, Standardiser
from densitometer.scoring import evidence as module
from densitometer.scoring.baselines import Truth
from densitometer.scoring.evidence import Evidence, absences

STANDARDISER = Standardiser(jnp.array([1.0, -1.0]), jnp.array([2.0, 0.5]))


class Torn(toy.Normal, HasScore):
    """The density of N(0, I) and the score of N(m, I), m = (1, 2), in standardised coordinates."""

    standardiser: Standardiser = STANDARDISER

    def _score(self, z):
        return jnp.array([1.0, 2.0]) - z


class Solved(Torn):
    """The same, by an ODE."""

    density_provenance: ClassVar[Provenance] = Provenance.of("ode", step=0.5)


class ScoreAlone(HasScore):
    """A score without a density."""

    standardiser: Standardiser = STANDARDISER
    _sample = Torn._sample
    _score = Torn._score


NAMES = ("fisher_divergence", "score_error", "score_consistency")


def of(model, target="gaussian_mixture", n_test=40):
    target = dm.targets.get(target)
    return Evidence.of_model(model, target, 0, n_test=n_test, n_samples=30, n_grid=10)


def judge(evidence):
    """The three metrics, those that there are."""
    found = [metrics.get(name) for name in NAMES]
    return {m.name: m(evidence) for m in found if m.absence(evidence) is None}


def test_each_metric_compares_the_two_scores_that_it_names():
    evidence = of(Torn())
    x = np.asarray(evidence.test, np.float64)
    shift, scale = np.asarray(STANDARDISER.shift), np.asarray(STANDARDISER.scale)
    z = (x - shift) / scale
    true = np.asarray(evidence.target.score(evidence.test), np.float64)
    gradient, own = -z / scale, (np.array([1.0, 2.0]) - z) / scale
    card = judge(evidence)
    pairs = ((true, gradient), (true, own), (gradient, own))
    for name, (one, other) in zip(NAMES, pairs, strict=True):
        assert card[name].value == pytest.approx(np.mean(np.sum((one - other) ** 2, 1)), rel=1e-4)
        assert str(card[name].provenance) == "exact(n=40)"
    assert card["score_consistency"].value == pytest.approx(0.25 + 16.0, rel=1e-5)
    assert card["score_consistency"].stderr < 1e-4


def test_through_a_solver_fewer_points_are_taken_and_the_provenance_says_how_many(monkeypatch):
    monkeypatch.setattr(module, "N_ODE_GRADIENTS", 15)
    monkeypatch.setattr(module, "N_SCORES", 25)
    card = judge(of(Solved()))
    taken = {name: dict(card[name].provenance.details)["n"] for name in NAMES}
    assert taken == {"fisher_divergence": "15", "score_error": "25", "score_consistency": "15"}
    assert card["fisher_divergence"].provenance.kind == "ode"
    exact = judge(of(Torn()))
    assert {dict(exact[name].provenance.details)["n"] for name in NAMES} == {"25"}


def test_the_likelihood_of_the_training_points_is_theirs_and_not_that_of_the_test_points():
    target, train = dm.targets.get("gaussian_mixture"), np.array([[1.0, -1.0]] * 40, np.float32)
    evidence = Evidence.of_model(Torn(), target, 0, n_test=40, n_samples=30, n_grid=10, train=train)
    found = metrics.get("nll_train")(evidence)
    # at the middle of N(shift, diag(4, ¼)), whose determinant is 1
    assert found.value == pytest.approx(np.log(2 * np.pi), rel=1e-5)
    assert absences(of(Torn()))["nll_train"] == "its training points are not known"
    with pytest.raises(UsageError, match="train has dimension 3"):
        dm.score(Torn(), target, train=np.zeros((40, 3)))


def test_what_is_not_there_is_absent_with_its_reason():
    assert "score_error" in judge(of(ScoreAlone()))
    missing, why = absences(of(ScoreAlone())), "the model has no density"
    assert missing["fisher_divergence"] == missing["score_consistency"] == why
    truth = absences(of(Truth(dm.targets.get("gaussian_mixture"))))
    assert truth["score_error"] == "the model has no score"
    assert "fisher_divergence" not in truth
    edges = absences(of(Torn(), "checkerboard"))
    assert edges["score_error"] == "the truth has edges or poles"
    assert "score_consistency" not in edges


def test_the_gradient_through_an_ode_is_that_of_finite_differences():
    family = families.get("dsm", width=8, depth=1, fourier_count=2)
    model = family.model(family.init(jax.random.key(0), jnp.ones((4, 2))))
    assert isinstance(model, HasDensity)
    z, h = np.array([[0.4, -0.7], [1.5, 0.2]]), 1e-5
    points = np.stack([z, *(z + sign * h * axis for axis in np.eye(2) for sign in (1, -1))])
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        double = jax.tree.map(lambda a: a.astype(jnp.float64), model)
        both = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(double._log_prob))))
        values, gradients = map(np.asarray, both(points))
    assert gradients.dtype == np.float64
    differences = np.stack([values[1] - values[2], values[3] - values[4]], axis=1) / (2 * h)
    np.testing.assert_allclose(gradients[0], differences, atol=1e-8)
    assert np.abs(differences).max() > 0.1


def test_the_fisher_divergence_of_two_gaussians():
    # p = N(0, I), q = N(m, s² I): E ‖−x + (x − m)/s²‖² = d (1/s² − 1)² + ‖m‖²/s⁴
    x = np.random.default_rng(0).normal(size=(200_000, 2))
    m, s2 = np.array([0.5, -1.0]), 2.0
    got = scores.FisherDivergence.of(-x, -(x - m) / s2, EXACT)
    exact = 2 * (1 / s2 - 1) ** 2 + (m @ m) / s2**2
    assert abs(got.value - exact) < 4 * got.stderr


def test_the_fisher_divergence_does_not_see_the_weights_of_far_modes():
    """The lesson of score matching: two mixtures, nine to one and one to nine, have one score."""
    x = np.random.default_rng(0).normal(size=(4000, 1)) + 20 * (np.arange(4000) % 10 == 0)[:, None]

    def score(weight):
        logs = np.log([weight, 1 - weight]) - 0.5 * (x - np.array([0.0, 20.0])) ** 2
        share = np.exp(logs - np.logaddexp(logs[:, :1], logs[:, 1:]))
        return np.sum(share * (np.array([0.0, 20.0]) - x), axis=1, keepdims=True)

    assert scores.FisherDivergence.of(score(0.9), score(0.1), EXACT).value < 1e-6
