"""Multilayer perceptrons, Fourier features and dropout.

Networks take one point and are mapped by their caller (`jax.vmap`), so that a layer of a batch of
points is one matrix product with the batch in the rows.
"""

import functools
import itertools
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Scalar

from densitometer.numerics import pinned

TIME_FREQUENCIES = (1.0, 2.0, 4.0, 8.0)
"""Angular frequencies of `time_features`."""

Activation = Callable[[Array], Array]
"""φ, entry by entry."""


class MLP(eqx.Module):
    """A multilayer perceptron: ``depth`` hidden layers of ``width`` units, linear output.

    Weights start as N(0, gain²/fan_in), biases at zero. The last layer has a gain of its own: with
    a small one the output starts near zero, and a residual parametrisation at its baseline.
    """

    weights: list[Float[Array, "_ _"]]
    """(in, out) for hidden layers, (out, in) for the last: the gradient of a matrix is the product
    of a layer's two sides, much faster with the narrower side in the rows."""
    biases: list[Float[Array, " o"]]
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        key: Key[Scalar, ""],
        inputs: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        activation: Activation = jax.nn.silu,
        gain: float = math.sqrt(2.0),
        last_gain: float = 1.0,
    ):
        sizes = [inputs, *[width] * depth, outputs]
        gains = [gain] * depth + [last_gain]
        shapes = list(itertools.pairwise(sizes))
        # One draw for all layers: compiling a draw takes longer than compiling a layer.
        ends = np.cumsum([i * o for i, o in shapes])
        noise = jnp.split(jax.random.normal(key, (ends[-1],)), ends[:-1])
        self.weights = [
            part.reshape(i, o) * (g / math.sqrt(i))
            for part, g, (i, o) in zip(noise, gains, shapes, strict=True)
        ]
        self.weights[-1] = self.weights[-1].T
        self.biases = [jnp.zeros(o) for o in sizes[1:]]
        self.activation = activation

    def __call__(self, x: Float[Array, " i"], drop: "Dropout | None" = None) -> Float[Array, " o"]:
        """The output at one input; `drop`, given in training only, acts on hidden units."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for layer, (w, b) in enumerate(hidden):
            x = self.activation(x @ w + b)
            if drop is not None:
                x = drop(x, layer)
        w, b = last
        return x @ w.T + b


class FeatureMLP(MLP):
    """An MLP on `fourier_features` of a point and, if it is `timed`, on `time_features` of t."""

    count: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        key: Key[Scalar, ""],
        dim: int,
        outputs: int,
        *,
        width: int,
        depth: int,
        count: int,
        scale: float,
        timed: bool = False,
        last_gain: float = 1.0,
    ):
        self.count, self.scale = count, scale
        inputs = dim + 2 * count + (1 + 2 * len(TIME_FREQUENCIES) if timed else 0)
        super().__init__(key, inputs, outputs, width=width, depth=depth, last_gain=last_gain)

    def features(
        self, x: Float[Array, " d"], t: Float[Array, ""] | None = None
    ) -> Float[Array, " i"]:
        """The input of the first layer."""
        space = fourier_features(x, self.count, self.scale)
        return space if t is None else jnp.concatenate([space, time_features(t)])

    def __call__(
        self,
        x: Float[Array, " d"],
        drop: "Dropout | None" = None,
        t: Float[Array, ""] | None = None,
    ) -> Float[Array, " o"]:
        """The output at one point, and at time t if the network is timed."""
        return super().__call__(self.features(x, t), drop)


class Dropout(eqx.Module):
    """Inverted dropout: a unit is zero with probability `rate`, else multiplied by 1/(1−rate).

    Source: Srivastava et al. (2014, JMLR 15:1929).
    """

    rate: float = eqx.field(static=True)
    key: Key[Scalar, ""]

    def __call__(self, x: Float[Array, " h"], layer: int) -> Float[Array, " h"]:
        """The units of one hidden layer, some of them dropped."""
        if self.rate == 0.0:
            return x
        keep = jax.random.bernoulli(jax.random.fold_in(self.key, layer), 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0.0)


@functools.cache
def _projections(dim: int, count: int, seed: int) -> Float[np.ndarray, "{dim} {count}"]:
    """The directions of `fourier_features`, drawn once and not in every program that uses them."""
    with pinned(), jax.ensure_compile_time_eval():
        return np.asarray(jax.random.normal(jax.random.key(seed), (dim, count)))


def fourier_features(
    x: Float[Array, " d"], count: int, scale: float, seed: int = 0
) -> Float[Array, " f"]:
    """x, then cos and sin of `count` random projections 2π b·x, b ~ N(0, scale² I).

    The projections are constants of the program, not parameters. `scale`, in cycles per unit, sets
    how fine a detail the network learns easily, and so how soon it overfits. Source: Tancik et al.
    (2020, arXiv:2006.10739).
    """
    if count == 0:
        return x
    turns = scale * (x @ _projections(x.shape[0], count, seed))
    return jnp.concatenate([x, _sine(jnp.concatenate([turns + 0.25, turns]))])


def time_features(t: Float[Array, ""]) -> Float[Array, " f"]:
    """t, which should be of order one, then cos and sin of t at the angular TIME_FREQUENCIES."""
    turns = t * jnp.asarray(TIME_FREQUENCIES, t.dtype) / (2 * math.pi)
    return jnp.concatenate([t[None], _sine(jnp.concatenate([turns + 0.25, turns]))])


_SINE = np.polynomial.Chebyshev.interpolate(
    lambda u: np.sin(2 * np.pi * np.sqrt(u)) / np.sqrt(u), 6, domain=[0, 0.25]
).convert(kind=np.polynomial.Polynomial)
"""sin(2πt) / t as a polynomial of t², within 4e-9 on |t| ≤ 1/2."""


@jax.custom_jvp
def _sine(turns: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """sin(2πt), within 1e-6, in a tenth of the time of `jnp.sin`, which is not vectorised."""
    t = turns - jnp.round(turns)
    return t * jnp.polyval(jnp.asarray(_SINE.coef[::-1], t.dtype), t**2)


@_sine.defjvp
def _slope_of_sine(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (turns,), (change,) = primals, tangents
    return _sine(turns), 2 * math.pi * _sine(turns + 0.25) * change


def parameter_count(tree: object) -> int:
    """The number of entries of all arrays of a pytree."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))
