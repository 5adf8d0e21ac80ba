"""Evidence: all that metrics look at, of a model, a target and a seed, each thing computed once.

    log p(x_t), log q(x_t)    at fresh true points x_t
    log p(x_s), log q(x_s)    at the model's own samples x_s
    ∇ log p, ∇ log q, s       at some of the true points; s is a network's own score
    log q on a grid, p on a finer one, bounds on log q, what the sampler reports

Nothing is computed before a metric asks for it, and what a model or a target does not have is said
by `Evidence.lacks`, in words.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from densitometer import metrics
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.metrics.bends import Bends
from densitometer.metrics.density import HEAVY, MARGIN, Mass, common, largest_share
from densitometer.metrics.grids import Grid, GridDensity
from densitometer.metrics.order import duplicated, in_random_order
from densitometer.metrics.rows import step_of
from densitometer.models import HasBound, HasDensity, HasDiagnostics, HasScore, Model
from densitometer.numerics import pinned
from densitometer.randomness import key_for
from densitometer.targets.base import Target

__all__ = ["Evidence", "judge"]

N_TEST = 10_000
"""Fresh true points behind `kl` and every other mean over the truth."""

N_SAMPLES = 2_000
"""Model samples behind every metric on samples; as many true ones stand beside them."""

N_SCORES = 2_000
"""Fresh true points at which scores are compared."""

N_ODE_GRADIENTS = 500
"""As many at which ∇ log q is taken through the solver of an ODE: half a CPU second's work."""

GRID = 128
"""Cells a side of the grid for masses and maps of densities."""

TRUTH_GRID = 400
"""Cells a side of the finer grid on which the truth's density is smoothed."""

BOUND_SAMPLES = 64
"""k of the reported importance-weighted bound, or samples that steady a bound which k does not
tighten."""

