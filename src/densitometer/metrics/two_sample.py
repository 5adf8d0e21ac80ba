"""A model's samples against as many fresh true ones: comparisons that need no density.

All take two arrays of one shape and give the same for the same sets of rows, in whatever order. A
draw that is not finite counts as one that is very far away. A distance between samples has a floor
that a perfect sampler does not pass, so read each beside the truth's row.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist

from densitometer.estimates import Estimate
from densitometer.metrics.base import Metric, binomial, of_samples
from densitometer.metrics.order import in_random_order

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence

Array = np.ndarray
Kernel = Callable[[Array, Array], Array]

FACTORS = (0.1, 1.0)
"""Bandwidths of the kernel of `MMD2` in units of `widths`: one for shapes, one for shares."""

NEIGHBOURS = 3
"""k of the balls of `Precision` and `Recall`, as in their source."""

SPLITS = 4
"""How often the errors of `Precision` and `Recall` split the points in halves."""

FOLDS = 5
"""Parts that `C2ST` holds out in turn."""

BUMPS = 200
"""Features of the classifier of `C2ST`."""

FEW = 400
"""Points that tell the effective number of functions in a U-statistic."""

FAR = 1e6
"""Where a draw that is not finite is put, in data units."""


class MMD2(Metric):
    """E k(X, X') + E k(Y, Y') − 2 E k(X, Y), without bias.

    X and Y are the model's and the truth's, primes independent copies, and k a mean of two Gaussian
    kernels, exp(−Σ_a (x_a − y_a)² / (2 f² widths_a²)) with f = 0.1 and f = 1, weighted by f^(−d/2)
    so that both bring about as much noise; `widths` are the target's standard deviations, so that
    the kernel is the target's, not the model's. Without unit; 0 for equal distributions and at most
    2; a perfect sampler's values scatter around 0, many of them below, as 1/n. Cost O(n² d). It
    sees what two bandwidths see: nothing much finer than a tenth of a standard deviation, and tails
    and rare outliers hardly at all. The error is that of a U-statistic (`_discrepancy`).
    Source: Gretton et al. (2012).
    """

    name = "mmd2"
    label = "Squared maximum mean discrepancy"
    rate = 1.0
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
    """2 E‖X − Y‖ − E‖X − X'‖ − E‖Y − Y'‖, without bias.

    Data units; 0 for equal distributions, larger is worse; a perfect sampler's values scatter
    around 0 as 1/n. Cost O(n² d). It is `MMD2` with the kernel −‖x − y‖ (Sejdinovic et al., 2013),
    which has no bandwidth to choose and sees where mass is, far more than how it is shaped: a blur
    escapes it. The error is that of a U-statistic, as there. Source: Székely & Rizzo (2004).
    """

    name = "energy_distance"
    label = "Energy distance"
    rate = 1.0
    unit = "data units"

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        return _discrepancy(lambda a, b: -cdist(a, b), samples, truth)


class C2ST(TwoSample):
    """How often a classifier distinguishes samples from the truth.

    Its accuracy on points that it has not been trained on, each of the 2n held out once in five
    folds. 0.5 when it cannot distinguish them, 1 when it always can, and never above (1 + V)/2 but
    for scatter, with V the total variation between the two distributions: 3 % of leaked mass can
    add 0.015 and no more. The classifier is scikit-learn's ridge regression on 200 Gaussian bumps
    (Nyström features), 0.35 true standard deviations wide in the plane, so finer structure escapes
    it. Cost O(n · bumps²). The error is the binomial's and, since any two points of different folds
    help to predict each other, a part more where labels are guessed (`_undecided`), by which it is
    a third larger where the distributions are equal. Source: Lopez-Paz & Oquab (2017).
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

        x, y = in_random_order(finite(samples)), in_random_order(finite(truth))
        n, d = x.shape
        points = (np.concatenate([x, y]) - y.mean(axis=0)) / y.std(axis=0)
        labels = np.repeat([1, 0], n)
        bumps = Nystroem(gamma=8 / d, n_components=min(BUMPS, n), random_state=0)
        features = bumps.fit_transform(points)  # once for all folds: it knows no labels
        folds = PredefinedSplit(np.tile(np.arange(n) % FOLDS, 2))
        margins = np.asarray(
            cross_val_predict(
                RidgeClassifier(), features, labels, cv=folds, method="decision_function"
            )
        )
        accuracy = float(np.mean((margins > 0) == labels))
        shared = float(_undecided(margins, features).mean())
        error = math.sqrt(binomial(accuracy, 2 * n) ** 2 + shared / (2 * n))
        return Estimate(accuracy, error, of_samples(range(n)))


class Precision(TwoSample):
    """The share of the model's samples that lie on the truth's support, as true points show it.

    That is, in one of the balls around true points that reach to the third neighbour of each.
    Between 0 and 1; a perfect sampler scores 0.97 to 0.98 in the plane, whatever the distribution
    and n, and a sampler that stays where the truth is dense scores more: larger is better only up
    to the truth's row. Cost O(n log n) in few dimensions. It sees leaks and blur, not missing
    modes, and a lonely true point's ball is large. The error is the binomial's of the
    samples, and that of the balls by how far the shares of random halves of them are apart, a half
    of which holds for all. Source: Kynkäänniemi et al. (2019).
    """

    name = "precision"
    label = "Precision"
    better = "higher"
    range = (0.0, 1.0)

    @staticmethod
    def of(samples: Float[Array, "n d"], truth: Float[Array, "n d"]) -> Estimate:
        """From the model's samples and as many true ones."""
        return _covered(in_random_order(finite(samples)), in_random_order(finite(truth)))


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
        return _covered(in_random_order(finite(truth)), in_random_order(finite(samples)))


