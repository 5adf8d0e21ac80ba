"""One cell never costs the report: models that have broken down are rows like others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import densitometer as dm
from densitometer.estimates import Provenance
from densitometer.findings import ranking
from densitometer.findings.results import Results
from densitometer.models import HasDensity, Model, Standardiser
from densitometer.report import animation, figures, writeup
from densitometer.report.gallery import page as gallery


class Draws(Model):
    """Normal draws about a point."""

    standardiser: Standardiser
    point: jax.Array
    scale: float

    def _sample(self, key):
        return self.point + self.scale * jax.random.normal(key, (2,))


class Broken(HasDensity):
    """A density that is no number, or no density, in half of the plane."""

    standardiser: Standardiser
    there: float
    density_provenance = Provenance.of("ode", step=0.4)

    def _sample(self, key):
        return jax.random.normal(key, (2,))

    def _log_prob(self, z):
        return jnp.where(z[0] > 0.3, self.there, -3.0 - z[0])


def draws(x, y, scale):
    return Draws(Standardiser.identity(2), jnp.array([x, y]), scale)


def broken(there):
    return Broken(Standardiser.identity(2), there)


MODELS = {
    ("spiral", "gan"): (draws(0.3, 0.2, 0.0), "repeating themselves"),
    ("pinwheel", "gan"): (draws(jnp.nan, 0.2, 1.0), "not finite"),
    ("checkerboard", "gan"): (draws(1e30, 1e30, 1e28), "far from the truth"),
    ("gaussian_mixture", "gan"): (draws(0.0, 0.0, jnp.inf), "not finite"),
    ("spiral", "dsm"): (broken(jnp.nan), "far from the truth"),
    ("pinwheel", "dsm"): (broken(jnp.inf), "far from the truth"),
    ("checkerboard", "dsm"): (broken(-jnp.inf), ""),
    ("gaussian_mixture", "dsm"): (broken(500.0), "far from the truth"),
}


@pytest.fixture(scope="module")
def scored():
    return {
        place: dm.score(
            model, dm.targets.get(place[0]), family=place[1], n_test=1000, n_samples=500, n_grid=48
        )
        for place, (model, _) in MODELS.items()
    }


@pytest.mark.parametrize("place", MODELS)
def test_the_scorecard_of_a_broken_model_is_told(scored, place):
    card = scored[place]
    verdict = card.verdicts()[place[1]]
    assert not verdict.passes
    assert MODELS[place][1] in verdict.sentence
    assert verdict.sentence in str(card)
    assert card.judged()[-1]["note"] == verdict.sentence
    if place[1] == "dsm":  # half of the plane is no density: no comparison with it is a number
        flagged = " ".join(card.impossible())
        assert "KL divergence is" in flagged
        assert "Total variation" in flagged or np.isfinite(card["total_variation"].value)
        assert card["total_variation"].value != 0, "an infinite density is no perfect one"


def test_a_report_is_written_though_every_cell_of_two_families_broke_down(scored, study):
    for (target, family), card in scored.items():
        cell = study / "cells" / target / family / "0"
        (cell / "scorecard.json").write_text(card.to_json())
        np.save(cell / "samples.npy", card.evidence.samples)
        np.save(cell / "path.npy", np.stack([card.evidence.samples[:20]] * 3))
        if card.evidence.log_density is not None:
            np.save(cell / "log_density.npy", card.evidence.log_density)
    results = Results.read(study)
    drawn = {name: figures.render(draw(results), "pdf") for name, draw in figures.ALL.items()}
    assert writeup.pdf(results, drawn).startswith(b"%PDF")
    assert b"</html>" in gallery.page(results)
    assert b"</svg>" in animation.svg(results)
    flagged = ranking.impossible(results)
    assert ("pinwheel", "dsm", "kl") in flagged
    assert "dsm" not in ranking.best(results, "pinwheel", "kl")
