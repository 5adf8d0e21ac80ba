"""A metric as its author would write it: one file."""

import numpy as np

from densitometer.metrics.base import Metric, mean, of_samples


class Spread(Metric):
    """The mean distance of the samples from the origin, for no purpose."""

    name = "spread"
    label = "Spread of the samples"
    unit = "data units"
    better = "neither"
    title = "Spread of the samples, in data units"
    aspect = "spread"
    glance = "Spread"
    limit = 1.0

    def __call__(self, evidence):
        return self.of(evidence.samples)

    @staticmethod
    def of(samples):
        """From samples."""
        return mean(np.linalg.norm(samples, axis=1), of_samples(samples))
