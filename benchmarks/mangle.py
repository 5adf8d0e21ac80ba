"""Damaged, foreign and hostile files, made from good ones."""

import json
from collections.abc import Iterator

import numpy as np


def mangled(good: bytes, rng: np.random.Generator) -> bytes:
    """A file like `good` but damaged in one of the ways that files are."""
    content = bytearray(good)
    at, length = (int(n) for n in rng.integers(0, max(1, len(good)), 2))
    match rng.integers(0, 9):
        case 0:  # flipped bits
            for place in rng.integers(0, len(content), rng.integers(1, 9)):
                content[place] ^= 1 << int(rng.integers(0, 8))
        case 1:
            del content[at:]
        case 2:  # a block lost, a block twice, a block of zeros, a block of noise
            del content[at : at + length % 4096]
        case 3:
            content[at:at] = content[at : at + length % 4096]
        case 4:
            content[at : at + length % 4096] = bytes(len(content[at : at + length % 4096]))
        case 5:
            content[at:at] = rng.bytes(length % 4096)
        case 6:  # noise alone, behind the same beginning
            content[min(at, 16) :] = rng.bytes(length)
        case 7:  # a number in the text, much larger
            digits = [i for i, byte in enumerate(content[:2000]) if chr(byte).isdigit()]
            for place in rng.choice(digits, min(3, len(digits))) if digits else ():
                content[place : place + 1] = b"9" * int(rng.integers(1, 20))
        case 8:  # text nested too deeply for a parser that calls itself
            content[at:at] = b"[{("[int(rng.integers(0, 3)) :][:1] * 50_000
    return bytes(content)


def hostile_models(good: bytes) -> Iterator[bytes]:
    """Model files whose hash is right and whose header asks for the impossible."""
    from safetensors.numpy import load, save

    from densitometer.checkpoint import _digest

    arrays = load(good)
    length = int.from_bytes(good[:8], "little")
    about = json.loads(json.loads(good[8 : 8 + length])["__metadata__"]["densitometer"])
    header = about["header"]
    values = (0, -1, 10**3, 10**5, 10**9, 10**30, 1e308, "x", None, True, [1], {"a": 1})
    changes = [
        header | {"hyperparameters": header["hyperparameters"] | {name: value}}
        for name in header["hyperparameters"]
        for value in values
    ]
    changes += [header | {"dim": value} for value in (*values, 0.5)]
    changes += [header | {"family": name} for name in ("gan", "../gan", "", 7, None)]
    changes += [header | {"hyperparameters": value} for value in (None, [], 7, {"colour": 1})]
    changes += [{name: v for name, v in header.items() if name != lost} for lost in header]
    for changed in changes:
        text = json.dumps(changed, sort_keys=True)
        told = about | {"header": changed, "sha256": _digest(text, arrays)}
        yield save(arrays, metadata={"densitometer": json.dumps(told)})
