r"""Denoising diffusion probabilistic model, with its variational bound and probability-flow ODE.

A chain of T small steps turns data into noise (Sohl-Dickstein et al., 2015, arXiv:1503.03585; Ho et
al., 2020, arXiv:2006.11239). Where t steps lead is known at once,

    x_t = cos τ_t · x₀ + sin τ_t · ε,     ε ~ N(0, I),     ᾱ_t = cos² τ_t,     σ_t = tan τ_t,

with the angles of a cosine schedule (`blocks.chains`). A network predicts the noise, ε̂(x_t, t),
and with it the data, x̂₀ = (x_t − sin τ_t ε̂) / cos τ_t. The chain is walked back by putting x̂₀
for x₀ in the mean of the Gaussian q(x_{t−1} | x_t, x₀), with the variance β_t = 1 − ᾱ_t / ᾱ_{t−1}
(ᾱ_0 = 1), which is exact for Gaussian data of unit variance and, at small noise, for all smooth
densities. So it has a variational bound without unknowns:

    log q(x₀) ≥ − KL(q(x_T | x₀) ‖ N(0, I)) − Σ_t w_t E ‖ε − ε̂(x_t, t)‖² − constants,

    w_t = β_t / (2 α_t (1 − ᾱ_t)),     α_t = 1 − β_t     (Ho et al., 2020).

These weights are flat in log σ. The density, however, is that of the flow below, which has no noise
to wash out an error made earlier, at larger noise. So there are three ways to draw t:

    "flow": with density √(sin τ cos τ) in log σ, half-way between uniform in log σ and in τ;
    "bound": p_t ∝ w_t cos² τ_t, importance sampling (Nichol & Dhariwal, 2021, arXiv:2102.09672);
    "simple": uniformly in t (Ho et al., 2020).

The first two divide a squared error by its expected size, cos² τ_t: where τ_t is large, nearly all
of x_t is noise and the noise is easily predicted. With "bound" this makes the loss the bound
itself.

The network is G in

    ε̂(x, t) = sin τ_t · x + cos τ_t · G(x, τ_t),

whose first term is the best prediction for Gaussian data of unit variance. The textbook's network
is ε̂ itself. G predicts v = cos τ ε − sin τ x₀ (Salimans & Ho, 2022, arXiv:2202.00512), and in the
notation of Karras et al. (2022, arXiv:2206.00364), with σ_data = 1 and y = x_t / cos τ_t for their
noisy point,

    x̂₀ = c_skip y + c_out G(c_in y; c_noise),        loss = E λ ‖x̂₀ − x₀‖²,

    c_skip = cos² τ,   c_out = −sin τ,   c_in = cos τ,   c_noise = ¼ log σ,   λ = 1 / sin² τ,

for the two weightings that divide by cos² τ ("simple" has λ = 1 / tan² τ). G is also the velocity
dx/dτ of the probability-flow ODE (Song et al., 2021, arXiv:2011.13456), to which DDIM's walk
without noise (Song, Meng & Ermon, 2021, arXiv:2010.02502) converges as its steps become many. Along
log σ it reads dx / d log σ = sin τ (ε̂ − sin τ x), equally smooth at all noise levels. Run from x₁
up to x_T it gives a density: that of the data with noise σ₁.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks import denoising, odes
from densitometer.blocks.chains import Schedule, ancestral, ddim
from densitometer.blocks.denoising import posterior_mean
from densitometer.blocks.nets import Dropout, FeatureMLP
from densitometer.blocks.optim import Optimiser, adam, average, descend
from densitometer.domains import (
    Count,
    CountOrZero,
    Depth,
    Features,
    Positive,
    PositiveOrZero,
    Range,
    Share,
    ShareOrZero,
    Steps,
)
from densitometer.estimates import Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasBound, HasDensity, HasPath, HasScore, Standardiser

ODE_STEP = 0.6
"""Longest step of the probability-flow ODE behind a density, in log σ: 13 steps by default. The
log-densities of a trained model are off by 7e-4 nats (rms), their mean by 1e-4."""

SAMPLE_STEP = 0.7
"""The same for sampling: 11 steps, samples are off by 0.002 (rms, standardised units)."""


class NoisePredictor(eqx.Module):
    """ε̂(x, τ), with the denoiser and the velocity that follow from it."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " d"], angle: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """E[ε | x = cos τ x₀ + sin τ ε] for one point x of shape (d,)."""

    def denoise(self, x: Float[Array, " d"], angle: Float[Array, ""]) -> Float[Array, " d"]:
        """x̂₀ = E[x₀ | x]."""
        return (x - jnp.sin(angle) * self(x, angle)) / jnp.cos(angle)

    def velocity(self, x: Float[Array, " d"], log_sigma: Float[Array, ""]) -> Float[Array, " d"]:
        """dx / d log σ of the probability-flow ODE."""
        angle = jnp.arctan(jnp.exp(log_sigma))
        return jnp.sin(angle) * (self(x, angle) - jnp.sin(angle) * x)


class NetworkPredictor(NoisePredictor):
    """ε̂ = sin τ x + cos τ G, with G a multilayer perceptron on features of x and of log σ."""

    mlp: FeatureMLP

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "DDPM"):
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
        self, x: Float[Array, " d"], angle: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """ε̂(x, τ)."""
        free = self.mlp(x, drop, jnp.log(jnp.tan(angle)) / 4)
        return jnp.sin(angle) * x + jnp.cos(angle) * free


class PosteriorPredictor(NoisePredictor):
    """The posterior mean of ε for x₀ uniform on `points`: the best prediction that knows them."""

    points: Float[Array, "n d"]

    def __call__(
        self, x: Float[Array, " d"], angle: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """ε̂(x, τ)."""
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        return (x - cos * posterior_mean(x, cos, sin, self.points)) / sin


class DDPMModel(HasDensity, HasBound, HasScore, HasPath):
    """The chain and the flow of a predictor, which learn the data with noise σ₁.

    The density is the flow's, the bound is the chain's. They agree as far as the predictor is
    exact.
    """

    standardiser: Standardiser
    predictor: NoisePredictor
    schedule: Schedule = eqx.field(static=True)
    sampler: str = eqx.field(static=True)
    sample_steps: int = eqx.field(static=True)

    density_provenance: ClassVar[Provenance] = Provenance.of("ode", step=ODE_STEP)
    bound_tightens: ClassVar[bool] = False

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._path(key, frames=2)[-1]

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        start_key, key = jax.random.split(key)
        start = jax.random.normal(start_key, (self.dim,))
        if self.sampler == "flow":
            high, low = math.log(self.schedule.sigmas[-1]), math.log(self.schedule.sigmas[0])
            steps = math.ceil((high - low) / SAMPLE_STEP)
            velocity = self.predictor.velocity
            states = odes.trajectory(velocity, start, high, low, frames=frames, steps=steps)
            return states.at[-1].divide(math.cos(self.schedule.angles[0]))
        angles = self.schedule.angles[self.schedule.walk(max(self.sample_steps, frames - 1))]
        walk = ancestral if self.sampler == "ancestral" else ddim
        states = jnp.concatenate([start[None], walk(key, self.predictor, start, angles)])
        return states[np.linspace(0, len(states) - 1, frames).astype(int)]

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        cos = math.cos(self.schedule.angles[0])
        low, high = math.log(self.schedule.sigmas[0]), math.log(self.schedule.sigmas[-1])
        steps = math.ceil((high - low) / ODE_STEP)
        flow = odes.flow(self.predictor.velocity, z * cos, low, high, steps=steps)
        return log_normal(flow.end) + flow.log_det + self.dim * math.log(cos)

    def _log_prob_bound(
        self, key: Key[Scalar, ""], z: Float[Array, " d"], k: int
    ) -> Float[Array, ""]:
        """The bound from `k` of its T terms, drawn by p_t: more make it less noisy, not tighter."""
        step_key, noise_key = jax.random.split(key)
        indices = self.schedule.draw(step_key, k, self.schedule.probabilities)
        noises = jax.random.normal(noise_key, (k, self.dim))
        terms = jax.vmap(lambda i, n: bound_term(self.predictor, self.schedule, z, i, n))
        chances = jnp.asarray(self.schedule.probabilities, jnp.float32)[indices]
        return bound_rest(self.schedule, z) - jnp.mean(terms(indices, noises) / chances)

    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        angle = jnp.asarray(self.schedule.angles[0], jnp.float32)
        return -self.predictor(z * jnp.cos(angle), angle) / jnp.tan(angle)


def bound_term(
    predictor: NoisePredictor,
    schedule: Schedule,
    x0: Float[Array, " d"],
    index: Int[Array, ""],
    noise: Float[Array, " d"],
) -> Float[Array, ""]:
    """w_t ‖ε − ε̂(x_t, t)‖², nats, for the step t = `index` + 1 and one noise."""
    angle = jnp.asarray(schedule.angles, jnp.float32)[index]
    weight = jnp.asarray(schedule.weights, jnp.float32)[index]
    x = jnp.cos(angle) * x0 + jnp.sin(angle) * noise
    return weight * jnp.sum((noise - predictor(x, angle)) ** 2)


def bound_rest(schedule: Schedule, x0: Float[Array, " d"]) -> Float[Array, ""]:
    """The bound without its sum, nats: −KL(q(x_T | x₀) ‖ N(0, I)) − constants."""
    cos, sin = math.cos(schedule.angles[-1]), math.sin(schedule.angles[-1])
    prior = 0.5 * cos**2 * jnp.sum(x0**2) + 0.5 * len(x0) * (sin**2 - 1 - math.log(sin**2))
    return -prior - len(x0) * schedule.constant


class DDPMState(eqx.Module):
    """What the next step needs."""

    network: NetworkPredictor
    averaged: NetworkPredictor
    """The moving average of the network's parameters, of which the model is made."""
    optimiser: optax.OptState


class DDPMInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The loss of the predicted noise, with the targets that the step regresses on."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(Family[DDPMState]):
    """Denoising diffusion: a chain of small steps from noise to data, made of predicted noise."""

    name: ClassVar[str] = "ddpm"
    label: ClassVar[str] = "DDPM"
    colour: ClassVar[int | None] = 4
    papers: ClassVar[tuple[str, ...]] = ("sohldickstein2015", "ho2020", "song2021", "xu2023")
    path_caption: ClassVar[str] = (
        "The noise level falls from its largest to its smallest: the generative process from noise "
        "to data."
    )

    steps: Steps = 2_000
    """Gradient steps at the standard budget."""
    batch_size: Count = 256
    """Points a step; each has its own noise and t."""
    posterior_points: CountOrZero = 2048
    """Training points behind a regression target, which is the posterior mean of ε over them. 0 for
    the ε that was added, as in the textbooks."""
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
    timesteps: Annotated[int, Range(at_least=2, at_most=65_536)] = 1000
    """Number of steps of the chain, T."""
    offset: Annotated[float, Range(at_least=1e-4, at_most=0.78)] = 0.025
    """Smallest angle of the cosine schedule, about the smallest noise level in standardised units;
    the model learns the data with this noise. The largest noise level is its inverse."""
    weighting: Literal["flow", "bound", "simple"] = "flow"
    """Noise levels in training: best for the flow, best for the bound, or uniform in t (Ho et al.,
    2020)."""
    sampler: Literal["flow", "ddim", "ancestral"] = "flow"
    """Accurate probability-flow ODE, DDIM's walk along it, or the chain with its noise."""
    sample_steps: Annotated[int, Range(at_least=2, at_most=65_536)] = 100
    """Steps, of the T, that DDIM and the chain visit."""

    def conflicts(self) -> Iterator[str]:
        """More steps to visit than there are, too little noise, or too few points for a mean."""
        if self.sampler != "flow" and self.sample_steps > self.timesteps:
            most = f"timesteps = {self.timesteps}"
            yield f"sample_steps must be at most {most}, not {self.sample_steps}"
        points = self.posterior_points
        yield from denoising.conflicts(points, self.batch_size, "offset", self.offset)

    @property
    def points_per_step(self) -> int:
        """The larger of `batch_size` and `posterior_points`, over which targets are means."""
        return max(self.batch_size, self.posterior_points)

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> DDPMState:
        """A predictor with initial parameters."""
        network = NetworkPredictor(key, data.shape[1], self)
        return DDPMState(network, network, self._optimiser().init(network))

    def step(
        self, key: Key[Scalar, ""], state: DDPMState, batch: Float[Array, "b d"]
    ) -> tuple[DDPMState, DDPMInfo]:
        """One Adam step on the loss of the predicted noise."""
        key, drop_key = jax.random.split(key)
        x0, points = batch[: self.batch_size], batch if self.posterior_points else None
        loss, gradient = jax.value_and_grad(self._noise_loss)(
            state.network, key, x0, points, drop_key
        )
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        return DDPMState(network, averaged, optimiser), DDPMInfo(loss)

    def loss(self, key: Key[Scalar, ""], state: DDPMState, batch: Float[Array, "b d"]) -> Scalar:
        """The loss of the averaged parameters, with the textbook's targets."""
        return self._noise_loss(state.averaged, key, batch)

    def least_loss(
        self, key: Key[Scalar, ""], batch: Float[Array, "b d"], candidates: Float[Array, "n d"]
    ) -> Scalar:
        """That of the posterior mean over the candidates."""
        return self._noise_loss(PosteriorPredictor(candidates), key, batch)

    def model(self, state: DDPMState) -> DDPMModel:
        """The chain and the flow of the averaged predictor."""
        identity = Standardiser.identity(state.averaged.mlp.biases[-1].shape[0])
        schedule = Schedule(self.timesteps, self.offset)
        return DDPMModel(identity, state.averaged, schedule, self.sampler, self.sample_steps)

    def _noise_loss(
        self,
        network: NoisePredictor,
        key: Key[Scalar, ""],
        x0: Float[Array, "b d"],
        points: Float[Array, "n d"] | None = None,
        drop_key: Key[Scalar, ""] | None = None,
    ) -> Scalar:
        """E ‖ε − ε̂(x_t, t)‖² / d, divided by cos² τ_t unless the weighting is "simple".

        With `points`, the posterior mean of ε takes the place of ε, for x₀ one of them
        (`posterior_mean`). The loss is then lower by the posterior variance of the target, and its
        gradient has the same expectation.
        """
        step_key, noise_key = jax.random.split(key)
        schedule = Schedule(self.timesteps, self.offset)
        probabilities = {
            "flow": schedule.flow_probabilities,
            "bound": schedule.probabilities,
            "simple": np.full(self.timesteps, 1 / self.timesteps),
        }[self.weighting]
        indices = schedule.draw(step_key, len(x0), probabilities)
        angle = jnp.asarray(schedule.angles, jnp.float32)[indices]
        cos, sin = jnp.cos(angle), jnp.sin(angle)
        noise = jax.random.normal(noise_key, x0.shape)
        x = cos[:, None] * x0 + sin[:, None] * noise
        if points is not None:
            x0 = jax.vmap(posterior_mean, (0, 0, 0, None))(x, cos, sin, points)
            noise = (x - cos[:, None] * x0) / sin[:, None]
        if drop_key is None:
            predicted = jax.vmap(network)(x, angle)
        else:
            drop = jax.vmap(lambda k: Dropout(self.dropout, k))(jax.random.split(drop_key, len(x)))
            predicted = jax.vmap(network)(x, angle, drop)
        weight = jnp.ones_like(angle) if self.weighting == "simple" else 1 / cos**2
        return jnp.mean(weight[:, None] * (noise - predicted) ** 2)

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
