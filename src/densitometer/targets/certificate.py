"""Certificates: entropy and density level of a target with its parameters, and their errors.

With draws x₁, …, x_N from the target itself,

    H(p) ≈ −1/N Σᵢ log p(xᵢ),      level ≈ the 0.1 % quantile of log p(x₁), …, log p(x_N).

The entropy is as uncertain as a mean, sd(log p) / √N; the share of the draws below the level
is binomial, so the level is uncertain by half the way between the quantiles one standard error of
that share apart. It holds in any dimension and for any density, with corners and poles too.
"""

import dataclasses
import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from densitometer.errors import UsageError
from densitometer.estimates import EXACT, Estimate, Provenance
from densitometer.numerics import pinned
from densitometer.system.files import keep_in_cache, read_from_cache

if TYPE_CHECKING:
    from densitometer.targets.base import Target

__all__ = ["Certificate", "certify"]

VERSION = 1
"""Of the method: raised with every change that moves a number."""

N = 400_000
"""Draws behind a certificate: its errors are a sixth of those of a metric on 10 000 points."""

BLOCK = 20_000
"""Draws of one key."""

AT_ONCE = 500
"""Points of which the density is computed together."""

OUTSIDE = 1e-3
"""The mass below the level."""

BELOW = 1e-3
"""How far below a density that is flat its level lies, nats: no rounding of log p crosses it."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """Entropy and density level of one target; their provenance says how they were found."""

    entropy: Estimate
    """H(p) = −E_p[log p], nats."""

    hdr_log_density: Estimate
    """log of the density level whose upper set, {p ≥ level}, has 99.9 % of the mass."""

    @classmethod
    def uniform(cls, volume: float) -> "Certificate":
        """That of the uniform distribution on a set of some volume, exactly.

        No upper set has 99.9 % of the mass, so the level is a little below the density: what is
        below it is off the support, and a perfect sampler has none.
        """
        entropy = math.log(volume)
        return cls(Estimate(entropy, 0.0, EXACT), Estimate(-entropy - BELOW, 0.0, EXACT))


def certificate_of(target: "Target") -> Certificate:
    """What `certify` finds, computed once: it is cached in memory and on disk.

    The key is made of the target's `repr` and the source of the modules that define it and its base
    classes, so that a density that is edited gets a certificate of its own.

    Raises:
        UsageError: the target contradicts itself, as `certify` says.
    """
    return _cached(target)


def certify(target: "Target") -> Certificate:
    """The certificate of a target, found now from `N` of its own draws.

    Raises:
        UsageError: some draws have no finite log-density or are outside the target's box.
    """
    lower, upper = np.array(target.box, np.float32)
    blocks, outside = [], 0
    with pinned():
        for key in jax.random.split(jax.random.key(VERSION), N // BLOCK):
            points = np.asarray(target.sample(key, BLOCK))
            outside += int(np.sum(np.any((points < lower) | (points > upper), axis=1)))
            with jax.enable_x64(True):
                blocks.append(np.asarray(_log_density(target, points.astype(np.float64))))
    log_p = np.concatenate(blocks)
    if bad := int(np.sum(~np.isfinite(log_p))):
        raise UsageError(
            f"{target!r}: {bad} of {N} draws have no finite log-density; make its sampler and its "
            "density agree."
        )
    if outside:
        raise UsageError(
            f"{target!r}: {outside} of {N} draws are outside its box; state a larger box."
        )
    provenance = Provenance.of("samples", n=N)
    stderr = float(np.std(log_p, ddof=1)) / math.sqrt(N)
    entropy = Estimate(float(-np.mean(log_p)), stderr, provenance)
    return Certificate(entropy, _level(log_p, provenance))


@functools.partial(jax.jit, static_argnums=0)
def _log_density(target: "Target", points: jax.Array) -> jax.Array:
    """The log-density of many points, without the rounding of the public method to float32."""
    return jax.lax.map(target._log_prob, points, batch_size=AT_ONCE)


def _level(log_p: np.ndarray, provenance: Provenance) -> Estimate:
    error = math.sqrt(OUTSIDE * (1 - OUTSIDE) / len(log_p))
    shares = [OUTSIDE - error, OUTSIDE, OUTSIDE + error, 2 * OUTSIDE]
    low, level, high, twice = np.quantile(log_p, shares).tolist()
    flat = twice - level < BELOW
    return Estimate(level - BELOW if flat else level, (high - low) / 2, provenance)


@functools.cache
def _cached(target: "Target") -> Certificate:
    name = _cache_name(target)
    found = None if name is None else _read(name, target)
    if found is None:
        found = certify(target)
        if name is not None:
            fields = {"target": repr(target)} | _plain(found)
            keep_in_cache(name, (json.dumps(fields, indent=1) + "\n").encode())
    return found


def _cache_name(target: "Target") -> str | None:
    """The file's name in the cache; None if no file has the target's source, as in a notebook."""
    kinds = [kind for kind in type(target).__mro__ if dataclasses.is_dataclass(kind)]
    try:
        source = "".join(inspect.getsource(inspect.getmodule(kind) or kind) for kind in kinds)
    except (OSError, TypeError):
        return None
    key = hashlib.sha256(f"{VERSION} {target!r} {source}".encode()).hexdigest()[:16]
    return f"certificates/{target.name}-{key}.json"


def _read(name: str, target: "Target") -> Certificate | None:
    """The cached certificate; None where the file is damaged, or of another target."""
    content = read_from_cache(name)
    try:
        fields = {} if content is None else json.loads(content)
        if fields["target"] != repr(target):
            return None
        return Certificate(_estimate(fields, "entropy"), _estimate(fields, "hdr_log_density"))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _plain(certificate: Certificate) -> dict[str, Any]:
    fields = {f.name: getattr(certificate, f.name) for f in dataclasses.fields(certificate)}
    return {name: [*found[:2], str(found.provenance)] for name, found in fields.items()}


def _estimate(fields: Mapping[str, Any], name: str) -> Estimate:
    value, stderr, provenance = fields[name]
    if not (math.isfinite(value) and 0 <= stderr < math.inf and isinstance(provenance, str)):
        raise ValueError(name)
    return Estimate(float(value), float(stderr), Provenance.parse(provenance))
