"""The families: one file each, to be read from top to bottom as its mathematics."""

import difflib
from typing import TYPE_CHECKING, Any

from densitometer.errors import UsageError
from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.families.base import Family

__all__ = ["FAMILIES", "get"]

FAMILIES = Registry(
    "family",
    "families",
    {
        "ebm": "densitometer.families.ebm:EBM",
        "sm": "densitometer.families.sm:SM",
        "dsm": "densitometer.families.dsm:DSM",
        "vae": "densitometer.families.vae:VAE",
        "ddpm": "densitometer.families.ddpm:DDPM",
        "cnf": "densitometer.families.cnf:CNF",
        "gan": "densitometer.families.gan:GAN",
    },
)
"""The families by name: a new one is one line here."""


def get(name: str, **hyperparameters: Any) -> "Family":
    """The family called `name`, with its defaults but for the hyper-parameters given.

    Raises:
        UsageError: there is no such family (the sentence names the nearest one), it has no such
            hyper-parameter, or the values make no sense, alone or together.
    """
    known = {field.name: field for field in FAMILIES.fields(name)}
    for word, value in hyperparameters.items():
        if word not in known:
            near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(known)}."
            raise UsageError(f"{name} has no hyper-parameter '{word}'; {hint}")
        hyperparameters[word] = known[word].domain.checked(value, f"{name}: {word}")
    return FAMILIES[name](**hyperparameters)
