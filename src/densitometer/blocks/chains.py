r"""Diffusion chains: the cosine schedule, and walks from noise back to data.

T steps turn data into noise. Where t steps lead is known at once,

    x_t = cos τ_t · x₀ + sin τ_t · ε,     ε ~ N(0, I),     ᾱ_t = cos² τ_t,     σ_t = tan τ_t,

with angles τ_1 < … < τ_T evenly spaced from s to π/2 − s: the schedule of Nichol & Dhariwal (2021,
arXiv:2102.09672), whose offset s is here at both ends, so that nothing needs clipping.

A walk back asks a predictor of the noise, ε̂(x_t, τ_t), at falling angles. Each of its steps is

    x' = a x̂₀ + b ε̂ + c n,     x̂₀ = (x − sin τ ε̂) / cos τ,     n ~ N(0, I).
"""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks.denoising import stratified_uniforms

Predictor = Callable[[Float[Array, " d"], Float[Array, ""]], Float[Array, " d"]]
"""ε̂(x, τ) = E[ε | x = cos τ x₀ + sin τ ε]."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The cosine schedule. Its arrays have an entry for each of the steps t = 1 … T."""

    timesteps: int
    """T, the number of steps."""
    offset: float
    """s, the smallest angle in radians; σ runs from tan s to 1 / tan s."""

    @functools.cached_property
    def angles(self) -> np.ndarray:
        """τ_t, in radians."""
        return np.linspace(self.offset, math.pi / 2 - self.offset, self.timesteps)

    @functools.cached_property
    def sigmas(self) -> np.ndarray:
        """σ_t = tan τ_t, the size of the noise beside the data."""
        return np.tan(self.angles)

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """w_t = β_t / (2 α_t (1 − ᾱ_t)), the weight of ‖ε − ε̂‖² in the variational bound.

        With α_t = ᾱ_t / ᾱ_{t−1}, β_t = 1 − α_t and ᾱ_0 = 1 (Ho et al., 2020, arXiv:2006.11239).
        """
        alpha_bar = np.cos(np.append(0.0, self.angles)) ** 2
        return (alpha_bar[:-1] / alpha_bar[1:] - 1) / (2 * np.sin(self.angles) ** 2)

    @functools.cached_property
    def constant(self) -> float:
        """The part of the negative bound that does not depend on the prediction, nats an axis.

        For t ≥ 2 it is (r − 1 − log r) / 2, r = (1 − ᾱ_{t−1}) / (1 − ᾱ_t), from two Gaussians whose
        variances are r β_t (of q) and β_t (of the model). The step to the data is a Gaussian
        density and adds log(2πβ_1) / 2.
        """
        noise = np.sin(self.angles) ** 2
        r = noise[:-1] / noise[1:]
        return 0.5 * float(np.sum(r - 1 - np.log(r)) + math.log(2 * math.pi * noise[0]))

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """p_t ∝ w_t cos² τ_t: the expected share of each step in the bound."""
        size = self.weights * np.cos(self.angles) ** 2
        return size / size.sum()

    @functools.cached_property
    def flow_probabilities(self) -> np.ndarray:
        """p_t ∝ √(sin τ_t cos τ_t) d log σ / dτ = 1 / √(sin τ_t cos τ_t)."""
        size = 1 / np.sqrt(np.sin(self.angles) * np.cos(self.angles))
        return size / size.sum()

    def draw(self, key: Key[Scalar, ""], n: int, probabilities: np.ndarray) -> Int[Array, " n"]:
        """`n` indices t − 1 with the given probabilities, by stratified sampling."""
        quantiles = jnp.asarray(np.cumsum(probabilities), jnp.float32)
        indices = jnp.searchsorted(quantiles, stratified_uniforms(key, n))
        return jnp.minimum(indices, self.timesteps - 1)

    def walk(self, steps: int) -> np.ndarray:
        """Indices of at most `steps` of the T steps, from the last to the first.

        As evenly spaced in log σ as whole steps allow; all of them if ``steps`` ≥ T.
        """
        n = min(steps, self.timesteps)
        levels = np.log(self.sigmas)
        wanted = np.searchsorted(levels, np.linspace(levels[0], levels[-1], n) - 1e-9)
        order = np.arange(n)
        apart = np.maximum.accumulate(wanted - order) + order
        return np.minimum(apart, self.timesteps - n + order)[::-1]


def ancestral(
    key: Key[Scalar, ""],
    predictor: Predictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
) -> Float[Array, "steps d"]:
    """The reversed chain over falling `angles`, down to the data: its state after each step.

    From angle τ to the next, τ', with β = 1 − cos² τ / cos² τ', the step is

        x' = cos τ' x̂₀ + sin τ' √(1 − β / sin² τ) ε̂ + √β n.

    Source: Ho et al. (2020, arXiv:2006.11239), for the variance β.
    """
    after = np.append(angles[1:], 0.0)
    beta = 1 - (np.cos(angles) / np.cos(after)) ** 2
    # At the last step the root is of 0, which rounding can make negative.
    shares = np.sin(after) * np.sqrt(np.maximum(1 - beta / np.sin(angles) ** 2, 0.0))
    return _walk(key, predictor, start, angles, np.cos(after), shares, np.sqrt(beta))


def ddim(
    key: Key[Scalar, ""],
    predictor: Predictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
) -> Float[Array, "steps d"]:
    """The walk without noise over falling `angles`: its state after each step.

    x' = cos τ' x̂₀ + sin τ' ε̂. The last step leads from the smallest angle to x₁ / cos τ₁, which
    has the distribution of the data with noise σ₁. Source: Song, Meng & Ermon (2021,
    arXiv:2010.02502).
    """
    cos = np.append(np.cos(angles[1:]), 1.0)
    shares = np.append(np.sin(angles[1:]), math.tan(angles[-1]))
    return _walk(key, predictor, start, angles, cos, shares, np.zeros(len(angles)))


def _walk(
    key: Key[Scalar, ""],
    predictor: Predictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
    data_shares: np.ndarray,
    noise_shares: np.ndarray,
    fresh_noises: np.ndarray,
) -> Float[Array, "steps d"]:
    """The state after each step x' = a x̂₀ + b ε̂ + c n, whose coefficients are the shares given."""

    def step(x: Array, item: tuple[Array, ...]) -> tuple[Array, Array]:
        angle, a, b, c, k = item
        noise = predictor(x, angle)
        data = (x - jnp.sin(angle) * noise) / jnp.cos(angle)
        x = a * data + b * noise + c * jax.random.normal(k, x.shape)
        return x, x

    tables = [
        jnp.asarray(table, jnp.float32)
        for table in (angles, data_shares, noise_shares, fresh_noises)
    ]
    return jax.lax.scan(step, start, (*tables, jax.random.split(key, len(angles))))[1]
