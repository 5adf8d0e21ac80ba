"""densitometer: how far is a generative model from a density that is known exactly?

>>> import densitometer as dm
>>> target = dm.targets.get("spiral")

Everything is imported on first use, so that importing the package costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

from densitometer import families, metrics, targets
from densitometer.errors import UsageError

if TYPE_CHECKING:
    from densitometer.checkpoint import load_model as load
    from densitometer.checkpoint import save_model as save
    from densitometer.scoring.scorecard import Scorecard, score
    from densitometer.training import Fit, fit

__version__ = "0.1.0"

__all__ = [
    "Fit",
    "Scorecard",
    "UsageError",
    "__version__",
    "families",
    "fit",
    "load",
    "metrics",
    "save",
    "score",
    "targets",
]

_LAZY = {
    "Fit": "densitometer.training:Fit",
    "Scorecard": "densitometer.scoring.scorecard:Scorecard",
    "fit": "densitometer.training:fit",
    "load": "densitometer.checkpoint:load_model",
    "save": "densitometer.checkpoint:save_model",
    "score": "densitometer.scoring.scorecard:score",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'densitometer' has no attribute '{name}'")
    module, attribute = _LAZY[name].split(":")
    return getattr(importlib.import_module(module), attribute)
