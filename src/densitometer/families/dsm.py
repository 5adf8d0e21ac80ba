r"""Denoising score matching at all noise levels, with its probability-flow ODE.

Add Gaussian noise to the data, x = x₀ + σ n with n ~ N(0, I). The distribution of x at noise level
σ, p_σ, has a score that follows from the best denoiser by least squares (Robbins, 1956; Vincent,
2011, doi:10.1162/NECO_a_00142):

    ∇ log p_σ(x) = (D(x, σ) − x) / σ²,     D(x, σ) = E[x₀ | x].

So a denoiser D is trained to give x₀ back, at all noise levels at once (Song & Ermon, 2019,
arXiv:1907.05600). The network is F in

    D(x, σ) = cos² τ · x + sin τ · F(u, τ),    tan τ = σ,   u = x cos τ = x₀ cos τ + n sin τ,

whose target, x₀ sin τ − n cos τ, has unit variance at every σ if the data have. This is the
preconditioning of Karras et al. (2022, arXiv:2206.00364) with σ_data = 1. In their notation,

    D(x, σ) = c_skip x + c_out F(c_in x; c_noise),        loss = E λ ‖D − x₀‖²,

    c_skip = cos² τ,   c_out = sin τ,   c_in = cos τ,   c_noise = ¼ log σ,   λ = 1 / sin² τ,

so that the loss is ‖F − target‖². The negative of F is the v of Salimans & Ho (2022,
arXiv:2202.00512), for √ᾱ = cos τ. The probability-flow ODE (Song et al., 2021, arXiv:2011.13456) is

    du/dτ = −F(u, τ).

From τ(σ_max), where u ~ N(0, I), down to τ(σ_min) it draws samples; upwards it gives
log q(u(τ_min)) = log N(u(τ_max)) − ∫ div F dτ. The model's distribution is that of the data with
noise σ_min.

An error ΔF costs at most ∫ cos² τ ‖ΔF‖² d log σ nats if noise is added on the way down (Song,
Durkan et al., 2021, arXiv:2101.09258), which speaks for noise levels uniform in log σ. The ODE adds
no noise that would wash out errors made at larger noise, which speaks for larger noise. So levels
are drawn half-way between uniform in log σ and uniform in τ: with density √(dτ / d log σ) = √(sin τ
cos τ) in log σ. (Karras et al. draw log σ from a Gaussian.)
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
from densitometer.estimates import Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasDensity, HasPath, HasScore, Model, Standardiser

ODE_STEP = 0.55
"""Longest step of the probability-flow ODE behind a density, in log σ: 10 steps by default. The
log-densities of a trained model are off by 6e-4 nats (rms), their mean by 9e-5."""

SAMPLE_STEP = 0.7
"""The same for sampling: 8 steps, samples are off by 0.001 (rms, standardised units)."""

LANGEVIN_LEVELS, LANGEVIN_STEPS = 60, 20
"""Noise levels of annealed Langevin dynamics, and steps at each."""


class Denoiser(eqx.Module):
    """F(u, τ), with the denoiser, the score and the velocity that follow from it."""

    @abc.abstractmethod
    def __call__(
        self, u: Float[Array, " d"], log_sigma: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """F(u, τ) at log σ = log tan τ, for one point u of shape (d,)."""

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


class PosteriorDenoiser(Denoiser):
    """The posterior mean of x₀ uniform on `points`: the best denoiser that knows them."""

    points: Float[Array, "n d"]

    def __call__(
        self, u: Float[Array, " d"], log_sigma: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """F(u, τ)."""
        tau = jnp.arctan(jnp.exp(log_sigma))
        cos, sin = jnp.cos(tau), jnp.sin(tau)
        return (posterior_mean(u, cos, sin, self.points) - cos * u) / sin


class DiffusionModel(HasDensity, HasScore, HasPath):
    """The distribution of the probability-flow ODE at noise σ_min.

    Its score is that of the denoiser, which is the gradient of `log_prob` only as far as F is
    exact.
    """

    standardiser: Standardiser
    denoiser: Denoiser
    log_sigma_min: float = eqx.field(static=True)
    log_sigma_max: float = eqx.field(static=True)
    sampler: str = eqx.field(static=True)

    density_provenance: ClassVar[Provenance] = Provenance.of("ode", step=ODE_STEP)

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
    """Langevin dynamics at one noise level after another (Song & Ermon, 2019, arXiv:1907.05600).

    At each level `steps` steps x ← x + ε s(x, σ) + √(2ε) n with ε = σ²/10: small enough that the
    error of the discretisation is a few per cent of the noise's variance.

    Returns:
        The state after each level.
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
    """What the next step needs."""

    network: NetworkDenoiser
    averaged: NetworkDenoiser
    """The moving average of the network's parameters, of which the model is made."""
    optimiser: optax.OptState


class DSMInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The denoising loss, E ‖F − target‖² / d, with the targets that the step regresses on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DSM(Family[DSMState]):
    """Denoising score matching: a denoiser for all noise levels, which gives scores and a flow."""

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
    """Points a step; each has its own noise and noise level."""
    posterior_points: CountOrZero = 2048
    """Training points behind a regression target, which is the posterior mean of x₀ over them. 0
    for the x₀ that the noise was added to, as in the textbooks."""
    learning_rate: Positive = 1e-2
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    dropout: ShareOrZero = 0.0
    """Share of hidden units dropped in training."""
    ema: Share = 0.1
    """Window of the parameter average, of which the model is made, as a share of the steps."""
    width: Count = 128
    """Units of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.1
    """Standard deviation of the features' frequencies, in cycles per standardised unit: a larger
    one gives finer detail and overfits earlier."""
    sigma_min: Noise = 0.03
    """Smallest noise level, in standardised units; the model learns the data with this noise."""
    sigma_max: Noise = 5.0
    """Largest noise level, at which the noisy data are Gaussian to within 1e-4 nats."""
    sigma: Noise | None = None
    """A single noise level (e.g. 0.1): the classic form, sampled by Langevin dynamics, without a
    density."""
    sampler: Literal["ode", "langevin"] = "ode"
    """Probability-flow ODE, which is deterministic, or annealed Langevin dynamics."""

    def conflicts(self) -> Iterator[str]:
        """Noise levels in the wrong order, too little noise, or too few points for a mean."""
        if self.sigma_min >= self.sigma_max:
            yield f"sigma_min must be below sigma_max = {self.sigma_max}, not {self.sigma_min}"
        least = "sigma_min" if self.sigma is None else "sigma"
        noise = getattr(self, least)
        yield from denoising.conflicts(self.posterior_points, self.batch_size, least, noise)

    @property
    def points_per_step(self) -> int:
        """The larger of `batch_size` and `posterior_points`, over which targets are means."""
        return max(self.batch_size, self.posterior_points)

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> DSMState:
        """A denoiser with initial parameters."""
        network = NetworkDenoiser(key, data.shape[1], self)
        return DSMState(network, network, self._optimiser().init(network))

    def step(
        self, key: Key[Scalar, ""], state: DSMState, batch: Float[Array, "b d"]
    ) -> tuple[DSMState, DSMInfo]:
        """One Adam step on the denoising loss."""
        key, drop_key = jax.random.split(key)
        x0, points = batch[: self.batch_size], batch if self.posterior_points else None
        drop = jax.vmap(lambda k: Dropout(self.dropout, k))(jax.random.split(drop_key, len(x0)))
        loss, gradient = jax.value_and_grad(self._denoising_loss)(
            state.network, key, x0, points, drop
        )
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        return DSMState(network, averaged, optimiser), DSMInfo(loss)

    def loss(self, key: Key[Scalar, ""], state: DSMState, batch: Float[Array, "b d"]) -> Scalar:
        """The denoising loss of the averaged parameters, with the textbook's targets."""
        return self._denoising_loss(state.averaged, key, batch)

    def least_loss(
        self, key: Key[Scalar, ""], batch: Float[Array, "b d"], candidates: Float[Array, "n d"]
    ) -> Scalar:
        """That of the posterior mean over the candidates."""
        return self._denoising_loss(PosteriorDenoiser(candidates), key, batch)

    def model(self, state: DSMState) -> Model:
        """The flow down to noise σ_min; with a single noise level, the score at that level."""
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

        With `points`, the posterior mean of x₀ over them takes the place of x₀ (`posterior_mean`).
        The loss is then lower by the posterior variance of the target, and its gradient has the
        same expectation.
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
        """n values of log σ, of density ∝ √(sin τ cos τ), by stratified sampling."""
        if self.sigma is not None:
            return jnp.full(n, math.log(self.sigma))
        levels = np.linspace(math.log(self.sigma_min), math.log(self.sigma_max), 1001)
        density = np.cosh(levels) ** -0.5  # sin τ cos τ = 1 / (2 cosh log σ)
        quantiles = np.append(0.0, np.cumsum(density[1:] + density[:-1]))
        table = jnp.asarray(quantiles / quantiles[-1], jnp.float32)
        return jnp.interp(stratified_uniforms(key, n), table, jnp.asarray(levels, jnp.float32))

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
