"""What metrics are given, and which of them apply."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer import metrics
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.gaussian import log_normal
from densitometer.models import HasBound, HasDensity, Standardiser
from densitometer.randomness import key_for
from densitometer.scoring import evidence as module
from densitometer.scoring.baselines import Truth
from densitometer.scoring.evidence import ABSENT, Evidence, absences, judge
from densitometer.targets.base import Target
from densitometer.targets.certificate import Certificate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ball(Target):
    """A Gaussian in three dimensions."""

    name: ClassVar[str] = "ball"
    dim: ClassVar[int] = 3
    scale: float = 2.0

    @property
    def box(self):
        return (-7.0 * self.scale,) * 3, (7.0 * self.scale,) * 3

    @property
    def certificate(self):
        entropy = 1.5 * (1 + math.log(2 * math.pi)) + 3 * math.log(self.scale)
        level = -0.5 * 16.266 - 1.5 * math.log(2 * math.pi) - 3 * math.log(self.scale)
        return Certificate(Estimate(entropy, 0.0, EXACT), Estimate(level, 0.0, EXACT))

    def _sample(self, key):
        return (self.scale * jax.random.normal(key, (3,))).astype(jnp.float32)

    def _log_prob(self, x):
        return log_normal(x / self.scale) - 3 * math.log(self.scale)


def test_beyond_the_plane_what_needs_a_grid_is_absent_and_says_why():
    target = Ball()
    card = dm.score(Truth(target), target, n_test=2000, n_samples=500)
    found = {row.metric for row in card.rows}
    assert card.evidence is not None
    missing = absences(card.evidence)
    assert found | missing.keys() == set(metrics.METRICS)
    planar = {"bhattacharyya", "self_bhattacharyya", "shift", "blur", "leak", "temperature"}
    planar |= {"unexplained"}
    assert {
        m for m, why in missing.items() if why == "it is defined in 2 dimensions only"
    } == planar | {"mass"}
    assert missing["mode_weights"] == "the truth has no separate modes"
    assert card["kl"].value == 0.0
    assert card["nll"].value == pytest.approx(target.entropy.value, abs=4 * card["nll"].stderr)
    assert card["off_support"].value < 0.01
    assert abs(card["mmd2"].value) < 4 * card["mmd2"].stderr
    assert not card.impossible()


def test_nothing_is_computed_before_it_is_asked_for_and_then_once(monkeypatch):
    asked = []
    at = module._at
    monkeypatch.setattr(module, "_at", lambda f, x: asked.append(len(x)) or at(f, x))
    target = dm.targets.get("gaussian_mixture")
    evidence = Evidence.of_model(Truth(target), target, 0, n_test=20, n_samples=30, n_grid=10)
    assert not asked
    first = evidence.log_q
    assert evidence.log_q is first
    assert asked == [20]
    assert judge(evidence)["fisher_divergence"].value == 0.0
    assert asked.count(20) == 4  # log p, log q and their gradients at the test points
    assert asked.count(30) == 2  # and at the samples


def test_every_need_of_a_metric_is_one_that_evidence_knows():
    for metric in metrics.every():
        assert set(metric.needs) <= ABSENT.keys(), metric.name
        assert metric.name == next(n for n in metrics.METRICS if metrics.get(n) is metric)
        assert metric.label


def test_samples_alone_have_no_density_and_the_metrics_that_take_them_say_so():
    target = dm.targets.get("gaussian_mixture")
    samples = np.asarray(target.sample(jax.random.key(0), 100))
    evidence = Evidence(target, 0, samples, n_test=100)
    assert evidence.lacks("log_q") == "the model has no density"
    assert evidence.log_density is None
    on_samples = {m.name for m in metrics.every() if m.takes_samples}
    assert set(judge(evidence)) == on_samples - {"memorised"}
    assert evidence.lacks("train") == "its training points are not known"


@pytest.mark.parametrize(
    "text", ["exact", "bound", "ode(step=0.4, mass=1.0000)", "kde(h=0, n=12)", "anything (else)"]
)
def test_a_provenance_is_the_same_as_text(text):
    assert str(Provenance.parse(text)) == text
    assert Provenance.parse(text) == Provenance.parse(str(Provenance.parse(text)))


def test_a_provenance_has_a_kind_and_details():
    found = Provenance.of("ode", step=0.4).with_details(mass="1.0000")
    assert (found.kind, dict(found.details)) == ("ode", {"step": "0.4", "mass": "1.0000"})
    assert Provenance.parse(str(found)) == found
    assert [Provenance(k).is_bound for k in ("bound", "importance", "ode")] == [True, True, False]


class Numbered(HasDensity, HasBound):
    """The density of N(0, I), known by quadrature; a bound that says how many samples it took."""

    standardiser: Standardiser
    density_provenance: ClassVar[Provenance] = Provenance.of("quadrature", nodes=9)

    def _sample(self, key):
        return jax.random.normal(key, (self.dim,))

    def _log_prob(self, z):
        return log_normal(z)

    def _log_prob_bound(self, key, z, k):
        return jnp.asarray(float(k))


class Steadied(Numbered):
    """A bound that samples do not tighten."""

    bound_tightens: ClassVar[bool] = False


def of(model, target="gaussian_mixture", **sizes: int):
    sizes = {"n_test": 20, "n_samples": 30, "n_grid": 10} | sizes
    return Evidence.of_model(model, dm.targets.get(target), 0, **sizes)  # pyright: ignore


def test_samples_test_points_and_those_for_comparison_are_drawn_by_keys_of_their_own():
    target = dm.targets.get("gaussian_mixture")
    evidence = of(Truth(target), n_test=30)
    np.testing.assert_array_equal(evidence.samples, Truth(target).sample(key_for(0, "samples"), 30))
    drawn = [evidence.samples, evidence.test, evidence.comparison]
    assert [len(points) for points in drawn] == [30] * 3
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not np.isin(drawn[one], drawn[other]).any()


def test_log_densities_are_those_at_the_points_that_they_are_named_after():
    evidence = of(Numbered(Standardiser.identity(2)))
    log_q = lambda points: jax.vmap(log_normal)(jnp.asarray(points))
    np.testing.assert_allclose(evidence.log_q, log_q(evidence.test), rtol=1e-5)
    np.testing.assert_allclose(evidence.log_q_own, log_q(evidence.samples), rtol=1e-5)
    log_p = lambda points: jax.vmap(evidence.target.log_prob)(jnp.asarray(points))
    np.testing.assert_allclose(evidence.log_p, log_p(evidence.test), rtol=1e-5)
    np.testing.assert_allclose(evidence.log_p_own, log_p(evidence.samples), rtol=1e-5)


def test_only_a_density_that_could_be_wrong_is_given_with_its_mass():
    evidence = of(Numbered(Standardiser.identity(2)))
    assert evidence.lacks("mass") is None
    mass = evidence.mass.value
    assert str(evidence.provenance) == f"quadrature(nodes=9, mass={mass:.4f})"
    exact = of(Truth(dm.targets.get("gaussian_mixture")))
    assert exact.lacks("mass") == "the model has no density that could be wrong"
    assert exact.provenance == EXACT


def test_a_bound_takes_the_samples_that_it_is_said_to_take():
    evidence = of(Numbered(Standardiser.identity(2)))
    bound, k = evidence.importance
    assert k == module.BOUND_SAMPLES > 1
    assert set(bound) == {k}
    assert set(evidence.elbo) == {1}
    steadied = of(Steadied(Standardiser.identity(2)))
    assert set(steadied.elbo) == {k}
    assert evidence.lacks("importance") is None
    assert steadied.lacks("importance") == (
        "the model has no bound that importance samples tighten"
    )


def test_of_many_samples_some_are_compared_at_random(monkeypatch):
    monkeypatch.setattr(module, "N_COMPARED", 30)
    target = dm.targets.get("gaussian_mixture")
    samples = np.stack([np.arange(300.0), np.zeros(300)], axis=1).astype(np.float32)
    evidence = Evidence(target, 0, samples)
    assert len(evidence.compared) == len(evidence.comparison) == 30
    assert len(np.unique(evidence.compared[:, 0])) == 30
    assert evidence.compared[:, 0].max() > 200
