"""A number with its standard error and with where it comes from."""

import dataclasses
import re
from typing import NamedTuple

__all__ = ["EXACT", "Estimate", "Provenance"]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """How a number was obtained: what kind of number it is, and details by name.

    The kinds are ``exact``, ``quadrature`` and ``ode`` (a density by numerical integration, with
    its ``mass``), ``importance`` and ``bound`` (they only bound what they estimate), ``kde`` (of a
    kernel density estimate), and ``samples`` (of samples alone). As text, which is how files have
    it, it is the kind with its details in brackets: ``ode(step=0.4, mass=1.0000)``.
    """

    kind: str
    details: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, kind: str, **details: object) -> "Provenance":
        """A kind with details, written as `str` writes them."""
        return cls(kind).with_details(**details)

    @classmethod
    def parse(cls, text: str) -> "Provenance":
        """What `str` wrote; of any other text a kind of that name."""
        found = re.fullmatch(r"([^()]*)\(([^()]*=[^()]*)\)", text)
        if found is None:
            return cls(text)
        pairs = (pair.partition("=") for pair in found[2].split(", "))
        return cls(found[1], tuple((name, value) for name, _, value in pairs))

    def with_details(self, **details: object) -> "Provenance":
        """The same with more details."""
        more = tuple((name, str(value)) for name, value in details.items())
        return dataclasses.replace(self, details=self.details + more)

    @property
    def is_bound(self) -> bool:
        """Whether the number only bounds what it estimates: it is labelled wherever it goes."""
        return self.kind in ("bound", "importance")

    def __str__(self) -> str:
        details = ", ".join(f"{name}={value}" for name, value in self.details)
        return f"{self.kind}({details})" if details else self.kind


EXACT = Provenance("exact")
"""Of a number without error but its own standard error."""


class Estimate(NamedTuple):
    """A value, its standard error (same unit) and how it was obtained.

    A bound or a KDE estimate never stands beside an exact value without its provenance.
    """

    value: float
    stderr: float
    provenance: Provenance

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.stderr:.4f} [{self.provenance}]"
