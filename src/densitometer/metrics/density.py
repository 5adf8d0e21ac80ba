"""Comparisons of log-densities, for models that have one. All in nats, data coordinates."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from densitometer.estimates import Estimate

Array = np.ndarray


MARGIN = 0.05
"""How far the grid of densities reaches beyond the target's box, in units of the box's side."""

MASS_TOLERANCE = 1e-3
"""How far from 1 a density may integrate before it is called wrong."""


def mean(values: Float[Array, " n"], provenance: str) -> Estimate:
    """The mean of independent values and its standard error, sd/√n."""
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):  # a −inf makes the mean infinite and the error undefined
        return Estimate(
            float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values))), provenance
        )


def kl(log_p: Float[Array, " n"], log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """KL(p‖q) = E_p[log p(x) − log q(x)], from both log-densities at fresh true points.

    Nats; 0 for the truth, larger is worse; cost one density evaluation a point. It punishes what
    the model misses, and hardly sees mass that the model puts where the truth has none. Source:
    Kullback & Leibler (1951).
    """
    return mean(np.asarray(log_p, np.float64) - np.asarray(log_q, np.float64), provenance)


def nll(log_q: Float[Array, " n"], provenance: str) -> Estimate:
    """Negative log-likelihood −E_p[log q(x)] at fresh true points: KL(p‖q) + H(p). Nats.

    Its error is larger than that of `kl`, which takes the truth's own scatter away.
    """
    return mean(-np.asarray(log_q), provenance)


def nll_elbo(elbo: Float[Array, " n"]) -> Estimate:
    """−E_p[ELBO(x)] at fresh true points: an upper bound on `nll`. Nats.

    Source: Kingma & Welling (2014). Never to be compared with an exact value without its label.
    """
    return mean(-np.asarray(elbo), "bound")


def nll_importance(bound: Float[Array, " n"], k: int) -> Estimate:
    """−E_p of the k-sample importance-weighted bound: between `nll` and `nll_elbo`. Nats.

    Source: Burda, Grosse & Salakhutdinov (2016).
    """
    return mean(-np.asarray(bound), f"importance(k={k})")


def fisher_divergence(
    score_p: Float[Array, "n d"], score_q: Float[Array, "n d"], provenance: str
) -> Estimate:
    """The Fisher divergence E_p ‖∇ log p(x) − ∇ log q(x)‖², from scores at fresh true points.

    In 1 / (data unit)²; 0 for the truth, larger is worse. It compares slopes alone: it hardly sees
    how mass is shared among modes with nothing between them, and it is defined only where the
    truth's density is smooth and vanishes at its border. Source: Johnson (2004); Hyvärinen (2005).
    """
    difference = np.asarray(score_p, np.float64) - np.asarray(score_q, np.float64)
    return mean(np.sum(difference**2, axis=1), provenance)


class Grid(NamedTuple):
    """Midpoints of the cells of a square grid, a row of them for each y: index [iy, ix]."""

    x: Float[Array, " nx"]
    y: Float[Array, " ny"]

    @classmethod
    def over(
        cls, box: tuple[tuple[float, ...], tuple[float, ...]], n: int, margin: float
    ) -> "Grid":
        """n×n cells over a box widened on each side by `margin` times its side.

        Raises:
            ValueError: the box is not two-dimensional.
        """
        if len(box[0]) != 2:
            raise ValueError("grids are for two-dimensional laws.")
        axes = []
        for low, high in zip(*box, strict=True):
            pad = margin * (high - low)
            cell = (high - low + 2 * pad) / n
            axes.append(low - pad + cell * (np.arange(n) + 0.5))
        return cls(*axes)

    @property
    def cell(self) -> float:
        """The area of a cell."""
        return float((self.x[1] - self.x[0]) * (self.y[1] - self.y[0]))

    @property
    def points(self) -> Float[Array, "n 2"]:
        """The midpoints, row by row."""
        x, y = np.meshgrid(self.x, self.y)
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)

    def holds(self, points: Float[Array, "n 2"]) -> np.ndarray:
        """Which points lie in one of the cells."""
        inside = np.ones(len(points), bool)
        for axis, p in zip(self, points.T, strict=True):
            half = (axis[1] - axis[0]) / 2
            inside &= (p >= axis[0] - half) & (p <= axis[-1] + half)
        return inside

    def around(self, cells: int) -> list["Grid"]:
        """The eight grids of the same extent that surround this one, each of cells×cells."""
        grids = []
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                if dx or dy:
                    grids.append(
                        Grid(*(_shifted(a, s, cells) for a, s in zip(self, (dx, dy), strict=True)))
                    )
        return grids


def _shifted(axis: Float[Array, " n"], steps: int, cells: int) -> Float[Array, " m"]:
    cell = axis[1] - axis[0]
    width, low = cell * len(axis), axis[0] - cell / 2
    return low + steps * width + width / cells * (np.arange(cells) + 0.5)


def mass(
    log_q: Callable[[Float[Array, "n 2"]], Float[Array, " n"]],
    grid: Grid,
    log_density: Float[Array, "ny nx"],
    provenance: str,
) -> Estimate:
    """∫ q(x) dx by the midpoint rule; 1 for any density that deserves the name.

    The fine grid covers the target's box and a margin; eight coarse ones around it catch tails.
    The stated error is the scatter of the four interleaved subgrids of half the resolution, which
    overstates that of the whole. Two dimensions only.
    """
    density = np.exp(log_density.astype(np.float64))
    subgrids = [4 * grid.cell * density[i::2, j::2].sum() for i in (0, 1) for j in (0, 1)]
    tails = sum(
        outer.cell * float(np.exp(np.asarray(log_q(outer.points), np.float64)).sum())
        for outer in grid.around(20)
    )
    return Estimate(
        float(np.mean(subgrids) + tails), float(np.std(subgrids, ddof=1) / 2), provenance
    )
