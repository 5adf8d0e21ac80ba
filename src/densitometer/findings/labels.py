"""What people read in the place of a name."""

from densitometer.families import FAMILIES
from densitometer.study.plan import family_of
from densitometer.targets import TARGETS


def label(name: str) -> str:
    """The label of a target, of a family or of a variant of one; of anything else its name.

    What makes a variant stays as it is: ``DDPM.width=64``.
    """
    kind = family_of(name)
    for registry in (FAMILIES, TARGETS):
        if kind in registry:
            return registry.label(kind) + name[len(kind) :]
    return name
