"""A number with its standard error and with where it comes from."""

from typing import NamedTuple

__all__ = ["Estimate"]


class Estimate(NamedTuple):
    """A value, its standard error (same unit) and how it was obtained.

    ``provenance`` is one of ``exact``, ``quadrature(mass=…)``, ``ode(step=…, mass=…)``,
    ``importance(k=…)``, ``bound``, ``kde(h=…, n=…)`` and ``samples(n=…)``. A bound or a KDE
    estimate never stands beside an exact value without this label.
    """

    value: float
    stderr: float
    provenance: str

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.stderr:.4f} [{self.provenance}]"
