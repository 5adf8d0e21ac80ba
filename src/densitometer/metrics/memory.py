"""Whether samples are copies of the training points."""

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from densitometer.estimates import Estimate, Provenance
from densitometer.metrics.base import NORMAL, Metric, percent

if TYPE_CHECKING:
    from densitometer.scoring.evidence import Evidence


class Memorised(Metric):
    """How much nearer samples are to the training points than fresh true points are.

    With the distance D to the nearest training point, in standard deviations of each axis,

        m = P(D of a sample < D of a fresh point) − P(D of a sample > D of a fresh point).

    Between −1 and 1; 0 for the truth, whatever the training points. If a share of the samples are
    copies and the others are true, m is that share. Who overfits is a little nearer, samples that
    are blurred are further away, which is no fault by this measure. The error is that of the
    Mann–Whitney statistic (DeLong et al., 1988, doi:10.2307/2531595), given the training points.
    Cost O((n + m) log k). Source: the statistic that Meehan, Chaudhuri & Dasgupta (2020,
    arXiv:2004.05675) average over cells.
    """

    name = "memorised"
    label = "Memorised share"
    needs = ("train",)
    perfect = 0.0
    range = (-1.0, 1.0)

    def __call__(self, evidence: "Evidence") -> Estimate:
        assert evidence.train is not None
        return self.of(evidence.samples, evidence.train, evidence.test, evidence.sds)

    @staticmethod
    def of(
        samples: Float[np.ndarray, "n d"],
        train: Float[np.ndarray, "k d"],
        fresh: Float[np.ndarray, "m d"],
        sds: Float[np.ndarray, " d"],
    ) -> Estimate:
        """From samples, the training points, fresh true points, and the truth's scale."""
        provenance = Provenance.of("samples", n=len(samples), train=len(train))
        if not np.isfinite(samples).all():
            return Estimate(math.nan, math.nan, provenance)
        tree = KDTree(train / sds)
        ours, theirs = (tree.query(points / sds)[0] for points in (samples, fresh))
        nearer, further = _beaten(ours, theirs), _beaten(theirs, ours)
        error = math.sqrt(nearer.var(ddof=1) / len(ours) + further.var(ddof=1) / len(theirs))
        return Estimate(float(nearer.mean()), error, provenance)

    def allowed(self, estimate: Estimate, entropy: Estimate | None) -> tuple[float, float]:
        """Only nearer is a fault."""
        return self.range[0], NORMAL * estimate.stderr


def in_words(share: float) -> str:
    """What a share beyond chance means."""
    return (
        f"nearer to the training points than fresh draws are, as if {percent(share)} of them were "
        "copies"
    )


def _beaten(ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"]) -> np.ndarray:
    """Of each of ours, the share of theirs that is larger less the share that is smaller."""
    theirs = np.sort(theirs)
    smaller, not_larger = (np.searchsorted(theirs, ours, side) for side in ("left", "right"))
    return 1 - (smaller + not_larger) / len(theirs)
