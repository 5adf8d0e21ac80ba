r"""Denoising diffusion probabilistic model (Sohl-Dickstein et al., 2015; Ho et al., 2020).

A chain of T small steps turns data into noise. Where t steps lead is known at once,

    x_t = cos τ_t · x₀ + sin τ_t · ε,     ε ~ N(0, I),     ᾱ_t = cos² τ_t,

with angles τ_1 < … < τ_T evenly spaced from s to π/2 − s: the cosine schedule of Nichol & Dhariwal
(2021), with its offset s at both ends. Beside the data the noise has size σ_t = tan τ_t.

A network tells the noise, ε̂(x_t, t), and with it the data, x̂₀ = (x_t − sin τ_t ε̂) / cos τ_t. The
chain is walked back by putting x̂₀ for x₀ in the mean of the Gaussian q(x_{t−1} | x_t, x₀), with the
variance β_t = 1 − ᾱ_t / ᾱ_{t−1} (ᾱ_0 = 1), which is exact for Gaussian data of unit variance and,
at small noise, for all smooth densities. So it has a variational bound in which all is known:

    log q(x₀) ≥ − KL(q(x_T | x₀) ‖ N(0, I)) − Σ_t w_t E ‖ε − ε̂(x_t, t)‖² − constants,

    w_t = β_t / (2 α_t (1 − ᾱ_t)),     α_t = 1 − β_t     (Ho et al., 2020).

These weights are flat in log σ. The density, however, is that of the flow below, which has no noise
to wash out an error made earlier, at larger noise. So there are three ways to draw t:

    "flow": with density √(sin τ cos τ) in log σ, half-way between even in log σ and even in τ;
    "bound": p_t ∝ w_t cos² τ_t, importance sampling (Nichol & Dhariwal, 2021);
    "simple": evenly in t (Ho et al., 2020).

The first two divide a squared error by the size to be expected of it, cos² τ_t (nearly all of x_t
is noise if τ_t is large, and easily told), which with "bound" makes the loss the bound itself.

What the network learns freely is G in

    ε̂(x, t) = sin τ_t · x + cos τ_t · G(x, τ_t),

whose first term is the best guess for Gaussian data of unit variance. G is the velocity dx/dτ of
the probability-flow ODE (Song et al., 2021), where DDIM's walk without noise (Song, Meng & Ermon,
2021) leads if its steps are many. Along log σ it reads dx / d log σ = sin τ (ε̂ − sin τ x), equally
smooth at all noise levels. Run from x₁ up to x_T it gives a density: that of data with noise σ₁.
"""

import abc
import dataclasses
import functools
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
from densitometer.blocks.denoising import posterior_mean, stratified_uniforms
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
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasBound, HasDensity, HasPath, HasScore, Standardiser

ODE_STEP = 0.6
"""Length in log σ of the steps (at most) of the probability-flow ODE behind a density: 13 steps by
default, with which a trained model's log-densities are off by 7e-4 nats (rms), their mean by 1e-4.
"""

