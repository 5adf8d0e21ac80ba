"""What learns: one file a family, each readable from top to bottom as its mathematics."""

from typing import TYPE_CHECKING, Any

from densitometer.errors import UsageError
from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.families.base import Family

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


def get(name: str, **hyperparameters: Any) -> "Family":
    """The family called `name`, with its defaults but for the hyper-parameters given.

    Raises:
        UsageError: there is no such family (the sentence names the nearest one), it has no such
            hyper-parameter, or the value makes no sense.
    """
    known = [field.name for field in FAMILIES.fields(name)]
    if unknown := [word for word in hyperparameters if word not in known]:
        has = ", ".join(known)
        raise UsageError(f"{name} has no hyper-parameter '{unknown[0]}'; it has {has}.")
    return FAMILIES[name](**hyperparameters)
