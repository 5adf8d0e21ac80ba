r"""Denoising score matching (Vincent, 2011; Song & Ermon, 2019; Karras et al., 2022).

Add Gaussian noise to the data, x = x₀ + σ n with n ~ N(0, I). The law of x at noise level σ, p_σ,
has a score that a denoiser knows (Robbins, 1956; Vincent, 2011):

    ∇ log p_σ(x) = (D(x, σ) − x) / σ²,     D(x, σ) = E[x₀ | x].

So a network D is trained by least squares to give back x₀, at all noise levels at once. With unit
variance data a well-conditioned network F is one step away (Karras et al., 2022):

    D(x, σ) = cos²τ · x + sin τ · F(u, τ),    tan τ = σ,   u = x cos τ = x₀ cos τ + n sin τ,

which makes F's target, x₀ sin τ − n cos τ, of unit variance at every σ, the loss ‖F − target‖² the
denoising loss with weight (1 + σ²)/σ², and the probability-flow ODE (Song et al., 2021) simply

    du/dτ = −F(u, τ).

Run from τ(σ_max), where u ~ N(0, I), down to τ(σ_min), it draws samples; run upwards it gives
log q(u(τ_min)) = log N(u(τ_max)) − ∫ div F dτ. Its law is that of data with noise σ_min.

An error ΔF costs ∫ cos²τ ‖ΔF‖² d log σ nats or less if noise is added on the way down (Song, Durkan
et al., 2021), which speaks for noise levels evenly in log σ. The ODE adds none that would wash out
errors made at larger noise, which speaks for larger noise. So levels are drawn half-way between
evenly in log σ and evenly in τ: with density √(dτ / d log σ) = √(sin τ cos τ) in log σ.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.blocks import denoising, odes
from densitometer.blocks.denoising import posterior_mean, stratified_uniforms
from densitometer.blocks.nets import Dropout, FeatureMLP
from densitometer.blocks.optim import Optimiser, adam, average, descend
from densitometer.domains import (
    Count,
    CountOrZero,
    Depth,
    Features,
    Noise,
    Positive,
    PositiveOrZero,
    Share,
    ShareOrZero,
    Steps,
)
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasDensity, HasPath, HasScore, Model, Standardiser

ODE_STEP = 0.55
"""Length in log σ of the probability-flow ODE's steps (at most). Its velocity is equally smooth at
all noise levels, so a trained model's log-densities are off by 6e-4 nats (rms), their mean by 9e-5,
with steps of this length, 10 by default."""

SAMPLE_STEP = 0.7
"""The same for sampling: 8 steps, and each sample within 0.001 of its place (rms, standardised
units)."""

LANGEVIN_LEVELS, LANGEVIN_STEPS = 60, 20
"""Noise levels of annealed Langevin dynamics, and steps at each."""


class Denoiser(eqx.Module):
    """F(u, τ), and what follows from it: a denoiser and a score at every noise level."""

    @abc.abstractmethod
    def __call__(
        self, u: Float[Array, " d"], log_sigma: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """F(u, τ) at log σ = log tan τ, the coordinate in which noise levels are evenly spread."""

    def denoise(self, x: Float[Array, " d"], log_sigma: Float[Array, ""]) -> Float[Array, " d"]:
        """D(x, σ) = E[x₀ | x]."""
        tau = jnp.arctan(jnp.exp(log_sigma))
        u = x * jnp.cos(tau)
        return jnp.cos(tau) * u + jnp.sin(tau) * self(u, log_sigma)

    def score(self, x: Float[Array, " d"], log_sigma: Float[Array, ""]) -> Float[Array, " d"]:
        """∇ log p_σ(x) = (D(x, σ) − x) / σ²."""
        return (self.denoise(x, log_sigma) - x) * jnp.exp(-2 * log_sigma)

    def velocity(self, u: Float[Array, " d"], log_sigma: Float[Array, ""]) -> Float[Array, " d"]:
        """du / d log σ = −F(u, τ) · dτ / d log σ = −F(u, τ) · sin τ cos τ."""
        tau = jnp.arctan(jnp.exp(log_sigma))
        return -self(u, log_sigma) * (jnp.sin(tau) * jnp.cos(tau))


class NetworkDenoiser(Denoiser):
    """F by a multilayer perceptron on Fourier features of the point and of the noise level."""

    mlp: FeatureMLP

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "DSM"):
        self.mlp = FeatureMLP(
            key,
            dim,
            dim,
            width=family.width,
            depth=family.depth,
            count=family.fourier_count,
            scale=family.fourier_scale,
            timed=True,
            last_gain=0.1,
        )

    def __call__(
        self, u: Float[Array, " d"], log_sigma: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """F(u, τ)."""
        return self.mlp(u, drop, log_sigma / 4)


class DiffusionModel(HasDensity, HasScore, HasPath):
    """The law of the denoiser's probability-flow ODE at noise σ_min."""

    standardiser: Standardiser
    denoiser: Denoiser
    log_sigma_min: float = eqx.field(static=True)
    log_sigma_max: float = eqx.field(static=True)
    sampler: str = eqx.field(static=True)

    density_provenance: ClassVar[str] = f"ode(step={ODE_STEP})"

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._path(key, frames=2)[-1]

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        if self.sampler == "langevin":
            levels = max(frames, LANGEVIN_LEVELS)
            start_key, key = jax.random.split(key)
            start = math.exp(self.log_sigma_max) * jax.random.normal(start_key, (self.dim,))
            log_sigmas = jnp.linspace(self.log_sigma_max, self.log_sigma_min, levels)
            path = annealed_langevin(key, self.denoiser, start, log_sigmas, LANGEVIN_STEPS)
            return path[jnp.linspace(0, levels - 1, frames).astype(int)]
        times = jnp.linspace(self.log_sigma_max, self.log_sigma_min, frames)
        start = jax.random.normal(key, (self.dim,))
        u = odes.trajectory(
            self.denoiser.velocity,
            start,
            self.log_sigma_max,
            self.log_sigma_min,
            frames=frames,
            steps=self._steps(SAMPLE_STEP),
        )
        return u / jnp.cos(jnp.arctan(jnp.exp(times)))[:, None]

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        cos = 1 / math.hypot(1, math.exp(self.log_sigma_min))
        velocity = self.denoiser.velocity
        low, high, steps = self.log_sigma_min, self.log_sigma_max, self._steps(ODE_STEP)
        flow = odes.flow(velocity, z * cos, low, high, steps=steps)
        return log_normal(flow.end) + flow.log_det + self.dim * math.log(cos)

    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.denoiser.score(z, jnp.asarray(self.log_sigma_min))

    def _steps(self, length: float) -> int:
        return math.ceil((self.log_sigma_max - self.log_sigma_min) / length)