SAMPLE_STEP = 0.7
"""The same for sampling: 11 steps, and each sample within 0.002 of its place (rms, standardised
units)."""


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The cosine schedule, and what follows from it for the steps t = 1 … T (index t − 1)."""

    timesteps: int
    """T."""
    offset: float
    """s, the smallest angle in radians; σ runs from tan s to 1 / tan s."""

    @functools.cached_property
    def angles(self) -> np.ndarray:
        """τ_t."""
        return np.linspace(self.offset, math.pi / 2 - self.offset, self.timesteps)

    @functools.cached_property
    def sigmas(self) -> np.ndarray:
        """σ_t = tan τ_t."""
        return np.tan(self.angles)

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """w_t = β_t / (2 α_t (1 − ᾱ_t)) of ‖ε − ε̂‖² in the variational bound."""
        kept = np.cos(np.append(0.0, self.angles)) ** 2
        return (kept[:-1] / kept[1:] - 1) / (2 * np.sin(self.angles) ** 2)

    @functools.cached_property
    def constant(self) -> float:
        """What an axis costs in the bound, nats, whatever is predicted.

        Steps t ≥ 2 are draws of variance β_t where q has r β_t, r = (1 − ᾱ_{t−1}) / (1 − ᾱ_t), so
        they cost (r − 1 − log r) / 2; the last, a Gaussian density, costs log(2πβ_1) / 2.
        """
        noise = np.sin(self.angles) ** 2
        r = noise[:-1] / noise[1:]
        return 0.5 * float(np.sum(r - 1 - np.log(r)) + math.log(2 * math.pi * noise[0]))

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """p_t ∝ w_t cos² τ_t: how much of the bound each step is expected to be."""
        size = self.weights * np.cos(self.angles) ** 2
        return size / size.sum()

    @functools.cached_property
    def flow_probabilities(self) -> np.ndarray:
        """p_t ∝ √(sin τ_t cos τ_t) d log σ / dτ = 1 / √(sin τ_t cos τ_t)."""
        size = 1 / np.sqrt(np.sin(self.angles) * np.cos(self.angles))
        return size / size.sum()

    def draw(self, key: Key[Scalar, ""], n: int, probabilities: np.ndarray) -> Int[Array, " n"]:
        """`n` indices drawn by p_t, at stratified quantiles."""
        quantiles = jnp.asarray(np.cumsum(probabilities), jnp.float32)
        return jnp.minimum(
            jnp.searchsorted(quantiles, stratified_uniforms(key, n)), self.timesteps - 1
        )

    def walk(self, steps: int) -> np.ndarray:
        """Indices of at most `steps` of the T steps, from last to first.

        As evenly spaced in log σ as whole steps allow; all of them for ``steps`` ≥ T.
        """
        n = min(steps, self.timesteps)
        levels = np.log(self.sigmas)
        wanted = np.searchsorted(levels, np.linspace(levels[0], levels[-1], n) - 1e-9)
        order = np.arange(n)
        apart = np.maximum.accumulate(wanted - order) + order
        return np.minimum(apart, self.timesteps - n + order)[::-1]


class NoisePredictor(eqx.Module):
    """ε̂(x, τ), and what follows from it."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " d"], angle: Float[Array, ""], drop: Dropout | None = None
    ) -> Float[Array, " d"]:
        """E[ε | x = cos τ x₀ + sin τ ε]."""

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


class DDPMModel(HasDensity, HasBound, HasScore, HasPath):
    """The law of the data with noise σ₁, as the predictor knows it."""

    standardiser: Standardiser
    predictor: NoisePredictor
    schedule: Schedule = eqx.field(static=True)
    sampler: str = eqx.field(static=True)
    sample_steps: int = eqx.field(static=True)

    density_provenance: ClassVar[str] = f"ode(step={ODE_STEP})"
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
        """The bound from `k` of its T terms, drawn by p_t: more are less noisy, not tighter."""
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
    """w_t ‖ε − ε̂(x_t, t)‖², nats, for one step and one noise."""
    angle = jnp.asarray(schedule.angles, jnp.float32)[index]
    weight = jnp.asarray(schedule.weights, jnp.float32)[index]
    x = jnp.cos(angle) * x0 + jnp.sin(angle) * noise
    return weight * jnp.sum((noise - predictor(x, angle)) ** 2)


def bound_rest(schedule: Schedule, x0: Float[Array, " d"]) -> Float[Array, ""]:
    """What the bound has beside its sum: −KL(q(x_T | x₀) ‖ N(0, I)) and the constants."""
    cos, sin = math.cos(schedule.angles[-1]), math.sin(schedule.angles[-1])
    prior = 0.5 * cos**2 * jnp.sum(x0**2) + 0.5 * len(x0) * (sin**2 - 1 - math.log(sin**2))
    return -prior - len(x0) * schedule.constant


def ancestral(
    key: Key[Scalar, ""],
    predictor: NoisePredictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
) -> Float[Array, "steps d"]:
    """The chain walked back over falling `angles` to the data (Ho et al., 2020): all its states.

    From angle τ to the next, τ', with β = 1 − cos² τ / cos² τ', the step is

        x' = cos τ' x̂₀ + sin τ' √(1 − β / sin² τ) ε̂ + √β n.
    """
    after = np.append(angles[1:], 0.0)
    beta = 1 - (np.cos(angles) / np.cos(after)) ** 2
    # At the last step the root is of 0, which rounding can make negative.
    shares = np.sin(after) * np.sqrt(np.maximum(1 - beta / np.sin(angles) ** 2, 0.0))
    return _walk(key, predictor, start, angles, np.cos(after), shares, np.sqrt(beta))


