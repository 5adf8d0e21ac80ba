"""What learns: one file a family, each readable from top to bottom as its mathematics."""

from typing import TYPE_CHECKING, Any

from densitometer.registry import Registry

if TYPE_CHECKING:
    from densitometer.families.base import Family

FAMILIES = Registry(
    "family",
    "families",
    {
        "dsm": "densitometer.families.dsm:DSM",
        "vae": "densitometer.families.vae:VAE",
        "gan": "densitometer.families.gan:GAN",
    },
)


def get(name: str, **hyperparameters: Any) -> "Family":
    """The family called `name`, with its defaults but for the hyper-parameters given.

    Raises:
        UsageError: there is no such family; the sentence names the nearest one.
    """
    return FAMILIES[name](**hyperparameters)
