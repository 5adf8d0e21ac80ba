"""The numbers of one model against one target: which metrics apply, run, labelled."""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from jaxtyping import Float

from densitometer.counts import check_count, check_seed
from densitometer.errors import UsageError
from densitometer.estimates import Estimate, Provenance
from densitometer.models import Model
from densitometer.points import check_points, outlying, stray_sentence
from densitometer.randomness import key_for
from densitometer.scoring import consistency
from densitometer.scoring.evidence import GRID, N_SAMPLES, N_TEST, Evidence, judge
from densitometer.scoring.floors import Floor, Floors, known_floors
from densitometer.scoring.verdict import Verdict, described, verdict
from densitometer.targets.base import Target

FEWEST = 10
"""The fewest points of any kind that make sense, and cells a side."""

FAR = 1e3
"""Times as far from the middle as half of all samples: where to look for the rows that drown all
others, since how far that is depends on how narrow these are."""


class Row(NamedTuple):
    """One number: the columns of ``results.csv``."""

    target: str
    family: str
    seed: int
    metric: str
    value: float
    stderr: float
    provenance: str

    @property
    def estimate(self) -> Estimate:
        """Value, error and provenance."""
        return Estimate(self.value, self.stderr, Provenance.parse(self.provenance))


@dataclasses.dataclass(frozen=True)
class Scorecard:
    """The rows of one model, or of a few side by side, against one target.

    Printed, it is a table. The `evidence` holds what the numbers were computed from, for pictures
    and further comparisons; it does not go into the JSON.
    """

    rows: tuple[Row, ...]
    floors: Floors | None = dataclasses.field(default=None, repr=False, compare=False)
    """What the truth scores, where it is known."""
    entropy: Estimate | None = dataclasses.field(default=None, repr=False, compare=False)
    """H(p) of the target, nats, where it is known: what likelihoods are held against."""
    evidence: Evidence | None = dataclasses.field(default=None, repr=False, compare=False)
    """What the first rows come from: samples, log p and log q at every test point, and more."""

    def __getitem__(self, metric: str) -> Estimate:
        """The estimate of one metric.

        Raises:
            KeyError: it is not on this scorecard.
        """
        for row in self.rows:
            if row.metric == metric:
                return row.estimate
        raise KeyError(metric)

    def to_json(self) -> str:
        """A JSON list of objects with the columns of ``results.csv``.

        A value that is not finite becomes null, since JSON has no infinity.
        """
        rows = [{k: _finite_or_none(v) for k, v in row._asdict().items()} for row in self.rows]
        return json.dumps(rows, indent=1, allow_nan=False)

    @classmethod
    def from_json(
        cls, text: str, floors: Floors | None = None, entropy: Estimate | None = None
    ) -> "Scorecard":
        """The scorecard that `to_json` wrote; null becomes NaN."""
        entries: list[dict[str, Any]] = json.loads(text)
        for entry in entries:
            entry |= {k: math.nan for k, v in entry.items() if v is None}
        return cls(tuple(Row(**entry) for entry in entries), floors, entropy)

    def impossible(self) -> list[str]:
        """Sentences about values that no correct computation gives; empty if all is well."""
        return [
            why
            for _, card in self._cards()
            for _, why in consistency.violations(card, self.entropy)
        ]

    def verdicts(self) -> dict[str, Verdict]:
        """By model whether its samples can be distinguished from the truth; {} without floors."""
        if self.floors is None:
            return {}
        return {family: verdict(self.floors, card) for family, card in self._cards()}

    def judged(self) -> list[dict[str, Any]]:
        """The rows as `to_json` has them, each with its floor and what that makes of it.

        `floor_low` and `floor_high` are the central 95 % of what the truth scores, `within_floor`
        tells whether the value lies there, `note` says it in words: all null, and the note empty,
        where there is no floor. After a model's rows comes one named ``verdict``, whose value is
        the worst excess over the floor of all metrics on samples in units of what chance allows, of
        a model that allowed to an ideal learner of its training points.
        """
        entries = json.loads(self.to_json())
        for row, entry in zip(self.rows, entries, strict=True):
            floor = self._floor(row)
            within = None if floor is None else floor.holds(row.value)
            entry |= {
                "floor_low": floor and _finite_or_none(floor.low),
                "floor_high": floor and _finite_or_none(floor.high),
                "within_floor": within,
                "note": self._note(row, within),
            }
        for family, found in self.verdicts().items():
            place = max(i for i, entry in enumerate(entries) if entry["family"] == family)
            entries.insert(
                place + 1,
                entries[place]
                | {
                    "metric": "verdict",
                    "value": _finite_or_none(found.excess),
                    "stderr": None,
                    "floor_low": 0.0,
                    "floor_high": 1.0,
                    "within_floor": found.passes,
                    "note": found.sentence,
                },
            )
        return entries

    def __str__(self) -> str:
        lines = []
        verdicts = self.verdicts()
        for family, rows in itertools.groupby(self.rows, key=lambda row: row.family):
            rows = list(rows)
            lines += [f"{family} on {rows[0].target}, seed {rows[0].seed}", ""]
            head = f"{'metric':<24}{'value':>12}{'± stderr':>12}"
            lines.append(f"{head}   {'the truth scores':<22}provenance")
            for row in rows:
                floor = self._floor(row)
                shown = floor and floor.possible(row.metric)
                truth = f"{shown.low:.4f} to {shown.high:.4f}" if shown else "–"
                mark = " " if floor is None or floor.holds(row.value) else "!"
                number = f"{row.metric:<24}{row.value:>12.4f}{row.stderr:>12.4f}"
                lines.append(f"{number} {mark} {truth:<22}{row.provenance}")
            lines.append("")
            if family in verdicts:
                lines += [f"{family}: {verdicts[family].sentence}.", ""]
        lines += [f"IMPOSSIBLE: {sentence}" for sentence in self.impossible()]
        return "\n".join(lines).rstrip()

    def _cards(self) -> Iterator[tuple[str, dict[str, Estimate]]]:
        """The name and the estimates of each model."""
        for family, rows in itertools.groupby(self.rows, lambda row: row.family):
            yield family, {r.metric: r.estimate for r in rows}

    def _floor(self, row: Row) -> Floor | None:
        if self.floors is None:
            return None
        return self.floors.floor(row.metric, row.estimate, self.entropy)

    def _note(self, row: Row, within: bool | None) -> str:
        if within is None or self.floors is None:
            return ""
        if within:
            return f"indistinguishable from the truth at n = {self.floors.n}"
        floor = self._floor(row)
        if floor and not floor.perfect:
            return described(row.metric, row.value, floor)
        return "not what the truth scores at the same points"


