"""Baselines of every family: the truth itself, Gaussian mixtures and kernel density estimates.

    q(x) = Σⱼ wⱼ N(x; mⱼ, Lⱼ Lⱼᵀ)        q(x) = (1/n) Σᵢ N(x; xᵢ, λᵢ² h² C)

They are models like any other, so they are sampled, scored and drawn by the same code. What they
leave open is chosen by the hold-out points, as the state of every family is.
"""

import functools
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar
from scipy.optimize import fminbound
from scipy.spatial.distance import cdist

from densitometer.errors import UsageError
from densitometer.estimates import EXACT, Provenance
from densitometer.gaussian import Converged, Mixture, converged
from densitometer.metrics.kde import BLOCK, LEFT_OUT, cross_validated_factor
from densitometer.metrics.order import in_random_order
from densitometer.models import HasDensity, Standardiser
from densitometer.numerics import pinned
from densitometer.points import check_points, check_spread
from densitometer.targets.base import Target

Points = Float[Array, "n d"] | Float[np.ndarray, "n d"]
Others = Float[Array, "m _"] | Float[np.ndarray, "m _"]

COMPONENTS = (1, 2, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
"""Numbers of components among which the hold-out points choose."""

STARTS = 4
"""Starts of expectation–maximisation for each of them."""

TOLERANCE = 3e-4
"""Gain of an iteration, nats a training point, below which it stops: hold-out points gain less."""

AVERAGED = 10
"""Mixtures whose mean is the baseline ``gmm_mean``."""

SENSITIVITIES = (0.0, 0.25, 0.5)
"""Exponents α among which the hold-out points choose; Abramson's is ½, and 0 is a fixed width."""

PILOT = 2.0
"""Bandwidth of the pilot density over the cross-validated one, at which it is too noisy."""


class Truth(HasDensity):
    """A target as a model: what no family can beat."""

    standardiser: Standardiser
    target: Target = eqx.field(static=True)

    density_provenance: ClassVar[Provenance] = EXACT

    @pinned()
    def __init__(self, target: Target):
        self.standardiser, self.target = Standardiser.identity(target.dim), target

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.target.sample(key, 1)[0]

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.target.log_prob(z)


class GaussianMixture(HasDensity):
    """A mixture of Gaussians with full covariances, chosen by hold-out points, or a mean of some.

    The mean of several Gaussian mixtures is a Gaussian mixture of all their components.
    """

    standardiser: Standardiser
    mixture: Mixture

    density_provenance: ClassVar[Provenance] = EXACT

    @classmethod
    @pinned()
    def fit(cls, train: Points, holdout: Others, *, best: int = 1) -> "GaussianMixture":
        """The mean of the `best` mixtures with the largest likelihood of the hold-out points.

        Expectation–maximisation makes them on the training points, with each of `COMPONENTS` and
        from `STARTS` starts each, if there are two points for each dimension of each component.

        Raises:
            UsageError: `train` are no points with a spread along each axis, or `holdout` no points
                of the same space.
        """
        points, others = _checked_both(train, holdout)
        dim = points.shape[1]
        fits = _fits(points.tobytes(), others.tobytes(), dim)[:best]
        weights = np.concatenate([fit.weights for fit in fits]) / len(fits)
        means, factors = (np.concatenate(a) for a in zip(*(fit[1:] for fit in fits), strict=True))
        mixture = Converged(weights, means, factors).mixture()
        return cls(Standardiser.identity(dim), mixture)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.mixture.draw(key)

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.mixture.log_prob(z)


@functools.lru_cache(maxsize=2)  # the single best and the mean are cells of one training set
def _fits(train: bytes, holdout: bytes, dim: int) -> list[Converged]:
    """All fits to the training points, the largest likelihood of the hold-out points first."""
    points, others = (np.frombuffer(b).reshape(-1, dim) for b in (train, holdout))
    most = max(1, len(np.unique(points, axis=0)) // (2 * dim))
    fits = [
        converged(points, k, seed=seed, tolerance=TOLERANCE)
        for k in COMPONENTS
        if k <= most
        for seed in range(STARTS)
    ]
    return sorted(fits, key=lambda fit: -np.mean(fit.log_prob(others)))


class KDE(HasDensity):
    """A Gaussian kernel density estimate, with kernels of one width or of a width each."""

    standardiser: Standardiser
    points: Float[Array, "n d"]
    factor: Float[Array, "d d"]
    """Cholesky factor of the covariance h² C of a kernel of width 1."""
    widths: Float[Array, " n"]
    """λᵢ, the width of the kernel on each point."""

    density_provenance: ClassVar[Provenance] = EXACT

    @classmethod
    @pinned()
    def fit(cls, data: Points) -> "KDE":
        """Kernels of one width, with the bandwidth of `cross_validated_factor`.

        Raises:
            UsageError: `data` are no points with a spread along each axis.
        """
        points = _checked(data, "data")
        return cls._of(points, cross_validated_factor(points), np.ones(len(points)))

    @classmethod
    @pinned()
    def fit_adaptive(cls, train: Points, holdout: Others) -> "KDE":
        """Kernels that are the wider the fewer points there are, λᵢ = (q̃(xᵢ) / g)^(−α).

        The pilot density q̃ is a KDE of one width, `PILOT` times the cross-validated one, on 4000 of
        the points at most; g is the geometric mean of q̃(xᵢ). The bandwidth h, and α among
        `SENSITIVITIES`, have the largest likelihood of the hold-out points.

        Sources: Abramson (1982), doi:10.1214/aos/1176345986, for α = ½; Silverman (1986, section
        5.3) for the others.

        Raises:
            UsageError: as `GaussianMixture.fit`.
        """
        points, others = _checked_both(train, holdout)
        unit, centre = _unit(points), points.mean(axis=0)
        white, white_others = (np.linalg.solve(unit, (x - centre).T).T for x in (points, others))
        few = in_random_order(white)[:LEFT_OUT]
        h = np.full(len(few), PILOT * cross_validated_factor(few))
        pilot = _log_kernels(white, few, h)
        # A point that is none of the few has its kernel too: the least density is that of a kernel.
        pilot = np.maximum(pilot, _log_kernels(white[:1], white[:1], h[:1]) - math.log(len(few)))
        log_ratios = pilot - np.mean(pilot)

        def chosen(alpha: float) -> tuple[float, float, float]:
            def loss(log_h: float) -> float:
                widths = np.exp(log_h - alpha * log_ratios)
                return -float(np.mean(_log_kernels(white_others, white, widths)))

            log_h = cast(float, fminbound(loss, -6.0, 0.5, xtol=0.02))
            return loss(log_h), log_h, alpha

        _, log_h, alpha = min(map(chosen, SENSITIVITIES))
        return cls._of(points, math.exp(log_h), np.exp(-alpha * log_ratios))

    @classmethod
    def _of(cls, points: Float[np.ndarray, "n d"], h: float, widths: np.ndarray) -> "KDE":
        arrays = points, h * _unit(points), widths
        return cls(
            Standardiser.identity(points.shape[1]), *(jnp.asarray(a, jnp.float32) for a in arrays)
        )

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        point_key, noise_key = jax.random.split(key)
        i = jax.random.randint(point_key, (), 0, len(self.points))
        noise = jax.random.normal(noise_key, (self.dim,))
        return self.points[i] + self.widths[i] * (self.factor @ noise)

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        inverse = jnp.linalg.inv(self.factor)
        white = (z[None, :] - self.points) @ inverse.T
        squares = jnp.sum(white**2, axis=1) / self.widths**2
        bumps = jax.nn.logsumexp(-0.5 * squares - self.dim * jnp.log(self.widths))
        log_norm = jnp.sum(jnp.log(jnp.diag(self.factor))) + 0.5 * self.dim * math.log(2 * math.pi)
        return bumps - math.log(len(self.points)) - log_norm


BASELINES: Mapping[str, Callable[[Points, Others], HasDensity]] = {
    "kde": lambda train, holdout: KDE.fit(train),
    "kde_adaptive": KDE.fit_adaptive,
    "gmm": GaussianMixture.fit,
    "gmm_mean": functools.partial(GaussianMixture.fit, best=AVERAGED),
}
"""What fits each baseline to training points, its choices made by hold-out points."""


def _unit(points: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """Cholesky factor of C, the covariance of the points."""
    return np.linalg.cholesky(np.cov(points.T).reshape(points.shape[1], -1))


def _log_kernels(
    x: Float[np.ndarray, "m d"], kernels: Float[np.ndarray, "n d"], widths: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " m"]:
    """log of (1/n) Σᵢ N(x; kernelsᵢ, widthsᵢ² I) at each x, nats."""
    n, dim = kernels.shape
    scales, log_norms = -0.5 / widths**2, dim * np.log(widths)
    values = []
    for block in np.array_split(x, math.ceil(len(x) / BLOCK)):
        log_bumps = cdist(block, kernels, "sqeuclidean") * scales - log_norms
        top = log_bumps.max(axis=1, keepdims=True)
        bumps = np.exp((log_bumps - top).astype(np.float32))  # five times as fast as float64's
        values.append(top[:, 0] + np.log(bumps.sum(axis=1, dtype=np.float64)))
    return np.concatenate(values) - math.log(n) - 0.5 * dim * math.log(2 * math.pi)


def _checked(data: Points, name: str) -> Float[np.ndarray, "n d"]:
    points = check_points(data, name)
    check_spread(points, name)
    return points


def _checked_both(
    train: Points, holdout: Others
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "m d"]]:
    points, others = _checked(train, "train"), check_points(holdout, "holdout")
    if points.shape[1] != others.shape[1]:
        raise UsageError(
            f"train has dimension {points.shape[1]} but holdout {others.shape[1]}; "
            "give both points of the same space."
        )
    return points, others
