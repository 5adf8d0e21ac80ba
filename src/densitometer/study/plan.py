"""Plans: everything that decides the numbers of a study, and nothing else.

A plan is plain data. Two runs of the same plan end with the same `results.csv`, so a study may be
continued if its plan is the same.
"""

import dataclasses
import itertools
import json
import platform
import re
import textwrap
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import densitometer
from densitometer import families as all_families
from densitometer.counts import check_count, check_seed
from densitometer.errors import UsageError
from densitometer.families import FAMILIES
from densitometer.targets import STUDIED, TARGETS

DEVICES = ("cpu", "gpu")
"""Kinds of devices that cells can be computed on."""

REFERENCES = ("truth", "kde", "kde_adaptive", "gmm", "gmm_mean")
"""Scored like families, on every target: a fresh true sample, and the baselines."""

MOST_SEEDS = 10_000
"""The most seeds of a study that states their number."""

MOST_POINTS = 10_000_000
"""The most points of any kind that a protocol may state."""

ASKED = {
    "families": "names, or a table of hyper-parameters for each",
    "targets": "names",
    "seeds": "how many, or which",
    "budget": "a name",
    "device": "a name",
    "protocol": "whole numbers by name",
}
"""What a plan written by hand may state, and how."""


class Cell(NamedTuple):
    """One model to fit and score."""

    target: str
    family: str
    seed: int

    def __str__(self) -> str:
        return f"{self.target}/{self.family}/{self.seed}"