def score(
    model: Model,
    target: Target,
    seed: SupportsIndex = 0,
    *,
    family: str = "model",
    n_test: SupportsIndex = N_TEST,
    n_samples: SupportsIndex = N_SAMPLES,
    n_grid: SupportsIndex = GRID,
    train: Any = None,
) -> Scorecard:
    """The scorecard of a model.

    Args:
        model: what is judged.
        target: the truth.
        seed: of the fresh true points and of the model's samples.
        family: the name that the rows bear.
        n_test: fresh true points.
        n_samples: samples drawn from the model.
        n_grid: cells a side of the grid for the mass and the map of the density.
        train: the points that the model was fitted to, for `nll_train` and `memorised`; None if
            they are not known.

    Raises:
        UsageError: model, target and points live in spaces of different dimension, or a number is
            none.
    """
    seed = check_seed(seed)
    n_test, n_samples, n_grid = (
        check_count(n, name, FEWEST)
        for n, name in ((n_test, "n_test"), (n_samples, "n_samples"), (n_grid, "n_grid"))
    )
    if model.dim != target.dim:
        raise UsageError(
            f"the model's points have dimension {model.dim}, those of {target.name} {target.dim}; "
            "score a model of the same space."
        )
    train = _check_train(train, target)
    evidence = Evidence.of_model(
        model, target, seed, n_test=n_test, n_samples=n_samples, n_grid=n_grid, train=train
    )
    rows = _rows(judge(evidence), target, family, seed)
    floors = known_floors(target, n_samples, n_test)
    return Scorecard(rows, floors, target.entropy, evidence)


