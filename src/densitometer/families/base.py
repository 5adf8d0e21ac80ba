"""The contract of a family of generative models, and what every member promises.

A *family* is a way to learn a distribution from points. It is nothing but hyper-parameters: a
frozen dataclass whose fields are plain numbers and strings, so it can be hashed, compared, printed,
sent to another machine and written as JSON. What changes during training lives in a *state*, what a
person wants to watch in an *info*, and what has been learnt is a *model*.

**State** is whatever the next step needs: parameters, optimiser states, averages of parameters,
chains, a step counter. It is a pytree of arrays. A state that is saved and loaded continues with
the same result, bit for bit, so nothing that the next step needs may live anywhere else.

**Info** is what one step reports: its loss, an acceptance rate. It is a pytree of scalars, each of
which becomes a column of the curves. The next step never reads it.

`step` is a pure function of a key, a state and a batch, so the loop around it (`training.fit`) can
scan over it, map it over seeds, stop it and resume it, and never needs to know whether a family
trains one network or two, with one optimiser or three. A family knows its networks, its optimiser
and its objective. It knows no target, no file and no plot, and it imports no other family.

Points reach a family standardised (zero mean and unit variance on the training set). A family does
not standardise again, and its model answers in the same coordinates; `models.Model` translates.
"""

import abc
import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_type_hints

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from densitometer.domains import Count, Domain, Steps
from densitometer.errors import UsageError
from densitometer.models import Model

__all__ = ["Family", "Info", "State"]

State = TypeVar("State", bound=eqx.Module)
"""A pytree of arrays; each family has its own class, as in ``class DSM(Family[DSMState])``."""


class Info(eqx.Module):
    """What a step reports: a pytree of scalars; each family has its own class.

    Every subclass declares all its fields, each with a docstring. The field ``loss`` is there
    always; one that is None is not reported.
    """

    loss: eqx.AbstractVar[Float[Array, ""]]
    """The objective that the step minimises, on its batch and before its update."""

    def columns(self) -> dict[str, Array]:
        """What is reported, by the columns of ``curves.csv``: ``step_loss`` for ``loss``.

        In the order of the alphabet.
        """
        fields = sorted(field.name for field in dataclasses.fields(self))
        reported = {name: getattr(self, name) for name in fields}
        return {f"step_{name}": value for name, value in reported.items() if value is not None}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(abc.ABC, Generic[State]):
    """A way to learn: hyper-parameters, and four pure functions of them.

    Every subclass is a frozen dataclass that declares all its own fields (so that its file can be
    read alone), each with a default and a docstring, which is also its help on the command line.
    A field's annotation says which values make sense alone (`densitometer.domains`), and
    `conflicts` which make none together. What reports show of a family are class attributes; they
    and the fields' defaults are literals, because they are read from the source
    (`registry.Registry`).
    """

    name: ClassVar[str]
    """Its name in the registry, in folders and in files."""

    label: ClassVar[str] = ""
    """Its name in prose and figures, as in "DDPM"; if empty, `name`."""

    colour: ClassVar[int | None] = None
    """Its place in the palette of figures, from 0 on (`report.style.PALETTE`). With None, or a
    place that an earlier family has, it gets the next free one."""

    papers: ClassVar[tuple[str, ...]] = ()
    """Its sources: their keys in ``report/references.bib``."""

    path_caption: ClassVar[str] = "From noise to samples."
    """What is seen while the path of its samples is played, in sentences."""

    select_by: ClassVar[Literal["holdout_loss", "holdout_kde_nll"]] = "holdout_loss"
    """The hold-out curve whose minimum selects the state. An adversarial loss is relative to a
    moving opponent, so such a family is selected by the measure common to all."""

    loss_draws: ClassVar[int] = 16
    """Evaluations of `loss`, each with its own random numbers, that are averaged for a point of a
    curve on hold-out points, and spread over the training points, if these are more; 1 if the loss
    is not random. They are the same at every evaluation, so a curve moves only because the state
    does."""

    steps: Steps
    """Gradient steps at the standard budget."""

    batch_size: Count
    """Points a step; all, if there are fewer."""

    @property
    def points_per_step(self) -> int:
        """Training points that a step is given: `batch_size`, unless its targets need more."""
        return self.batch_size

    def __post_init__(self):
        """Refuse hyper-parameters that make no sense, and make the others plain Python values.

        Raises:
            UsageError: a value is not in the domain of its field, or does not go together with
                another.
        """
        # What this class says of its fields holds however a subclass annotates them.
        for owner in (Family, type(self)):
            hints = get_type_hints(owner, include_extras=True)
            for field in dataclasses.fields(owner):
                value, name = getattr(self, field.name), f"{self.name}: {field.name}"
                domain = Domain.of(hints[field.name])
                object.__setattr__(self, field.name, domain.checked(value, name))
        for sentence in self.conflicts():
            raise UsageError(f"{self.name}: {sentence}.")

    def conflicts(self) -> Iterable[str]:
        """Why these values make no sense together, though each does alone: a sentence for each.

        It names the fields, what is allowed and the value, as in "sigma_min must be below
        sigma_max = 5.0, not 10.0".
        """
        return ()

    @abc.abstractmethod
    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> State:
        """The state before the first step. `data` are the standardised training points."""

    @abc.abstractmethod
    def step(
        self, key: Key[Scalar, ""], state: State, batch: Float[Array, "b d"]
    ) -> tuple[State, Info]:
        """The state after one step on one batch of `points_per_step` points, and its info."""

    @abc.abstractmethod
    def loss(self, key: Key[Scalar, ""], state: State, batch: Float[Array, "b d"]) -> Scalar:
        """The family's own objective on `batch`, in its own unit; lower is better.

        It judges what ``model(state)`` would give, averaged parameters included, and draws the
        training and hold-out curves.
        """

    def least_loss(
        self,
        key: Key[Scalar, ""],
        batch: Float[Array, "b d"],
        candidates: Float[Array, "n d"],
    ) -> Scalar:
        """What of `loss` on `batch` with the same key no state can be rid of; 0 if there is none.

        Where the loss regresses on targets with noise in them, that of their posterior mean for a
        noisy point that may come from any of the `candidates`, of which the batch is a part.
        """
        return jnp.zeros(())

    @abc.abstractmethod
    def model(self, state: State) -> Model:
        """The model of a state, in standardised coordinates."""

    def hyperparameters(self) -> dict[str, Any]:
        """The fields and their values, ready for JSON."""
        return dataclasses.asdict(self)
