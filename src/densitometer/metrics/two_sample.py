"""A model's samples against as many fresh true ones: comparisons that need no density.

All take two arrays of one shape and give the same for the same sets of rows, in whatever order. A
draw that is not finite counts as one that is very far away. A distance between samples has a floor
that a perfect sampler does not pass, so read each beside the truth's row.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, of_samples
from densitometer.metrics.order import in_random_order

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray
Kernel = Callable[[Array, Array], Array]

FACTORS = (0.1, 1.0)
"""Bandwidths of the kernel of `MMD2` in units of `widths`: one for shapes, one for shares."""

DIRECTIONS = 100
"""Lines on which `SlicedW2` compares."""

MATCHED = 1000
"""Points of each sample that `W2` matches at most: what a fraction of a second allows."""

NEIGHBOURS = 3
"""k of the balls of `Precision` and `Recall`, as in their source."""

GROUPS = 20
"""Parts that the errors of `Precision` and `Recall` are taken from."""

FOLDS = 5
"""Parts that `C2ST` holds out in turn."""

BUMPS = 200
"""Features of the classifier of `C2ST`."""

FAR = 1e6
"""Where a draw that is not finite is put, in data units."""


class MMD2(Metric):
    """Squared maximum mean discrepancy E k(X, X') + E k(Y, Y') − 2 E k(X, Y), without bias.

    X and Y are the model's and the truth's, primes independent copies, and k a mean of two Gaussian
    kernels, exp(−Σ_a (x_a − y_a)² / (2 f² widths_a²)) with f = 0.1 and f = 1, weighted by f^(−d/2)
    so that both bring about as much noise; `widths` are the target's standard deviations, so that
    the kernel is the target's, not the model's. Without unit; 0 for equal distributions and at most
    2; a perfect sampler's values scatter around 0, many of them below, as 1/n. Cost O(n² d). It
    sees what two bandwidths see: nothing much finer than a tenth of a standard deviation, and tails
    and rare outliers hardly at all. The error is the jackknife's: right where the distributions
    differ, √2 times too large where they are equal, since the statistic is degenerate there.
    Source: Gretton et al. (2012).
    """

    name = "mmd2"
    label = "Squared maximum mean discrepancy"
    range = (-1.0, 2.0)

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.compared, evidence.comparison, evidence.sds)

    @staticmethod
    def of(
        samples: Float[Array, "n d"], truth: Float[Array, "n d"], widths: Float[Array, " d"]
    ) -> Estimate:
        """From the model's samples and as many true ones, and the truth's standard deviations."""
        weights = np.power(FACTORS, -len(widths) / 2)

        def kernel(a: Array, b: Array) -> Array:
            # float32 from here on: the error of a mean is 1e-9, and exp is five times as fast
            squares = np.minimum(cdist(a / widths, b / widths, "sqeuclidean"), 1e30).astype(
                np.float32
            )
            total = np.zeros_like(squares)
            for factor, weight in zip(FACTORS, weights / weights.sum(), strict=True):
                bumps = squares * np.float32(-0.5 / factor**2)
                total += np.float32(weight) * np.exp(bumps, out=bumps)
            return total

        return _discrepancy(kernel, samples, truth)


class TwoSample(Metric):
    """A comparison of the model's samples with as many true ones."""

    def __call__(self, evidence: "Evidence") -> Estimate:
        return self.of(evidence.compared, evidence.comparison)


class EnergyDistance(TwoSample):
    """Energy distance 2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, without bias.

    Data units; 0 for equal distributions, larger is worse; a perfect sampler's values scatter
    around 0 as 1/n. Cost O(n² d). It is `MMD2` with the kernel −‖x − y‖ (Sejdinovic et al., 2013),
    which has no bandwidth to choose and sees where mass is, far more than how it is shaped: a blur
    escapes it. The error is the jackknife's, as there. Source: Székely & Rizzo (2004).
    """

    name = "energy_distance"
    label = "Energy distance"
    unit = "data units"

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        return _discrepancy(lambda a, b: -cdist(a, b), samples, truth)


