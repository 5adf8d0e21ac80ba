"""Overlap of two laws, from samples smoothed alike. Two dimensions only."""

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate
from densitometer.metrics.density import Grid

Array = np.ndarray

BANDWIDTH = 0.1
"""Bandwidth of the smoothing in units of the truth's standard deviation, axis by axis."""

REPEATS = 20
"""Bootstrap repetitions, and perfect samples drawn, for the errors."""


def bhattacharyya(
    samples: Float[Array, "n 2"], grid: Grid, log_density: Float[Array, "ny nx"]
) -> Estimate:
    """The Bhattacharyya coefficient ∫ √(p̂ q̂) of a model's samples q and the truth p.

    Both are smoothed alike, by Gaussians of 0.1 standard deviations of the truth: the samples as a
    KDE, the truth's density (`log_density` on `grid`) by the same kernel. Between 0 and 1, larger
    is better; a perfect sampler scores below 1 by about 1/n over the kernel's area in units of the
    truth's, so read it beside the truth's row. Cost O(n · cells). It sees modes that are missing or
    misweighted; it is blind below the bandwidth. The error is the bootstrap's.
    Source: Bhattacharyya (1943).
    """
    density = _normalised(log_density)
    widths = bandwidths(grid, density)
    truth = _smooth_density(grid, density, widths)
    kernels = _kernels(np.asarray(samples), grid, widths)
    rng = np.random.default_rng(0)
    repeats = [  # Poisson bootstrap: a point counts Poisson(1) times
        coefficient(_smooth(*kernels, rng.poisson(1.0, len(samples)).astype(float)), truth, grid)
        for _ in range(REPEATS)
    ]
    value = coefficient(_smooth(*kernels), truth, grid)
    return Estimate(value, float(np.std(repeats, ddof=1)), f"samples(n={len(samples)})")


def self_bhattacharyya(
    samples: Float[Array, "n 2"],
    grid: Grid,
    log_density: Float[Array, "ny nx"],
    widths: Float[Array, " 2"],
) -> Estimate:
    """Whether a model's samples follow its own density: a difference of two coefficients.

    The Bhattacharyya coefficient of the samples with the model's density, minus that of perfect
    samples drawn from the density itself (all smoothed by `widths`). 0 when sampler and density
    agree; below −3 errors they are two different laws, and one of them is wrong. The error is the
    scatter of perfect samples.
    """
    density = _normalised(log_density)
    smoothed = _smooth_density(grid, density, widths)
    rng = np.random.default_rng(0)

    def overlap(points: Float[Array, "n 2"]) -> float:
        points = points[grid.holds(points)]  # the density, too, is normalised on the grid
        return coefficient(_smooth(*_kernels(points, grid, widths)), smoothed, grid)

    perfect = [overlap(_draw(rng, grid, density, len(samples))) for _ in range(REPEATS)]
    value = overlap(np.asarray(samples)) - float(np.mean(perfect))
    return Estimate(value, float(np.std(perfect, ddof=1)), f"samples(n={len(samples)})")


def coefficient(p: Float[Array, "ny nx"], q: Float[Array, "ny nx"], grid: Grid) -> float:
    """∫ √(p q) on a grid of cells."""
    return float(np.sqrt(p * q).sum() * grid.cell)


def bandwidths(grid: Grid, density: Float[Array, "ny nx"]) -> Float[Array, " 2"]:
    """`BANDWIDTH` times the standard deviation of a density on each axis."""
    weights = density / density.sum()
    marginals = (weights.sum(axis=0), weights.sum(axis=1))
    means = [w @ a for a, w in zip(grid, marginals, strict=True)]
    variances = [w @ (a - m) ** 2 for a, w, m in zip(grid, marginals, means, strict=True)]
    return BANDWIDTH * np.sqrt(np.array(variances))


def _normalised(log_density: Float[Array, "ny nx"]) -> Float[Array, "ny nx"]:
    """The probabilities of the cells, normalised on the grid."""
    weights = np.exp(log_density.astype(np.float64))
    return weights / weights.sum()


def _smooth_density(
    grid: Grid, cells: Float[Array, "ny nx"], widths: Float[Array, " 2"]
) -> Float[Array, "ny nx"]:
    """The density of cells' probabilities after convolution with the kernel."""
    kx, ky = (_gaussian(a[:, None] - a[None, :], w) for a, w in zip(grid, widths, strict=True))
    return ky @ cells @ kx.T


def _draw(
    rng: np.random.Generator, grid: Grid, weights: Float[Array, "ny nx"], n: int
) -> Float[Array, "n 2"]:
    """Draws from a density that is constant on each cell."""
    cells = rng.choice(weights.size, size=n, p=weights.ravel())
    iy, ix = np.divmod(cells, weights.shape[1])
    step = np.array([grid.x[1] - grid.x[0], grid.y[1] - grid.y[0]])
    return np.stack([grid.x[ix], grid.y[iy]], axis=1) + step * rng.uniform(-0.5, 0.5, (n, 2))


def _gaussian(difference: Array, width: float) -> Array:
    return np.exp(-0.5 * (difference / width) ** 2) / (width * np.sqrt(2 * np.pi))


def _kernels(
    points: Float[Array, "n 2"], grid: Grid, widths: Float[Array, " 2"]
) -> tuple[Array, Array]:
    """The two factors of a product kernel: every point seen from every column, every row."""
    return tuple(
        _gaussian(a[:, None] - p, w) for a, p, w in zip(grid, points.T, widths, strict=True)
    )  # type: ignore[return-value]


def _smooth(kx: Array, ky: Array, weights: Array | None = None) -> Float[Array, "ny nx"]:
    """The smoothed density Σ wᵢ k(x − xᵢ) k(y − yᵢ) / Σ wᵢ: one matrix product."""
    if weights is None:
        return ky @ kx.T / kx.shape[1]
    return (ky * weights) @ kx.T / weights.sum()