def _undecided(margins: Float[Array, " n"], features: Float[Array, "n b"]) -> Float[Array, " n"]:
    """What each point adds to n times the variance of an accuracy, beyond the binomial's.

    A margin fᵢ = Σⱼ Kᵢⱼ lⱼ of labels lⱼ = ±1 has noise σᵢ² = Σⱼ Kᵢⱼ², and its sign a part that is
    linear in each, 2 φ(tᵢ) Kᵢⱼ lⱼ / σᵢ, where tᵢ is its mean over σᵢ and φ the normal density. K is
    symmetric: what lⱼ adds to the success of i is what lᵢ adds to that of j. So the term of a pair
    comes twice, and its variance not twice but four times, which adds the sum over j of
    φ(tᵢ) φ(tⱼ) Kᵢⱼ² / (σᵢ σⱼ), about φ(tᵢ)². What is returned, √3 exp(−fᵢ²/σᵢ²) / 2π,
    has for t = 0 that mean.
    """
    centred = features - features.mean(axis=0)
    moments = (1 - 1 / FOLDS) * centred.T @ centred
    weights = np.linalg.solve(moments + np.eye(len(moments)), centred.T).T  # the ridge's α is 1
    noise = np.einsum("nb,nb->n", weights @ moments, weights)
    return math.sqrt(3) * np.exp(-(margins**2) / np.maximum(noise, 1e-12)) / (2 * math.pi)


def finite(points: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """The points, those that are not finite `FAR` away."""
    return np.nan_to_num(np.asarray(points, np.float64), nan=FAR, posinf=FAR, neginf=-FAR)


def _discrepancy(
    kernel: Kernel, samples: Float[Array, "n d"], truth: Float[Array, "n d"]
) -> Estimate:
    """E k(X, X') + E k(Y, Y') − 2 E k(X, Y) over pairs of points, and its error.

    It is a U-statistic, the mean of h over pairs of z = (x, y). With ζ₂ the variance of h and ζ₁
    that of E[h | z] its own is about 4 ζ₁/n + 2 ζ₂/n² (Hoeffding, 1948). The means of h over one z
    scatter by ζ₁ + ζ₂/n, which gives ζ₁, but for noise: the variance is taken to be ζ₂/(2n²) at
    least. Where the distributions are equal this would make it too large in the mean, the more the
    fewer functions h consists of, h = Σ λ φ(z) φ(z'): 3 ζ₂/(k n²) is taken off again, where
    k = (Σ λ²)² / Σ λ⁴ is their effective number.
    """
    x, y = in_random_order(finite(samples)), in_random_order(finite(truth))
    n = len(x)
    between = kernel(x, y)
    h = -between - between.T
    means = []
    for points, axis in ((x, 1), (y, 0)):  # what each point sees of the others
        seen = kernel(points, points)
        np.fill_diagonal(seen, 0)
        h += seen
        within = seen.sum(axis=1, dtype=np.float64) / (n - 1)
        means.append(within - between.mean(axis=axis, dtype=np.float64))
    np.fill_diagonal(h, 0)
    value = float(means[0].mean() + means[1].mean())
    squares = float(np.einsum("ij,ij->", h, h, dtype=np.float64))
    zeta2 = max(squares / (n * (n - 1)) - value**2, 0.0)
    scatter = float(means[0].var(ddof=1) + means[1].var(ddof=1))
    of_second = (2 + 3 * _concentration(h[:FEW, :FEW])) * zeta2 / n**2
    variance = max(4 * scatter / n - of_second, 0.5 * zeta2 / n**2)
    return Estimate(value, math.sqrt(variance), of_samples(range(n)))


def _concentration(h: Float[Array, "m m"]) -> float:
    """Σ λ⁴ / (Σ λ²)² of a symmetric h(z, z') = Σ λ φ(z) φ(z') at pairs of m points; 1 at most."""
    h = h.astype(np.float64)
    m, squares = len(h), h**2
    paths = (h @ h) ** 2 - squares @ squares  # over different intermediate points
    np.fill_diagonal(paths, 0)
    pairs = m * (m - 1)
    fourth = float(paths.sum()) / max(pairs * (m - 2) * (m - 3), 1)
    second = float(squares.sum()) / pairs
    return min(max(fourth / second**2, 0.0), 1.0) if second > 0 else 0.0


def _covered(points: Float[Array, "n d"], reference: Float[Array, "n d"]) -> Estimate:
    """The share of points in a ball around a reference point, out to its k-th neighbour."""
    n = len(points)
    share = float(_inside(points, reference).mean())
    rng, squares = np.random.default_rng(0), []
    for _ in range(SPLITS):
        parts = np.array_split(rng.permutation(reference), 2)
        one, other = (_inside(points, part).astype(float) for part in parts)
        apart = one - other
        squares.append(apart.mean() ** 2 - apart.var() / n)  # without the scatter of the points
    of_points = binomial(share, n) ** 2
    of_reference = float(np.mean(squares)) / 4  # unbiased, so it may be negative
    error = math.sqrt(max(of_points + of_reference, of_points / 2))
    return Estimate(share, error, of_samples(range(n)))


def _inside(points: Float[Array, "n d"], reference: Float[Array, "m d"]) -> Bool[Array, " n"]:
    radii = KDTree(reference).query(reference, k=NEIGHBOURS + 1)[0][:, -1]
    radii[np.abs(reference).max(axis=1) >= FAR] = 0.0  # what ran away supports nothing
    inside = np.zeros(len(points), bool)
    for ball in KDTree(points).query_ball_point(reference, radii):
        inside[ball] = True
    return inside