class LangevinModel(HasScore):
    """A score at one noise level, sampled by Langevin dynamics that start at N(0, I)."""

    standardiser: Standardiser
    denoiser: Denoiser
    log_sigma: float = eqx.field(static=True)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        start_key, key = jax.random.split(key)
        start = jax.random.normal(start_key, (self.dim,))
        log_sigmas = jnp.full(1, self.log_sigma)
        return annealed_langevin(key, self.denoiser, start, log_sigmas, steps=1000)[-1]

    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.denoiser.score(z, jnp.asarray(self.log_sigma))


def annealed_langevin(
    key: Key[Scalar, ""],
    denoiser: Denoiser,
    start: Float[Array, " d"],
    log_sigmas: Float[Array, " levels"],
    steps: int,
) -> Float[Array, "levels d"]:
    """Langevin dynamics at one noise level after another (Song & Ermon, 2019).

    At each level `steps` steps x ← x + ε s(x, σ) + √(2ε) n with ε = σ²/10: small enough that the
    error of the discretisation is a few per cent of the noise's variance. Returns the state after
    each level.
    """

    def level(x: Array, item: tuple[Array, Array]) -> tuple[Array, Array]:
        log_sigma, level_key = item
        epsilon = 0.1 * jnp.exp(2 * log_sigma)

        def move(x: Array, k: Array) -> tuple[Array, None]:
            noise = jnp.sqrt(2 * epsilon) * jax.random.normal(k, x.shape)
            return x + epsilon * denoiser.score(x, log_sigma) + noise, None

        x, _ = jax.lax.scan(move, x, jax.random.split(level_key, steps))
        return x, x

    return jax.lax.scan(level, start, (log_sigmas, jax.random.split(key, len(log_sigmas))))[1]


