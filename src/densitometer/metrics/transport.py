"""Wasserstein distances between samples, exact and sliced, with the errors of their potentials.

    W₂² = min_σ (1/n) Σ ‖x_i − y_σ(i)‖² = max (1/n) Σ u_i + (1/n) Σ v_i,   u_i + v_j ≤ ‖x_i − y_j‖²,

over matchings σ, or over potentials u and v (Kantorovich, 1942), which are the influences of the
points on W₂² (del Barrio & Loubes, 2019, doi:10.1214/18-AOP1275).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from densitometer.estimates import Estimate
from densitometer.metrics.base import error_by_parts, of_samples
from densitometer.metrics.order import in_random_order
from densitometer.metrics.two_sample import TwoSample, finite

Array = np.ndarray
Comparison = Callable[[Array, Array, Array, Array], tuple[float, Array, Array]]
"""W₂² between the first two samples, and its potentials u at the third and v at the fourth."""

DIRECTIONS = 100
"""Lines on which `SlicedW2` compares."""

MATCHED = 1000
"""Points of each sample that `W2` matches at most: what a fraction of a second allows."""

PARTS = 4
"""Parts of the points that are compared for the error: potentials of two are independent."""

SHARED = 500
"""Points at most at which these potentials are compared."""


class SlicedW2(TwoSample):
    """The root of the mean over directions of W₂² on a line.

    On a line the optimal matching is that of the ranks. The directions are 100, equally spaced in
    the plane and otherwise random, always the same. Data units; 0 for equal distributions, larger
    is worse; a perfect sampler scores 1/√n standard deviations times a few (3 on separate modes).
    For distributions that are m apart and otherwise equal it is ‖m‖/√d. Cost O(n log n) a
    direction. It sees shares and shifts, and shapes only as far as projections show them. The error
    is that of `W2`. Source: Bonneel et al. (2015).
    """

    name = "sliced_w2"
    label = "Sliced 2-Wasserstein distance"
    unit = "data units"
    range = (0.0, math.inf)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        x, y = in_random_order(finite(samples)), in_random_order(finite(truth))
        directions = _directions(x.shape[1])
        return _root(x @ directions, y @ directions, _sliced)


class W2(TwoSample):
    """√min over matchings σ of the mean of ‖x_i − y_σ(i)‖².

    Data units; 0 for equal distributions, larger is worse. Exact, of 1000 points of each sample at
    most, chosen at random, because it costs O(n³). It sees everything, at the price of its floor: a
    perfect sampler scores about n^(−1/d) standard deviations (n^(−1/2) at best), and n^(−1/4) times
    a gap where modes are apart, since their shares scatter. The error is that of W₂² by its
    potentials in all points and in parts of them, `error_by_parts`; it is up to a tenth too large
    where the shares of a few modes decide, a quarter with two. Source: Kantorovich (1942); Villani
    (2009).
    """

    name = "w2"
    label = "2-Wasserstein distance"
    unit = "data units"
    range = (0.0, math.inf)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        x, y = (in_random_order(finite(points))[:MATCHED] for points in (samples, truth))
        return _root(x, y, _matched)


def _directions(d: int) -> Float[Array, "d k"]:
    if d == 2:
        angles = np.pi / DIRECTIONS * np.arange(DIRECTIONS)
        return np.stack([np.cos(angles), np.sin(angles)])
    directions = np.random.default_rng(0).normal(size=(d, DIRECTIONS))
    return directions / np.linalg.norm(directions, axis=0)


def _sliced(
    a: Float[Array, "k l"], b: Float[Array, "k l"], x: Float[Array, "n l"], y: Float[Array, "n l"]
) -> tuple[float, Array, Array]:
    """The mean over l lines of W₂² between a and b, and of its potentials u at x and v at y."""
    ends = np.sort(a, axis=0), np.sort(b, axis=0)
    away = ends[0] - ends[1]
    costs = away**2
    # The potential u has slope 2(a − b); by the trapezoidal rule u + v ≤ cost holds exactly.
    u = np.zeros_like(costs)
    np.cumsum(np.diff(ends[0], axis=0) * (away[:-1] + away[1:]), axis=0, out=u[1:])
    at_x, at_y = (
        np.mean([np.interp(*line) for line in zip(at.T, knots.T, values.T, strict=True)], axis=0)
        for at, knots, values in zip((x, y), ends, (u, costs - u), strict=True)
    )
    return float(costs.mean()), at_x, at_y


def _matched(
    a: Float[Array, "k d"], b: Float[Array, "k d"], x: Float[Array, "n d"], y: Float[Array, "n d"]
) -> tuple[float, Array, Array]:
    """W₂² between a and b, and its potentials, of which u at any x is min_j ‖x − b_j‖² − v_j."""
    costs = cdist(a, b, "sqeuclidean")
    _, match = linear_sum_assignment(costs)
    cost = float(costs[np.arange(len(a)), match].mean())
    u, v = _potentials(costs, match)
    if a is x and b is y:
        return cost, u, v
    at_x = (cdist(x, b, "sqeuclidean") - v).min(axis=1)
    return cost, at_x, (cdist(y, a, "sqeuclidean") - u).min(axis=1)


def _potentials(costs: Float[Array, "n n"], match: Array) -> tuple[Array, Array]:
    """u and v with u_i + v_j ≤ cost_ij everywhere and equality where i is matched to j.

    v are the shortest paths of the graph that is left when what is matched costs nothing, by
    Bellman and Ford's iteration: in float32, which is twice as fast, and from there in float64.
    """
    matched = np.take_along_axis(costs, match[:, None], 1)
    scale = float(matched.mean()) or 1.0
    v = np.zeros(len(costs))
    for kind, tolerance in ((np.float32, 1e-5), (np.float64, 1e-9)):
        extra, v = ((costs - matched) / scale).astype(kind), v.astype(kind)
        path = np.empty_like(extra)
        for _ in range(len(costs)):
            shorter = np.minimum(v, np.add(extra, v[match][:, None], out=path).min(axis=0))
            if np.allclose(shorter, v, rtol=0, atol=tolerance):
                break
            v = shorter
    v = scale * v
    return matched[:, 0] - v[match], v


def _root(x: Float[Array, "n k"], y: Float[Array, "n k"], compare: Comparison) -> Estimate:
    """√cost and its error."""
    n = len(x)
    cost, *potentials = compare(x, y, x, y)
    whole = sum(values.var(ddof=1) for values in potentials)
    pairs = zip(*(np.array_split(points, min(PARTS, n)) for points in (x, y)), strict=True)
    of_parts = [compare(a, b, x[:SHARED], y[:SHARED])[1:] for a, b in pairs]
    shared = sum(_shared(values) for values in zip(*of_parts, strict=True))
    root = math.sqrt(cost)
    error = error_by_parts(whole, shared, n) / (2 * root) if root > 0 else 0.0
    return Estimate(root, error, of_samples(range(n)))


def _shared(of_parts: Sequence[Float[Array, " n"]]) -> float:
    """The mean covariance of the potentials of any two parts, over the points."""
    k, covariance = len(of_parts), np.cov(of_parts)
    return float(covariance.sum() - covariance.trace()) / (k * (k - 1))