@dataclasses.dataclass(frozen=True)
class Protocol:
    """The numbers of points for training and for scoring."""

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
"""The protocol of each budget; `preparation.BUDGETS` has the same names."""


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
    """Where the numbers are computed: two kinds of device round sums differently."""

    @classmethod
    def make(
        cls,
        families: Mapping[str, Mapping[str, Any]] | None = None,
        targets: Iterable[str] | None = None,
        seeds: Iterable[int] = (0,),
        budget: str = "standard",
        device: str = "cpu",
        protocol: Mapping[str, int] | None = None,
    ) -> "Plan":
        """A plan for some families and targets, by default all families on `STUDIED` targets.

        Args:
            families: by name, the hyper-parameters that differ from their defaults. A list of
                values is a sweep: a variant of the family for each, named ``ddpm.width=64``. The
                part of a name before its first dot is the family.
            targets: names.
            seeds: what each family is fitted with on each target.
            budget: how long to train, and how many points for everything.
            device: one of `DEVICES`.
            protocol: numbers of points that differ from the budget's.

        Raises:
            UsageError: there is no such family, hyper-parameter, target, budget or device, or a
                value is not in its domain.
        """
        from importlib.metadata import version  # slow to import, and help needs this module

        families = {name: {} for name in FAMILIES} if families is None else families
        seeds = tuple(dict.fromkeys(check_seed(seed, "a seed") for seed in seeds))
        if budget not in PROTOCOLS:
            raise UsageError(f"there is no budget '{budget}'; choose from {', '.join(PROTOCOLS)}.")
        if device not in DEVICES:
            raise UsageError(f"there is no device '{device}'; choose from {', '.join(DEVICES)}.")
        if not seeds:
            raise UsageError("a plan has no seeds; give at least one.")
        for name in protocol or {}:
            if name not in Protocol.__annotations__:
                names = ", ".join(Protocol.__annotations__)
                raise UsageError(f"there is no number of points '{name}'; choose from {names}.")
        protocol = {n: check_count(v, n, 10, MOST_POINTS) for n, v in (protocol or {}).items()}
        return cls(
            families={
                variant: {field.name: field.default for field in FAMILIES.fields(family_of(name))}
                | values
                for name, changed in families.items()
                for variant, values in _variants(name, changed)
            },
            targets=tuple(
                dict.fromkeys(TARGETS.check(t) for t in (STUDIED if targets is None else targets))
            ),
            seeds=seeds,
            budget=budget,
            protocol=dataclasses.replace(PROTOCOLS[budget], **protocol),
            versions={
                "densitometer": densitometer.__version__,
                "Python": platform.python_version(),
                **{p: version(p) for p in ("jax", "equinox", "optax", "diffrax", "numpy", "scipy")},
            },
            device=device,
        )

    @classmethod
    def from_file(cls, path: Path) -> "Plan":
        """A plan written by a person as TOML, or by a study as its ``plan.json``.

        Raises:
            UsageError: the file cannot be read, has an unknown entry, or asks for what does not
                exist.
        """
        try:
            text = path.read_text(encoding="utf-8")
            asked = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
            if not isinstance(asked, dict):
                raise ValueError("it is no table")
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"cannot read {path}: {why}.") from None
        except (ValueError, RecursionError) as error:
            why = (str(error).splitlines() or ["nested too deeply"])[0][:100]
            raise UsageError(f"{path} is no plan: {why}.") from None
        asked.pop("versions", None)  # of the earlier run; the new plan states ours
        for name in asked:
            if name not in ASKED:
                raise UsageError(
                    f"{path}: there is no '{name}' in a plan, only {', '.join(ASKED)}."
                )
            if not _is_written(asked[name], name):
                raise UsageError(f"{path}: {name} must be {ASKED[name]}.")
        if isinstance(seeds := asked.get("seeds"), int):
            if not 1 <= seeds <= MOST_SEEDS:
                raise UsageError(f"{path}: seeds are counted from 1 to {MOST_SEEDS}, not {seeds}.")
            asked["seeds"] = range(seeds)
        if isinstance(named := asked.get("families"), list):
            asked["families"] = {name: {} for name in named}
        try:
            return cls.make(**asked)
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from None

    def cells(self) -> list[Cell]:
        """Every cell, in the order of `results.csv`."""
        return [
            Cell(target, family, seed)
            for target in self.targets
            for family in (*REFERENCES, *self.families)
            for seed in self.seeds
        ]

    def together(self, cell: Cell) -> tuple[int, ...]:
        """The seeds that are fitted in one program with a cell's: on an accelerator all of them."""
        return (cell.seed,) if self.device == "cpu" else self.seeds

    def work(self, cell: Cell) -> int:
        """An estimate of a cell's cost, to start the longest first: points seen in training."""
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
        """The first entry in which two plans differ, as "seeds [0], not [0, 1]", or None."""
        # Through JSON, where a tuple and a list are the same.
        mine, theirs = json.loads(self.to_json()), json.loads(other.to_json())
        return next(
            (
                f"{k} {_brief(mine[k])}, not {_brief(theirs[k])}"
                for k in mine
                if mine[k] != theirs[k]
            ),
            None,
        )


def family_of(name: str) -> str:
    """The family of a variant: the part of its name before the first dot."""
    return name.partition(".")[0]


def _is_written(value: Any, name: str) -> bool:
    """Whether the value of an entry of a plan has the form that `ASKED` states."""
    within = {"families": dict, "protocol": int}
    if isinstance(value, dict):
        return name in within and all(isinstance(v, within[name]) for v in value.values())
    if name in ("budget", "device"):
        return isinstance(value, str)
    if name == "seeds":
        many = value if isinstance(value, list) else [value]
        return all(isinstance(v, int) and not isinstance(v, bool) for v in many)
    return name != "protocol" and isinstance(value, list) and all(isinstance(v, str) for v in value)


def _variants(name: str, changed: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The variants of a family that lists of values ask for; without lists, the family itself."""
    kind = FAMILIES.check(family_of(name))
    if not re.fullmatch(r"[\w.=+-]+", name):
        raise UsageError(f"a variant's name has letters, digits and . = + - only, not '{name}'.")
    swept = {field: values for field, values in changed.items() if isinstance(values, list)}
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        made = {**changed, **chosen}
        if made:  # only the family can check values, and importing it takes JAX
            made = all_families.get(kind, **made).hyperparameters()
        yield ".".join([name, *(f"{f}={v}" for f, v in chosen.items())]), made


def _brief(value: Any) -> str:
    return textwrap.shorten(json.dumps(value), 80, placeholder=" …")