def ddim(
    key: Key[Scalar, ""],
    predictor: NoisePredictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
) -> Float[Array, "steps d"]:
    """The walk without noise over falling `angles` (Song, Meng & Ermon, 2021): all its states.

    x' = cos τ' x̂₀ + sin τ' ε̂. The last step is from the smallest angle to x₁ / cos τ₁, whose law is
    that of data with noise σ₁.
    """
    cos = np.append(np.cos(angles[1:]), 1.0)
    shares = np.append(np.sin(angles[1:]), math.tan(angles[-1]))
    return _walk(key, predictor, start, angles, cos, shares, np.zeros(len(angles)))


def _walk(
    key: Key[Scalar, ""],
    predictor: NoisePredictor,
    start: Float[Array, " d"],
    angles: np.ndarray,
    data_shares: np.ndarray,
    noise_shares: np.ndarray,
    fresh_noises: np.ndarray,
) -> Float[Array, "steps d"]:
    """x' = a x̂₀ + b ε̂ + c n over the angles; the states after each step."""

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


class DDPMState(eqx.Module):
    """Parameters, their average, and the optimiser's moments."""

    network: NetworkPredictor
    averaged: NetworkPredictor
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class DDPM(Family[DDPMState]):
    """Denoising diffusion: a chain of small steps from noise to data, learnt by telling noise."""

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
    """Points a step; each gets its own noise and t."""
    posterior_points: CountOrZero = 2048
    """Points that a noisy one may have come from: a step fits the mean of ε, given x_t, over them.
    0 for the ε that was added, as in the textbooks."""
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
    timesteps: Annotated[int, Range(at_least=2, at_most=65_536)] = 1000
    """T, steps of the chain."""
    offset: Annotated[float, Range(at_least=1e-4, at_most=0.78)] = 0.025
    """Smallest angle of the cosine schedule, about the smallest noise level in standardised units;
    the model's law is the data's at this noise. The largest noise level is its inverse."""
    weighting: Literal["flow", "bound", "simple"] = "flow"
    """How t is drawn: for the flow's density, for the bound, or evenly (Ho et al.)."""
    sampler: Literal["flow", "ddim", "ancestral"] = "flow"
    """The ODE solved accurately, DDIM's walk along it, or the chain with its noise."""
    sample_steps: Annotated[int, Range(at_least=2, at_most=65_536)] = 100
    """How many of the T steps DDIM and the chain visit."""

    def conflicts(self) -> Iterator[str]:
        """More steps to visit than there are, too little noise, or too few points for a mean."""
        if self.sampler != "flow" and self.sample_steps > self.timesteps:
            most = f"timesteps = {self.timesteps}"
            yield f"sample_steps must be at most {most}, not {self.sample_steps}"
        yield from denoising.conflicts(
            self.posterior_points, self.batch_size, "offset", self.offset
        )

    @property
    def points_per_step(self) -> int:
        """Points that a step is given: its targets are means over `posterior_points` of them."""
        return max(self.batch_size, self.posterior_points)

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> DDPMState:
        """A fresh predictor."""
        network = NetworkPredictor(key, data.shape[1], self)
        return DDPMState(network, network, self._optimiser().init(network))

    def step(
        self, key: Key[Scalar, ""], state: DDPMState, batch: Float[Array, "b d"]
    ) -> tuple[DDPMState, Info]:
        """One Adam step on the loss of the predicted noise."""
        key, drop_key = jax.random.split(key)
        x0, points = batch[: self.batch_size], batch if self.posterior_points else None
        loss, gradient = jax.value_and_grad(self._noise_loss)(
            state.network, key, x0, points, drop_key
        )
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        return DDPMState(network, averaged, optimiser), {"loss": loss}

    def loss(self, key: Key[Scalar, ""], state: DDPMState, batch: Float[Array, "b d"]) -> Scalar:
        """The loss of the averaged parameters."""
        return self._noise_loss(state.averaged, key, batch)

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
        """E ‖ε − ε̂(x_t, t)‖² / d, over cos² τ_t unless the weighting is simple.

        With `points`, the mean of ε, given x_t, if x₀ is one of them, stands for ε: see
        `posterior_mean`. The loss is then less by the variance of what it is the mean of, and its
        gradient the same but for chance.
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