class SlicedW2(TwoSample):
    """Sliced 2-Wasserstein distance: the root of the mean over directions of W₂² on a line.

    On a line the optimal matching is that of the ranks. The directions are 100, equally spaced in
    the plane and otherwise random, always the same. Data units; 0 for equal distributions, larger
    is worse; a perfect sampler scores 1/√n standard deviations times a few (3 on separate modes).
    For distributions that are m apart and otherwise equal it is ‖m‖/√d. Cost O(n log n) a
    direction. It sees shares and shifts, and shapes only as far as projections show them. The error
    is that of W₂² by its Kantorovich potentials (del Barrio & Loubes, 2019), to first order: √2
    times too large where the distributions are equal. Source: Bonneel et al. (2015).
    """

    name = "sliced_w2"
    label = "Sliced 2-Wasserstein distance"
    unit = "data units"
    range = (0.0, math.inf)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        x, y = _finite(samples), _finite(truth)
        directions = _directions(x.shape[1])
        x, y = x @ directions, y @ directions
        order = np.argsort(x, axis=0), np.argsort(y, axis=0)
        x, y = np.take_along_axis(x, order[0], 0), np.take_along_axis(y, order[1], 0)
        costs = (x - y) ** 2
        # The potential u has slope 2(x − y); by the trapezoidal rule u + v ≤ cost holds exactly.
        u = np.zeros_like(x)
        np.cumsum(
            np.diff(x, axis=0) * (x - y)[:-1] + np.diff(x, axis=0) * (x - y)[1:], 0, out=u[1:]
        )
        potentials = []
        for values, ranks in zip((u, costs - u), order, strict=True):
            unsorted = np.empty_like(values)
            np.put_along_axis(unsorted, ranks, values, 0)
            potentials.append(unsorted.mean(axis=1))
        return _root_of_cost(float(costs.mean()), *potentials)


class W2(TwoSample):
    """2-Wasserstein distance: √min over matchings σ of the mean of ‖x_i − y_σ(i)‖².

    Data units; 0 for equal distributions, larger is worse. Exact, of 1000 points of each sample at
    most, chosen at random, because it costs O(n³). It sees everything, at the price of its floor: a
    perfect sampler scores about n^(−1/d) standard deviations (n^(−1/2) at best), and n^(−1/4) times
    a gap where modes are apart, since their shares scatter. The error is that of W₂² by its
    Kantorovich potentials (del Barrio & Loubes, 2019), to first order: up to twice too large where
    the distributions are equal. Source: Kantorovich (1942); Villani (2009).
    """

    name = "w2"
    label = "2-Wasserstein distance"
    unit = "data units"
    range = (0.0, math.inf)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        x, y = (in_random_order(_finite(points))[:MATCHED] for points in (samples, truth))
        costs = cdist(x, y, "sqeuclidean")
        _, match = linear_sum_assignment(costs)
        matched = costs[np.arange(len(x)), match]
        return _root_of_cost(float(matched.mean()), *_potentials(costs, match))


class C2ST(TwoSample):
    """Classifier two-sample test: how often a classifier distinguishes samples from the truth.

    Its accuracy on points that it has not been trained on, each of the 2n held out once in five
    folds. 0.5 when it cannot distinguish them, 1 when it always can, and never above (1 + V)/2 but
    for scatter, with V the total variation between the two distributions: 3 % of leaked mass can
    add 0.015 and no more. The classifier is scikit-learn's ridge regression on 200 Gaussian bumps
    (Nyström features), 0.35 true standard deviations wide in the plane, so finer structure escapes
    it. Cost O(n · bumps²). The error is the binomial's; folds share what they learn from, so the
    scatter of repeats is larger, by a third where the distributions are equal. Source: Lopez-Paz &
    Oquab (2017).
    """

    name = "c2st"
    label = "Classifier two-sample test"
    range = (0.0, 1.0)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        # scikit-learn takes a second to import, and only this function needs it.
        from sklearn.kernel_approximation import Nystroem
        from sklearn.linear_model import RidgeClassifier
        from sklearn.model_selection import PredefinedSplit, cross_val_predict

        x, y = in_random_order(_finite(samples)), in_random_order(_finite(truth))
        n, d = x.shape
        points = (np.concatenate([x, y]) - y.mean(axis=0)) / y.std(axis=0)
        labels = np.repeat([1, 0], n)
        bumps = Nystroem(gamma=8 / d, n_components=min(BUMPS, n), random_state=0)
        features = bumps.fit_transform(points)  # once for all folds: it knows no labels
        folds = PredefinedSplit(np.tile(np.arange(n) % FOLDS, 2))
        predicted = cross_val_predict(RidgeClassifier(), features, labels, cv=folds)
        accuracy = float(np.mean(predicted == labels))
        return Estimate(accuracy, _binomial(accuracy, 2 * n), of_samples(range(n)))


