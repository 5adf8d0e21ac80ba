"""State and Model to one safe file, and back.

A file is safetensors: named arrays and a JSON header, no code. Names are the paths of the leaves in
their pytree, so a file of another shape cannot be loaded in silence; a hash over names and bytes
stands in the header, because the format itself does not notice a flipped bit.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialise

import densitometer
from densitometer import families
from densitometer.errors import UsageError
from densitometer.families.base import Family
from densitometer.files import write_file
from densitometer.models import Model, Standardiser

T = TypeVar("T")

MODEL_FILE = "model.safetensors"
"""The name of a model's file in its cell."""

FORMAT = "densitometer-1"
"""Names this layout of files; a change of layout changes it."""


def save_model(
    path: str | os.PathLike[str],
    model: Model,
    family: Family,
    *,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write a fitted model; `details` (JSON-able) go into the header.

    Raises:
        UsageError: the file cannot be written.
    """
    write_file(Path(path), encode_model(model, family, details=details))


def encode_model(
    model: Model, family: Family, *, details: Mapping[str, Any] | None = None
) -> bytes:
    """The bytes of a fitted model's file."""
    return _encode(model, {"kind": "model", **_header(family, model.dim), **(details or {})})


def load_model(path: str | os.PathLike[str]) -> Model:
    """The model that `save_model` wrote; `path` is its file, or the cell folder that holds it.

    Raises:
        UsageError: there is no such file, it is damaged, or it is not a model of densitometer.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    header, arrays = _read(path, "model")
    family = _family(path, header)
    skeleton = eqx.filter_eval_shape(family.model, _blank_state(family, header["dim"]))
    # `fit` replaced the standardiser after the family made its model; its shapes are the same.
    assert isinstance(skeleton.standardiser, Standardiser)
    return _fill(path, skeleton, arrays)


def save_state(path: str | os.PathLike[str], state: Any, family: Family, dim: int) -> None:
    """Write a training state, from which `step` goes on as if it had never stopped.

    Raises:
        UsageError: the file cannot be written.
    """
    write_file(Path(path), _encode(state, {"kind": "state", **_header(family, dim)}))


def load_state(path: str | os.PathLike[str]) -> tuple[Family, Any]:
    """The family and the state that `save_state` wrote.

    Raises:
        UsageError: there is no such file, it is damaged, or it is not a state of densitometer.
    """
    path = Path(path)
    header, arrays = _read(path, "state")
    family = _family(path, header)
    return family, _fill(path, _blank_state(family, header["dim"]), arrays)


def _header(family: Family, dim: int) -> dict[str, Any]:
    return {
        "family": family.name,
        "hyperparameters": family.hyperparameters(),
        "dim": dim,
        "densitometer": densitometer.__version__,
    }


def _family(path: Path, header: Mapping[str, Any]) -> Family:
    try:
        return families.get(header["family"], **header["hyperparameters"])
    except (UsageError, TypeError) as error:
        raise UsageError(
            f"{path} is not a model of this version of densitometer: {error}"
        ) from None


def _blank_state(family: Family, dim: int) -> Any:
    data = jax.ShapeDtypeStruct((2, dim), jnp.float32)
    return eqx.filter_eval_shape(family.init, jax.random.key(0), data)


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}
    assert len(named) == len(leaves), "two leaves of one name"
    return named


def _encode(tree: Any, header: Mapping[str, Any]) -> bytes:
    # `order="C"` and not `ascontiguousarray`, which turns a scalar into an array of one.
    arrays = {k: np.asarray(v, order="C") for k, v in _named_leaves(tree).items()}
    text = json.dumps(header, sort_keys=True)
    # One entry only: the format keeps its entries in an order that changes from run to run.
    about = json.dumps(
        {"format": FORMAT, "header": header, "sha256": _digest(text, arrays)}, sort_keys=True
    )
    return serialise(arrays, metadata={"densitometer": about})


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise UsageError(f"there is no {kind} at {path}; give the folder of a fitted cell.")
    try:
        with safe_open(path, framework="numpy") as file:
            about = json.loads((file.metadata() or {}).get("densitometer", "{}"))
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0][:100]
        raise UsageError(f"{path} is damaged or no {kind} file ({reason}); fit it again.") from None
    if about.get("format") != FORMAT:
        raise UsageError(f"{path} was not written by this version of densitometer; fit it again.")
    header = about.get("header")
    if about.get("sha256") != _digest(json.dumps(header, sort_keys=True), arrays):
        raise UsageError(f"{path} is damaged: its content does not match its hash; fit it again.")
    if header["kind"] != kind:
        raise UsageError(f"{path} holds a {header['kind']}, not a {kind}.")
    return header, arrays


def _fill(path: Path, skeleton: T, arrays: Mapping[str, np.ndarray]) -> T:
    wanted = _named_leaves(skeleton)
    shapes = {k: (tuple(v.shape), np.dtype(v.dtype)) for k, v in wanted.items()}
    if shapes != {k: (v.shape, v.dtype) for k, v in arrays.items()}:
        raise UsageError(f"{path} does not fit its own hyper-parameters; fit it again.")
    leaves = [jnp.asarray(arrays[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(skeleton), leaves)


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