def score_samples(
    samples: Any,
    target: Target,
    seed: SupportsIndex = 0,
    *,
    family: str = "samples",
    n_test: SupportsIndex = N_TEST,
    floors: Floors | None = None,
    train: Any = None,
) -> Scorecard:
    """The scorecard of samples made by anything: the metrics that need no density.

    Below them stand the rows of ``truth``: the same metrics of as many fresh true samples, which is
    what a perfect sampler would score. `floors` are those that are known if not given; for a
    verdict on samples of any number pass ``densitometer.scoring.floors.of(target, len(samples))``.
    `train` are the points that whoever drew the samples was trained on: whether they are copies is
    then judged too, and all else as of a learner.

    Raises:
        UsageError: samples or training points that cannot be judged, or a number that is none.
    """
    seed, n_test = check_seed(seed), check_count(n_test, "n_test", FEWEST)
    train = _check_train(train, target)
    samples = check_samples(samples, target)
    truth = np.asarray(target.sample(key_for(seed, "samples"), len(samples)))
    evidence = Evidence(target, seed, samples, n_test=n_test, train=train)
    of_truth = Evidence(target, seed, truth, n_test=n_test)
    rows = _rows(judge(evidence), target, family, seed)
    rows += _rows(judge(of_truth), target, "truth", seed)
    floors = floors or known_floors(target, len(samples), n_test)
    return Scorecard(rows, floors, target.entropy, evidence)


def _check_train(train: Any, target: Target) -> Float[np.ndarray, "k d"] | None:
    """Training points of a target's dimension, float32; None if there are none."""
    if train is None:
        return None
    points = check_points(train, "train").astype(np.float32)
    if points.shape[1] != target.dim:
        raise UsageError(
            f"train has dimension {points.shape[1]}, {target.name} {target.dim}; "
            "give the points that the model was fitted to."
        )
    return points


def check_samples(samples: Any, target: Target, name: str = "samples") -> np.ndarray:
    """Samples that can be judged, float32; `name` is what messages call them.

    Raises:
        UsageError: the wrong shape, too few, with NaN, without spread, or with a row so far away
            that float64 cannot tell the spread of the others.
    """
    samples = check_points(samples, name, minimum=100)
    if samples.shape[1] != target.dim:
        raise UsageError(
            f"{name} must have shape (n, {target.dim}) for {target.name}, got {samples.shape}."
        )
    if not _has_covariance(samples):
        far, away = outlying(samples, FAR)
        if far.any() and _has_covariance(samples[~far]):
            raise UsageError(stray_sentence(far, away, name))
        raise UsageError(
            f"{name}: there is no spread along some direction; give draws of a density."
        )
    return samples.astype(np.float32)


def _has_covariance(points: Float[np.ndarray, "n d"]) -> bool:
    """Whether the covariance has full rank, and float64 the digits to compute it.

    Its eigenvalues are squares of the singular values of the points without their mean, which lose
    no digits to the largest.
    """
    n, dim = points.shape
    if n <= dim:
        return False
    values = np.linalg.svd(points - np.mean(points, axis=0), compute_uv=False)
    return bool(values[-1] ** 2 > dim * np.finfo(float).eps * values[0] ** 2)


def _rows(
    estimates: dict[str, Estimate], target: Target, family: str, seed: int
) -> tuple[Row, ...]:
    return tuple(
        Row(target.name, family, seed, metric, e.value, e.stderr, str(e.provenance))
        for metric, e in estimates.items()
    )


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