class Precision(TwoSample):
    """The share of the model's samples that lie on the truth's support, as true points show it.

    That is, in one of the balls around true points that reach to the third neighbour of each.
    Between 0 and 1; a perfect sampler scores 0.97 to 0.98 in the plane, whatever the distribution
    and n, and a sampler that stays where the truth is dense scores more: larger is better only up
    to the truth's row. Cost O(n log n) in few dimensions. It sees leaks and blur, not missing
    modes, and a lonely true point's ball is large. The error is the scatter of twenty parts of the
    points, or the binomial's if that is larger. Source: Kynkäänniemi et al. (2019).
    """

    name = "precision"
    label = "Precision"
    better = "higher"
    range = (0.0, 1.0)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        return _covered(in_random_order(_finite(samples)), in_random_order(_finite(truth)))


class Recall(TwoSample):
    """The share of true points that lie on the support of the model's samples.

    `Precision` with the two exchanged, and so are its numbers: it sees missing modes, and neither
    leaks nor blur, which raise it, since the ball of an outlier is large.
    """

    name = "recall"
    label = "Recall"
    better = "higher"
    range = (0.0, 1.0)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        return _covered(in_random_order(_finite(truth)), in_random_order(_finite(samples)))


def _finite(points: Float[Array, "n d"]) -> Float[Array, "n d"]:
    return np.nan_to_num(np.asarray(points, np.float64), nan=FAR, posinf=FAR, neginf=-FAR)


def _discrepancy(
    kernel: Kernel, samples: Float[Array, "n d"], truth: Float[Array, "n d"]
) -> Estimate:
    """E k(X, X') + E k(Y, Y') − 2 E k(X, Y) over pairs of points, and its jackknife error."""
    x, y = _finite(samples), _finite(truth)
    n = len(x)

    def within(points: Array) -> Array:  # what each point sees of the others
        seen = kernel(points, points)
        return (seen.sum(axis=1, dtype=np.float64) - seen.diagonal()) / (n - 1)

    between = kernel(x, y)
    of_x = within(x) - between.mean(axis=1, dtype=np.float64)
    of_y = within(y) - between.mean(axis=0, dtype=np.float64)
    stderr = 2 * math.sqrt((of_x.var(ddof=1) + of_y.var(ddof=1)) / n)
    return Estimate(float(of_x.mean() + of_y.mean()), stderr, of_samples(range(n)))


def _directions(d: int) -> Float[Array, "d k"]:
    if d == 2:
        angles = np.pi / DIRECTIONS * np.arange(DIRECTIONS)
        return np.stack([np.cos(angles), np.sin(angles)])
    directions = np.random.default_rng(0).normal(size=(d, DIRECTIONS))
    return directions / np.linalg.norm(directions, axis=0)


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


def _root_of_cost(cost: float, u: Float[Array, " n"], v: Float[Array, " n"]) -> Estimate:
    """√cost; its error by those of the means of the two potentials, whose sum the cost is."""
    n = len(u)
    root = math.sqrt(cost)
    stderr = math.sqrt((u.var(ddof=1) + v.var(ddof=1)) / n) / (2 * root) if root > 0 else 0.0
    return Estimate(root, stderr, of_samples(range(n)))


def _covered(points: Float[Array, "n d"], reference: Float[Array, "n d"]) -> Estimate:
    """The share of points in a ball around a reference point, out to its k-th neighbour."""
    n = len(points)
    share = _share(points, reference)
    parts = max(2, min(GROUPS, n // 10))
    shares = [_share(points[g::parts], reference[g::parts]) for g in range(parts)]
    scatter = float(np.std(shares, ddof=1)) / math.sqrt(parts)
    return Estimate(share, max(scatter, _binomial(share, n)), of_samples(range(n)))


def _binomial(share: float, n: int) -> float:
    """The error of a share of n, with a success and a failure added (cf. Agresti & Coull, 1998)."""
    padded = (share * n + 1) / (n + 2)
    return math.sqrt(padded * (1 - padded) / n)


def _share(points: Float[Array, "n d"], reference: Float[Array, "n d"]) -> float:
    radii = KDTree(reference).query(reference, k=NEIGHBOURS + 1)[0][:, -1]
    radii[np.abs(reference).max(axis=1) >= FAR] = 0.0  # what ran away supports nothing
    inside = np.zeros(len(points), bool)
    for ball in KDTree(points).query_ball_point(reference, radii):
        inside[ball] = True
    return float(inside.mean())