N_COMPARED = 2_000
"""Samples at most, chosen at random, for metrics whose cost grows with the square of how many."""


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What there is to judge a model by, or samples of which nobody knows where they are from.

    Arrays are NumPy's, float32 as they come from models and targets; points are in data
    coordinates, log-densities in nats.
    """

    target: Target
    """The truth."""
    seed: int
    """Of the fresh true points and of the model's samples."""
    samples: Float[np.ndarray, "n d"]
    """What is judged: the model's samples."""
    model: Model | None = None
    """Whose samples they are, and what else is judged; None if there are only samples."""
    n_test: int = N_TEST
    """Fresh true points."""
    n_grid: int = GRID
    """Cells a side of the grid for the mass and the map of the density."""
    train: Float[np.ndarray, "k d"] | None = None
    """The points that the model was fitted to; None if they are not known."""

    def __post_init__(self):
        # compiled programs are remembered by object: one for all equal targets
        object.__setattr__(self, "target", _same(self.target))

    @classmethod
    @pinned()
    def of_model(
        cls,
        model: Model,
        target: Target,
        seed: int,
        *,
        n_test: int,
        n_samples: int,
        n_grid: int,
        train: Float[np.ndarray, "k d"] | None = None,
    ) -> "Evidence":
        """What there is to judge a model by, with so many samples drawn from it."""
        samples = np.asarray(model.sample(key_for(seed, "samples"), n_samples))
        return cls(target, seed, samples, model, n_test, n_grid, train)

    def lacks(self, need: str) -> str | None:
        """Why something that a metric needs is not there, in words; None if it is."""
        why, is_absent = ABSENT[need]
        return why if is_absent(self) else None

    # --- of the truth

    @functools.cached_property
    def test(self) -> Float[np.ndarray, "m d"]:
        """Fresh true points."""
        return np.asarray(self.target.sample(key_for(self.seed, "test"), self.n_test))

    @functools.cached_property
    def log_p(self) -> Float[np.ndarray, " m"]:
        """log p at the test points."""
        return _at(self.target.log_prob, self.test)

    @functools.cached_property
    def log_p_own(self) -> Float[np.ndarray, " n"]:
        """log p at the model's samples, of rounded ones off the support where it is most nearby."""
        log_p = np.array(_at(self.target.log_prob, self.samples))
        off = ~(log_p >= self.target.hdr_log_density)
        if not self.step or not off.any():
            return log_p
        near = np.stack(np.meshgrid(*[[-0.5, 0.0, 0.5]] * self.target.dim), axis=-1)
        for place in near.reshape(-1, self.target.dim) * self.step:
            log_p[off] = np.maximum(
                log_p[off], _at(self.target.log_prob, self.samples[off] + place)
            )
        return log_p

    @functools.cached_property
    def step(self) -> float:
        """To the multiples of which samples are rounded; 0 if they are not.

        Few points that are all there is, as of a generator that has collapsed, are not rounded.
        """
        step, n = step_of(self.samples), len(self.samples)
        if not step or n - duplicated(self.samples) < (n - duplicated(self._rounded(step))) / 2:
            return 0.0
        return step

    @property
    def rounded_truth(self) -> Float[np.ndarray, "n d"] | None:
        """As many true samples, rounded as the samples are; None if these are not."""
        return self._rounded(self.step) if self.step else None

    def _rounded(self, step: float) -> Float[np.ndarray, "n d"]:
        key = key_for(self.seed, "rounded")
        truth = np.asarray(self.target.sample(key, len(self.samples)), np.float64)
        return np.round(truth / step) * step

    @property
    def truth(self) -> GridDensity:
        """The truth on a fine grid, in the plane."""
        return on_grid(self.target)

    @functools.cached_property
    def sds(self) -> Float[np.ndarray, " d"]:
        """The truth's standard deviation on each axis; beyond the plane that of the test points."""
        return self.truth.sds if self.target.dim == 2 else self.test.std(axis=0)

    @property
    def modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Centres and weights of the truth's modes, where it has some."""
        assert self.target.modes is not None
        return self.target.modes

    @functools.cached_property
    def score_p(self) -> Float[np.ndarray, "k d"]:
        """∇ log p at the first test points."""
        return _at(self.target.score, self.test[:N_SCORES])

    # --- of the samples

    @functools.cached_property
    def compared(self) -> Float[np.ndarray, "k d"]:
        """The samples, or some of them at random, for metrics that cost the square of how many."""
        return in_random_order(self.samples)[:N_COMPARED]

    @functools.cached_property
    def comparison(self) -> Float[np.ndarray, "k d"]:
        """As many fresh true samples."""
        key = key_for(self.seed, "comparison")
        return np.asarray(self.target.sample(key, len(self.compared)))

    def bends(self, parts: int) -> Bends:
        """The truth bent by named faults, and seen through so many parts, in the plane."""
        return _bends(self.target, parts)

    # --- of the model's density

    @functools.cached_property
    def log_q(self) -> Float[np.ndarray, " m"]:
        """log q at the test points."""
        return self._log_q(self.test)

    @functools.cached_property
    def log_q_own(self) -> Float[np.ndarray, " n"]:
        """log q at the model's samples."""
        return self._log_q(self.samples)

    @functools.cached_property
    def grid(self) -> Grid:
        """The grid of `log_density`: the target's box and a margin, in the plane."""
        return Grid.over(self.target.box, self.n_grid, MARGIN)

    @functools.cached_property
    def log_density(self) -> Float[np.ndarray, "ny nx"] | None:
        """log q on the grid; None if the model has no density, or beyond the plane."""
        if self.lacks("log_q") or self.target.dim != 2:
            return None
        return self.grid.evaluate(self._log_q)

    @functools.cached_property
    def overlap(self) -> Estimate | None:
        """E_p[min(q/p, 2)] = ∫ min(q, 2 p) on the grid; None unless p is smooth and in the plane.

        Its error is the scatter of the four interleaved subgrids of half the resolution, which
        overstates that of the whole.
        """
        if self.log_density is None or not self.target.smooth:
            return None
        log_p = _on_cells(self.target, self.n_grid)
        share = self.grid.cell * np.exp(log_p) * common(log_p, self.log_density)
        parts = [4 * share[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
        return Estimate(float(share.sum()), float(np.std(parts, ddof=1) / 2), EXACT)

    @functools.cached_property
    def own_density(self) -> GridDensity:
        """The model's density on the grid, smoothed as the truth's is."""
        assert self.log_density is not None
        return GridDensity.of(self.grid, self.log_density, widths=self.truth.widths)

    @functools.cached_property
    def log_q_train(self) -> Float[np.ndarray, " k"]:
        """log q at the training points."""
        assert self.train is not None
        return self._log_q(self.train)

    @functools.cached_property
    def gradient_q(self) -> Float[np.ndarray, "k d"]:
        """∇ log q at the first test points, of log q as it is computed."""
        n = N_ODE_GRADIENTS if self._density.density_provenance.kind == "ode" else N_SCORES
        return _at(self._density.log_prob_gradient, self.test[:n])

    @functools.cached_property
    def mass(self) -> Estimate:
        """∫ q over the plane, of a density that is not exact."""
        assert self.log_density is not None
        return Mass.of(self._log_q, self.grid, self.log_density, self._density.density_provenance)

    @functools.cached_property
    def provenance(self) -> Provenance:
        """Where log q comes from, with its mass unless it is exact."""
        provenance = self._density.density_provenance
        if provenance == EXACT or self.target.dim != 2:
            return provenance
        return provenance.with_details(mass=f"{self.mass.value:.4f}")

    # --- of what else a model has

    @functools.cached_property
    def score_q(self) -> Float[np.ndarray, "k d"]:
        """The model's own score at the first test points."""
        assert isinstance(self.model, HasScore)
        return _at(self.model.score, self.test[:N_SCORES])

    @functools.cached_property
    def elbo(self) -> Float[np.ndarray, " m"]:
        """The bound on log q at the test points."""
        assert isinstance(self.model, HasBound)
        return self._bounds(1 if self.model.bound_tightens else BOUND_SAMPLES)

    @functools.cached_property
    def importance(self) -> tuple[Float[np.ndarray, " m"], int]:
        """The importance-weighted bound of k samples at the test points, and k."""
        return self._bounds(BOUND_SAMPLES), BOUND_SAMPLES

    @functools.cached_property
    def diagnostics(self) -> Mapping[str, Float[np.ndarray, " n"]]:
        """What the sampler reports of each draw, by name."""
        if not isinstance(self.model, HasDiagnostics):
            return {}
        n = len(self.samples)
        reported = self.model.diagnostics(key_for(self.seed, "diagnostics"), n)
        return {name: np.asarray(values) for name, values in reported.items()}

    @property
    def _density(self) -> HasDensity:
        assert isinstance(self.model, HasDensity)
        return self.model

    def _log_q(self, points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return _at(self._density.log_prob, points)

    def _bounds(self, k: int) -> Float[np.ndarray, " m"]:
        assert isinstance(self.model, HasBound)
        key, points = key_for(self.seed, "bound"), jnp.asarray(self.test)
        return np.asarray(self.model.log_prob_bound(key, points, k))


ABSENT: Mapping[str, tuple[str, Callable[[Evidence], bool]]] = {
    "log_q": ("the model has no density", lambda e: not isinstance(e.model, HasDensity)),
    "heavy_tail": (
        "no single point makes more than a tenth of the sum",
        lambda e: largest_share(e.log_p, e.log_q) <= HEAVY,
    ),
    "mass": (
        "the model has no density that could be wrong",
        lambda e: not isinstance(e.model, HasDensity) or e.model.density_provenance == EXACT,
    ),
    "scores": ("the model has no score", lambda e: not isinstance(e.model, HasScore)),
    "elbo": ("the model has no bound", lambda e: not isinstance(e.model, HasBound)),
    "importance": (
        "the model has no bound that importance samples tighten",
        lambda e: not (isinstance(e.model, HasBound) and e.model.bound_tightens),
    ),
    "acceptance": ("its sampler proposes no moves", lambda e: "acceptance" not in e.diagnostics),
    "nfe": ("its sampler counts no evaluations", lambda e: "nfe" not in e.diagnostics),
    "train": ("its training points are not known", lambda e: e.train is None),
    "smooth": ("the truth has edges or poles", lambda e: not e.target.smooth),
    "slopes": ("the truth is flat wherever it is not 0", lambda e: e.truth.is_flat),
    "modes": ("the truth has no separate modes", lambda e: e.target.modes is None),
}
"""What a metric may need: why it is not there, in words, and whether it is absent."""


@pinned()
def judge(evidence: Evidence) -> dict[str, Estimate]:
    """Every metric that applies to the evidence, in the order of their registry."""
    return {m.name: m(evidence) for m in metrics.every() if m.absence(evidence) is None}


@pinned()
def absences(evidence: Evidence) -> dict[str, str]:
    """By metric, why those that do not apply do not."""
    return {m.name: why for m in metrics.every() if (why := m.absence(evidence)) is not None}


@functools.cache
def on_grid(target: Target) -> GridDensity:
    """A target in the plane on a fine grid."""
    grid = Grid.over(target.box, TRUTH_GRID, 3 * MARGIN)
    log_p = _at(target.log_prob, grid.points)
    return GridDensity.of(grid, log_p.reshape(TRUTH_GRID, TRUTH_GRID))


@functools.lru_cache(maxsize=8)
def _bends(target: Target, parts: int) -> Bends:
    """One for all samples of a target."""
    return Bends(on_grid(target), target.box, target.modes, parts)


@functools.lru_cache(maxsize=32)
def _on_cells(target: Target, n: int) -> Float[np.ndarray, "ny nx"]:
    """log p at the midpoints of the grid of `Evidence.log_density`."""
    grid = Grid.over(target.box, n, MARGIN)
    return grid.evaluate(lambda points: _at(target.log_prob, points))


@functools.cache
def _same(target: Target) -> Target:
    """One object for all equal targets."""
    return target


def _at(function: Callable[[jax.Array], jax.Array], points: np.ndarray) -> np.ndarray:
    return np.asarray(function(jnp.asarray(points)))
