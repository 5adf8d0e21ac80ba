"""Files of models and of unfinished runs, which hold no code.

A file is safetensors: named arrays and a JSON header. Names are the paths of the leaves in their
pytree, so a file of another structure cannot be loaded silently; the header has a hash of names and
bytes, because the format itself does not notice a flipped bit.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as deserialise
from safetensors.numpy import save as serialise

import densitometer
from densitometer import families
from densitometer.errors import UsageError
from densitometer.families.base import Family
from densitometer.models import Model, Standardiser
from densitometer.numerics import pinned
from densitometer.system.files import write_file

T = TypeVar("T")

MODEL_FILE = "model.safetensors"
"""The name of a model's file in its cell."""

MOST_DIMENSIONS = 10_000
"""Of a model: more are refused, so that no foreign file can ask for all memory there is."""

HEADERS_FAULT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a family may raise because of a bad header; other errors are not the file's fault."""

FORMAT = "densitometer-1"
"""The name of this layout of files; it changes with the layout."""


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


@pinned()
def load_model(path: str | os.PathLike[str]) -> Model:
    """The model that `save_model` wrote; `path` is its file, or the cell folder that holds it.

    Raises:
        UsageError: there is no such file, it is damaged, or it is not a model of densitometer.
    """
    path = Path(path)
    if path.is_dir():
        path = path / MODEL_FILE
    header, arrays = _read(path, "model")
    key = jax.random.key(0)
    try:
        family = families.get(str(header["family"]), **header["hyperparameters"])
        dim = header["dim"]
        if not (isinstance(dim, int) and 1 <= dim <= MOST_DIMENSIONS):
            raise ValueError(f"its dimension is {dim!r:.50}")
        data = jax.ShapeDtypeStruct((2, dim), jnp.float32)
        with np.errstate(all="ignore"):  # only shapes are wanted; numbers may be any
            blank = eqx.filter_eval_shape(family.init, key, data)
            skeleton = eqx.filter_eval_shape(family.model, blank)
    except HEADERS_FAULT as error:
        raise UsageError(
            f"{path} is no model of this version of densitometer ({_reason(error)}); fit it again."
        ) from None
    # `fit` replaced the standardiser after the family made its model; its shapes are the same.
    assert isinstance(skeleton.standardiser, Standardiser)
    return jax.tree.map(jnp.asarray, _fill(path, skeleton, arrays))


def encode_run(run: Any, about: Mapping[str, Any]) -> bytes:
    """The bytes of an unfinished run; `about` (JSON-able) says of which fit."""
    return _encode(run, {"kind": "run", **about})


def decode_run(
    content: bytes, about: Mapping[str, Any], like: Callable[[Mapping[str, Any]], T]
) -> T:
    """The run that `encode_run` was given, with arrays of NumPy.

    Args:
        content: the bytes.
        about: what the header must say; it may say more.
        like: makes a run of the same shapes from the header.

    Raises:
        UsageError: the bytes are damaged, or another fit's.
    """
    header, arrays = _decode(content, "this checkpoint", "run")
    mine = json.loads(json.dumps(about))
    if {name: header.get(name) for name in mine} != mine:
        raise UsageError("this checkpoint is that of another fit.")
    try:
        skeleton = like(header)
    except (KeyError, TypeError, ValueError):
        raise UsageError("this checkpoint does not say what is in it.") from None
    return _fill("this checkpoint", skeleton, arrays)


def _header(family: Family, dim: int) -> dict[str, Any]:
    return {
        "family": family.name,
        "hyperparameters": family.hyperparameters(),
        "dim": dim,
        "densitometer": densitometer.__version__,
    }


def _named_leaves(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}
    assert len(named) == len(leaves), "two leaves of one name"
    return named


def _encode(tree: Any, header: Mapping[str, Any]) -> bytes:
    # Not `ascontiguousarray`, which makes an array of shape (1,) of a scalar.
    arrays = {k: np.asarray(v, order="C") for k, v in _named_leaves(tree).items()}
    text = json.dumps(header, sort_keys=True)
    # One entry only: the format writes several in an order that changes from run to run.
    about = json.dumps(
        {"format": FORMAT, "header": header, "sha256": _digest(text, arrays)}, sort_keys=True
    )
    return serialise(arrays, metadata={"densitometer": about})


def _read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    if not path.is_file():
        raise UsageError(f"there is no {kind} at {path}; give the folder of a fitted cell.")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {(error.strerror or str(error)).lower()}.") from None
    return _decode(content, path, kind)


def _decode(
    content: bytes, name: Path | str, kind: str
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a file's content, checked.

    Raises:
        UsageError: the content is damaged, of another version or of another kind.
    """
    try:
        arrays = deserialise(content)  # checks sizes before it allocates
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__", {})
        about = json.loads(metadata.get("densitometer", "{}"))
        header = about.get("header", {})
        foreign = about.get("format") != FORMAT or not isinstance(header, dict)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as e:
        raise UsageError(
            f"{name} is damaged or no {kind} file ({_reason(e)}); fit it again."
        ) from None
    if foreign:
        raise UsageError(f"{name} was not written by this version of densitometer; fit it again.")
    if about.get("sha256") != _digest(json.dumps(header, sort_keys=True), arrays):
        raise UsageError(f"{name} is damaged: its content does not match its hash; fit it again.")
    if header.get("kind") != kind:
        raise UsageError(f"{name} holds a {header.get('kind')}, not a {kind}.")
    return header, arrays


def _fill(name: Path | str, skeleton: T, arrays: Mapping[str, np.ndarray]) -> T:
    wanted = _named_leaves(skeleton)
    kinds = {k: (tuple(v.shape), np.dtype(v.dtype).kind) for k, v in wanted.items()}
    if kinds != {k: (v.shape, v.dtype.kind) for k, v in arrays.items()}:
        raise UsageError(f"{name} does not fit its own hyper-parameters; fit it again.")
    # Parameters that were made with JAX in 64-bit mode are rounded to our types.
    leaves = [arrays[k].astype(v.dtype, copy=False) for k, v in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(skeleton), leaves)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:100]


def _digest(header: str, arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(header.encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
