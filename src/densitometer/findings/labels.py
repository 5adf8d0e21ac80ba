"""Labels: what people read where programs read an identifier."""

from densitometer.families import FAMILIES
from densitometer.study.plan import family_of
from densitometer.targets import TARGETS

REFERENCES = {
    "truth": "truth",
    "kde": "KDE",
    "kde_adaptive": "adaptive KDE",
    "gmm": "GMM",
    "gmm_mean": "mean of GMMs",
}
"""The labels of the references."""


def label(name: str) -> str:
    """The label of a target, of a reference, of a family or of a variant of one; else the name.

    What makes a variant stays as it is: ``DDPM.width=64``.
    """
    if name in REFERENCES:
        return REFERENCES[name]
    kind = family_of(name)
    for registry in (FAMILIES, TARGETS):
        if kind in registry:
            return registry.label(kind) + name[len(kind) :]
    return name


def in_prose(target: str) -> str:
    """A target within a sentence: "the spiral"; its label if it states nothing of its own.

    As with labels, what a class inherits belongs to the first member that has it.
    """
    stated = {name: TARGETS.facts(name).get("in_prose") for name in TARGETS}
    phrase = stated.get(target)
    first = next((name for name in stated if stated[name] == phrase), None)
    return phrase if phrase and first == target else label(target)
