"""Consistency of a scorecard: numbers that no correct program could print, and why."""

from collections.abc import Iterator, Mapping

from densitometer import metrics
from densitometer.estimates import Estimate


def violations(card: Mapping[str, Estimate], entropy: Estimate | None) -> Iterator[tuple[str, str]]:
    """(metric, what is wrong) for each impossible number, by what its metric says of itself.

    Args:
        card: the estimates of one model by metric; those of unknown metrics are not judged.
        entropy: H(p) of the truth, nats; None if it is not known.
    """
    for name, estimate in card.items():
        if name in metrics.METRICS:
            for why in metrics.get(name).violations(estimate, card, entropy):
                yield name, why