class DSMState(eqx.Module):
    """Parameters, their average, and the optimiser's moments."""

    network: NetworkDenoiser
    averaged: NetworkDenoiser
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class DSM(Family[DSMState]):
    """Denoising score matching: a denoiser at every noise level, which is a score and a sampler."""

    name: ClassVar[str] = "dsm"
    label: ClassVar[str] = "DSM"
    colour: ClassVar[int | None] = 2
    papers: ClassVar[tuple[str, ...]] = ("vincent2011", "song2019", "karras2022", "xu2023")
    path_caption: ClassVar[str] = (
        "The noise level falls from its largest to its smallest, in equal steps of its logarithm: "
        "the generative process from noise to data."
    )

    steps: Steps = 2_000
    """Gradient steps at the standard budget."""
    batch_size: Count = 256
    """Points a step; each gets its own noise and noise level."""
    posterior_points: CountOrZero = 2048
    """Points that a noisy one may have come from: a step fits their mean, given x. 0 for the x₀
    that was blurred, as in the textbooks."""
    learning_rate: Positive = 1e-2
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    dropout: ShareOrZero = 0.0
    """Share of hidden units dropped in training."""
    ema: Share = 0.1
    """Window of the parameter average that samples and scores, as a share of the steps."""
    width: Count = 128
    """Units a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.1
    """Their standard frequency, in cycles per standardised unit: finer detail, earlier overfit."""
    sigma_min: Noise = 0.03
    """Smallest noise level, in standardised units; the model's law is the data's at this noise."""
    sigma_max: Noise = 5.0
    """Largest noise level; there the data are a Gaussian to within 1e-4 nats."""
    sigma: Noise | None = None
    """A single noise level (e.g. 0.1): the classic form, sampled by Langevin, without a density."""
    sampler: Literal["ode", "langevin"] = "ode"
    """Deterministic probability-flow ODE, or annealed Langevin dynamics."""

    def conflicts(self) -> Iterator[str]:
        """Noise levels in the wrong order, too little noise, or too few points for a mean."""
        if self.sigma_min >= self.sigma_max:
            yield f"sigma_min must be below sigma_max = {self.sigma_max}, not {self.sigma_min}"
        least = "sigma_min" if self.sigma is None else "sigma"
        noise = getattr(self, least)
        yield from denoising.conflicts(self.posterior_points, self.batch_size, least, noise)

    @property
    def points_per_step(self) -> int:
        """Points that a step is given: its targets are means over `posterior_points` of them."""
        return max(self.batch_size, self.posterior_points)

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> DSMState:
        """A fresh denoiser."""
        network = NetworkDenoiser(key, data.shape[1], self)
        return DSMState(network, network, self._optimiser().init(network))

    def step(
        self, key: Key[Scalar, ""], state: DSMState, batch: Float[Array, "b d"]
    ) -> tuple[DSMState, Info]:
        """One Adam step on the denoising loss."""
        key, drop_key = jax.random.split(key)
        x0, points = batch[: self.batch_size], batch if self.posterior_points else None
        drop = jax.vmap(lambda k: Dropout(self.dropout, k))(jax.random.split(drop_key, len(x0)))
        loss, gradient = jax.value_and_grad(self._denoising_loss)(
            state.network, key, x0, points, drop
        )
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        return DSMState(network, averaged, optimiser), {"loss": loss}

    def loss(self, key: Key[Scalar, ""], state: DSMState, batch: Float[Array, "b d"]) -> Scalar:
        """The denoising loss of the averaged parameters."""
        return self._denoising_loss(state.averaged, key, batch)

    def model(self, state: DSMState) -> Model:
        """The law at noise σ_min; in the single-noise mode, the law at that noise."""
        identity = Standardiser.identity(state.averaged.mlp.biases[-1].shape[0])
        if self.sigma is not None:
            return LangevinModel(identity, state.averaged, math.log(self.sigma))
        return DiffusionModel(
            identity,
            state.averaged,
            math.log(self.sigma_min),
            math.log(self.sigma_max),
            self.sampler,
        )

    def _denoising_loss(
        self,
        network: Denoiser,
        key: Key[Scalar, ""],
        x0: Float[Array, "b d"],
        points: Float[Array, "n d"] | None = None,
        drop: Dropout | None = None,
    ) -> Scalar:
        """E ‖F(u, τ) − (x₀ sin τ − n cos τ)‖² / d over the noise levels.

        With `points`, the mean of x₀ over them, given u, stands for x₀: see `posterior_mean`. The
        loss is then less by the variance of what it is the mean of, and its gradient the same but
        for chance.
        """
        level_key, noise_key = jax.random.split(key)
        log_sigma = self._noise_levels(level_key, len(x0))
        tau = jnp.arctan(jnp.exp(log_sigma))
        cos, sin = jnp.cos(tau), jnp.sin(tau)
        u = cos[:, None] * x0 + sin[:, None] * jax.random.normal(noise_key, x0.shape)
        if points is not None:
            x0 = jax.vmap(posterior_mean, (0, 0, 0, None))(u, cos, sin, points)
        target = (x0 - cos[:, None] * u) / sin[:, None]
        output = jax.vmap(network, in_axes=(0, 0, None if drop is None else 0))(u, log_sigma, drop)
        return jnp.mean((output - target) ** 2)

    def _noise_levels(self, key: Key[Scalar, ""], n: int) -> Float[Array, " n"]:
        """log σ with density ∝ √(sin τ cos τ), at stratified quantiles."""
        if self.sigma is not None:
            return jnp.full(n, math.log(self.sigma))
        levels = np.linspace(math.log(self.sigma_min), math.log(self.sigma_max), 1001)
        density = np.cosh(levels) ** -0.5  # sin τ cos τ = 1 / (2 cosh log σ)
        quantiles = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
        table = jnp.asarray(quantiles / quantiles[-1], jnp.float32)
        return jnp.interp(stratified_uniforms(key, n), table, jnp.asarray(levels, jnp.float32))

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
