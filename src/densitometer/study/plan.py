"""What a study computes: everything that decides its numbers, and nothing else.

A plan is plain data. Two runs of the same plan end with the same `results.csv`, so a plan is also
what tells a study to continue from somebody else's.
"""

import dataclasses
import json
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import densitometer
from densitometer.errors import UsageError
from densitometer.families import FAMILIES
from densitometer.targets import TARGETS

DEVICES = ("cpu", "gpu")
"""Kinds of devices that cells can be computed on."""

REFERENCES = ("truth", "kde", "gmm")
"""Judged like families, on every target: a fresh true sample, and two honest baselines."""


class Cell(NamedTuple):
    """One model to make and judge."""

    target: str
    family: str
    seed: int

    def __str__(self) -> str:
        return f"{self.target}/{self.family}/{self.seed}"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How many points everything gets."""

    n_train: int = 2000
    n_holdout: int = 500
    n_test: int = 10_000
    n_samples: int = 2000
    grid: int = 128
    """Cells a side of the grid for masses and maps of densities."""


PROTOCOLS: Mapping[str, Protocol] = {
    "smoke": Protocol(n_test=1000, n_samples=500, grid=48),
    "standard": Protocol(),
    "long": Protocol(),
}
"""The protocol of each budget; `training.BUDGETS` has the same names."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """Families with all their hyper-parameters, targets, seeds, and the rules they share."""

    families: Mapping[str, Mapping[str, Any]]
    targets: tuple[str, ...]
    seeds: tuple[int, ...]
    budget: str
    protocol: Protocol
    versions: Mapping[str, str]
    device: str = "cpu"
    """What the numbers are computed on: two kinds round sums in different orders."""

    @classmethod
    def make(
        cls,
        families: Mapping[str, Mapping[str, Any]] | None = None,
        targets: Iterable[str] | None = None,
        seeds: Iterable[int] = (0,),
        budget: str = "standard",
        device: str = "cpu",
    ) -> "Plan":
        """A plan of some families and targets, by default of all.

        Args:
            families: names, and the hyper-parameters that differ from their defaults.
            targets: names.
            seeds: what each family is fitted with on each target.
            budget: how long to train, and how many points for everything.
            device: one of `DEVICES`.

        Raises:
            UsageError: there is no such family, target, budget or device.
        """
        from importlib.metadata import version  # slow to import, and help needs this module

        families = {name: {} for name in FAMILIES} if families is None else families
        if budget not in PROTOCOLS:
            raise UsageError(f"there is no budget '{budget}'; choose from {', '.join(PROTOCOLS)}.")
        if device not in DEVICES:
            raise UsageError(f"there is no device '{device}'; choose from {', '.join(DEVICES)}.")
        return cls(
            families={
                name: {field.name: field.default for field in FAMILIES.fields(name)} | dict(changed)
                for name, changed in families.items()
            },
            targets=tuple(
                TARGETS.check(name) for name in (TARGETS if targets is None else targets)
            ),
            seeds=tuple(seeds),
            budget=budget,
            protocol=PROTOCOLS[budget],
            versions={
                "densitometer": densitometer.__version__,
                **{p: version(p) for p in ("jax", "equinox", "optax", "diffrax")},
            },
            device=device,
        )

    def cells(self) -> list[Cell]:
        """Every cell, in the order of `results.csv`."""
        return [
            Cell(target, family, seed)
            for target in self.targets
            for family in (*REFERENCES, *self.families)
            for seed in self.seeds
        ]

    def together(self, cell: Cell) -> tuple[int, ...]:
        """The seeds that are fitted with a cell's in one program: on an accelerator all of them."""
        return (cell.seed,) if self.device == "cpu" else self.seeds

    def work(self, cell: Cell) -> int:
        """A guess at a cell's cost, for starting the longest first: points seen while training."""
        family = self.families.get(cell.family, {})
        return family.get("steps", 0) * family.get("batch_size", 0)

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """The plan that `to_json` wrote.

        Raises:
            UsageError: the text is no plan.
        """
        try:
            plan = json.loads(text)
            for name in ("targets", "seeds"):
                plan[name] = tuple(plan[name])
            return cls(**plan | {"protocol": Protocol(**plan["protocol"])})
        except (ValueError, TypeError, KeyError, RecursionError):
            raise UsageError("this is no plan of a study.") from None

    def difference(self, other: "Plan") -> str | None:
        """The first thing in which two plans differ, as "seeds [0], not [0, 1]", or None."""
        # By way of JSON, where a tuple and a list are the same.
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        return next(
            (
                f"{k} {_brief(mine[k])}, not {_brief(theirs[k])}"
                for k in mine
                if mine[k] != theirs[k]
            ),
            None,
        )


def _brief(value: Any) -> str:
    return textwrap.shorten(json.dumps(value), 80, placeholder=" …")
