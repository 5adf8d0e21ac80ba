"""What a family of generative models is, and what every member promises.

A *family* is a way to learn a law from points. It is nothing but hyper-parameters: a frozen
dataclass whose fields are plain numbers and strings, so it can be hashed, compared, printed, sent
to another machine and written as JSON. All that changes while learning lives in a *state*; all
that a person wants to watch lives in an *info*; what has been learnt is a *model*.

**State** is whatever the next step needs: parameters, optimiser states, averages of parameters,
chains, a step counter. It is a pytree of arrays. Save it, load it, go on: the result is the same,
bit for bit, as if nothing had happened. So nothing that the next step needs may live anywhere else.

**Info** is what one step can tell: its losses, its acceptance rate. It is a dictionary of scalars
and goes into the curves. The next step never reads it.

`step` is a pure function of a key, a state and a batch, so the loop around it (`training.fit`) can
scan over it, run it under `vmap` over seeds, stop it and resume it, and never needs to know whether
a family has one player or two, one optimiser or three. A family knows networks, an optimiser and
its own objective. It knows no target, no file and no plot, and it imports no other family.

Points reach a family standardised (zero mean, unit variance, by the training set); a family never
standardises again, and its model answers in those same coordinates: `models.Model` translates.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_type_hints

import equinox as eqx
from jaxtyping import Array, Float, Key, Scalar

from densitometer.domains import Count, Domain, Steps
from densitometer.errors import UsageError
from densitometer.models import Model

__all__ = ["Family", "Info", "State"]

State = TypeVar("State", bound=eqx.Module)
"""A pytree of arrays; each family has its own class, as in ``class DSM(Family[DSMState])``."""

Info = Mapping[str, Float[Array, ""]]
"""What a step reports: a dictionary of scalars that always has ``loss``."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family(abc.ABC, Generic[State]):
    """A way to learn: hyper-parameters, and five pure functions of them.

    Every subclass is a frozen dataclass that declares all its own fields (so that its file can be
    read alone), each with a default and a docstring, which is also its help on the command line.
    Its annotation says which values make sense alone (`densitometer.domains`), and `conflicts`
    which make none together. What people are shown of a family are class attributes; they and
    the fields' defaults are literals, for they are read from source (`registry.Registry`).
    """

    name: ClassVar[str]
    """The family's name in its registry, in folders and in tables."""

    label: ClassVar[str] = ""
    """What people read, as in "DDPM"; if empty, the name."""

    colour: ClassVar[int | None] = None
    """Its place in the palette of pictures, from 0 on (`report.style.PALETTE`); None, or a place
    that an earlier family has, for the next free one."""

    papers: ClassVar[tuple[str, ...]] = ()
    """Its sources: what they are called in ``report/references.bib``."""

    path_caption: ClassVar[str] = "From noise to samples."
    """What passes while the path of its samples is played, in sentences."""

    select_by: ClassVar[Literal["holdout_loss", "holdout_kde_nll"]] = "holdout_loss"
    """The hold-out curve whose minimum chooses the state that is kept. An adversarial loss is
    relative to a moving opponent, so such a family is chosen by the measure common to all."""

    loss_draws: ClassVar[int] = 16
    """Repetitions over which `loss` is averaged when it is put on a curve: 1 if it is not random.
    They are always the same random numbers, so the curve moves only because the state does."""

    steps: Steps
    """Gradient steps at the standard budget."""

    batch_size: Count
    """Points a step sees; all, if there are fewer."""

    @property
    def points_per_step(self) -> int:
        """Points that a step is given: `batch_size`, unless a family looks at more than it fits."""
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
        """What makes no sense together though each value alone does: a sentence for each.

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
        """One step of learning on one batch."""

    @abc.abstractmethod
    def loss(self, key: Key[Scalar, ""], state: State, batch: Float[Array, "b d"]) -> Scalar:
        """The family's own objective on `batch`, in its own unit; smaller is better.

        It judges what `model(state)` would give, averaged parameters and all, and draws the
        training and hold-out curves.
        """

    @abc.abstractmethod
    def model(self, state: State) -> Model:
        """What has been learnt so far, in standardised coordinates."""

    def hyperparameters(self) -> dict[str, Any]:
        """The fields and their values, ready for JSON."""
        return dataclasses.asdict(self)
