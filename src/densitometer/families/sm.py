r"""Implicit score matching, exact or sliced, at a noise level that falls during training.

A distribution p that is known by samples alone has an unknown score ∇ log p, and yet the squared
distance of a model's score s to it can be minimised. Integration by parts removes ∇ log p
(Hyvärinen, 2005, JMLR 6:695):

    ½ E_p ‖s − ∇ log p‖²  =  J(s) + ½ E_p ‖∇ log p‖²,      J(s) = E_p [½ ‖s(x)‖² + div s(x)].

J needs samples of p, the model's score and its derivatives, and no normaliser. Here s = −∇E is the
gradient of a scalar, so that exp(−E)/Z is a distribution that can be sampled and, in the plane,
normalised by quadrature; or s is a free vector field, in general the score of no distribution.

Both terms of J are traces, and a trace is a mean over directions v with E[v vᵀ] = I:

    J(s) = E_p E_v [½ (v·s)² + vᵀ ∇s v].

Over the d axes, scaled by √d, the mean is exact; over a few random v it is *sliced* and costs the
same in any dimension (Song, Garg, Shi & Ermon, 2019, arXiv:1905.07088). With s = −∇E the bracket is
½ E'² − E'', two derivatives along a line.

Integration by parts fails at a sharp edge, and on finite data J falls without bound where the
model's curvature concentrates at the points. So J is taken at noise σ, p_σ = p ∗ N(0, σ² I). With
the weight σ² the loss of the exact score is −σ²/2 times the Fisher information of p_σ, between −d/2
and 0.

A score is local: differences of log-density between places that no data connect do not enter J, so
the weights of distant modes and the mass of places without data are not seen at all. Noise
connects: training starts at a large σ, where p_σ is unimodal, and σ falls to the small one of the
model. The weights are learnt at large noise and are only remembered afterwards.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks.energies import SPREAD, NetworkEnergy, energy_model
from densitometer.blocks.nets import Activation, FeatureMLP
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
    Steps,
)
from densitometer.families.base import Family, Info
from densitometer.models import HasScore, Model, Standardiser

LANGEVIN_STEPS = 1000
"""Steps of the sampler of a vector field."""


class ScoreField(eqx.Module):
    """s(z), a vector field that approximates a score."""

    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """s(z)."""


class NetworkScore(ScoreField):
    """s by a multilayer perceptron on Fourier features, added to the score of N(0, I)."""

    mlp: FeatureMLP
    dim: int = eqx.field(static=True)

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "SM"):
        self.dim = dim
        self.mlp = FeatureMLP(
            key,
            dim,
            dim,
            width=family.width,
            depth=family.depth,
            count=family.fourier_count,
            scale=family.fourier_scale,
            last_gain=0.1,
        )

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        """s(z)."""
        return self.mlp(z) - z


class ScoreModel(HasScore):
    """A score without a density, sampled by unadjusted Langevin dynamics that start at N(0, I)."""

    standardiser: Standardiser
    network: ScoreField
    epsilon: float = eqx.field(static=True)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        start_key, key = jax.random.split(key)
        start = jax.random.normal(start_key, (self.dim,))
        return langevin(key, self.network, start, self.epsilon, LANGEVIN_STEPS)

    def _score(self, z: Float[Array, " d"]) -> Float[Array, " d"]:
        return self.network(z)


def langevin(
    key: Key[Scalar, ""],
    score: ScoreField,
    start: Float[Array, " d"],
    epsilon: float,
    steps: int,
) -> Float[Array, " d"]:
    """The end of `steps` steps x ← x + ε s(x) + √(2ε) n of unadjusted Langevin dynamics.

    Without a density no step can be rejected. For a Gaussian of variance v the stationary variance
    is v / (1 − ε/2v), so ε should be well below the square of the finest detail.
    """

    def move(x: Array, k: Array) -> tuple[Array, None]:
        return x + epsilon * score(x) + math.sqrt(2 * epsilon) * jax.random.normal(k, x.shape), None

    return jax.lax.scan(move, start, jax.random.split(key, steps))[0]


def slopes(
    model: NetworkEnergy | ScoreField, z: Float[Array, " d"], directions: Float[Array, "m d"]
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """v·s(z) for each direction v, and the sum of vᵀ ∇s(z) v over the directions.

    By forward derivatives only, so that training needs a single reverse pass through them.
    """
    if isinstance(model, NetworkEnergy):
        first, second = _tilt_slopes(model, z, directions)
        # The same of ‖z‖² / 2s², the energy's other part.
        first += directions @ z / SPREAD**2
        second += jnp.sum(directions**2) / SPREAD**2
        return -first, -second
    scores, changes = jax.vmap(lambda v: jax.jvp(model, (z,), (v,)))(directions)
    return directions @ scores[0], jnp.sum(directions * changes)


def _tilt_slopes(
    energy: NetworkEnergy, z: Float[Array, " d"], directions: Float[Array, "m d"]
) -> tuple[Float[Array, " m"], Float[Array, ""]]:
    """∂f/∂v for each direction, and Σᵥ ∂²f/∂v², by a forward Laplacian.

    Each layer maps its values a, their derivatives ∂ᵥa and the *sum* S = Σᵥ ∂²ᵥa together: the
    linear part maps them all in the same way, the activation φ gives φ(a), φ′ ∂ᵥa and
    φ′ S + φ″ Σᵥ (∂ᵥa)². That is m + 2 rows where derivatives nested by direction have 2m + 1.
    Source: Li et al. (2024, arXiv:2307.08214).
    """
    features = energy.mlp.features

    def along(v: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda y: jax.jvp(features, (y,), (v,))[1], (z,), (v,))

    rows, seconds = jax.vmap(along)(directions)
    # A list: slicing an array of rows under `vmap` took half of the step's time.
    value, firsts, second = features(z), list(rows), jnp.sum(seconds, axis=0)
    *hidden, last = zip(energy.mlp.weights, energy.mlp.biases, strict=True)
    for w, b in hidden:
        value, phi1, phi2 = _activate(energy.mlp.activation, value @ w + b)
        firsts = [first @ w for first in firsts]
        second = phi1 * (second @ w) + phi2 * sum(first**2 for first in firsts)
        firsts = [phi1 * first for first in firsts]
    return jnp.stack([(first @ last[0].T)[0] for first in firsts]), (second @ last[0].T)[0]


def _activate(
    activation: Activation, a: Float[Array, " h"]
) -> tuple[Float[Array, " h"], Float[Array, " h"], Float[Array, " h"]]:
    """φ(a), φ′(a), φ″(a)."""
    ones = jnp.ones_like(a)
    (value, first), (_, second) = jax.jvp(
        lambda y: jax.jvp(activation, (y,), (ones,)), (a,), (ones,)
    )
    return value, first, second


def implicit_loss(
    model: NetworkEnergy | ScoreField, z: Float[Array, " d"], directions: Float[Array, "m d"]
) -> Float[Array, ""]:
    """½ ‖s(z)‖² + div s(z) by the mean of ½ (v·s)² + vᵀ ∇s v over directions with E[v vᵀ] = I."""
    along, curvature = slopes(model, z, directions)
    return 0.5 * jnp.mean(along**2) + curvature / len(directions)


class SMState(eqx.Module):
    """What the next step needs."""

    network: NetworkEnergy | NetworkScore
    averaged: NetworkEnergy | NetworkScore
    """The moving average of the network's parameters, of which the model is made."""
    optimiser: optax.OptState
    count: Int[Array, ""]
    """Steps so far."""


class SMInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """σ² J at the noise of the step."""
    noise: Float[Array, ""]
    """The noise of the step, σ, in standardised units."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SM(Family[SMState]):
    """Implicit score matching: an energy whose gradient is the data's, at a noise that falls."""

    name: ClassVar[str] = "sm"
    label: ClassVar[str] = "SM"
    colour: ClassVar[int | None] = 1
    papers: ClassVar[tuple[str, ...]] = ("hyvarinen2005", "song2019sliced")
    path_caption: ClassVar[str] = (
        "A wide Gaussian cools into the model’s distribution by Langevin moves; shown are points "
        "that are left at the end, and their ancestors."
    )

    steps: Steps = 8_000
    """Gradient steps at the standard budget."""
    batch_size: Count = 256
    """Points a step."""
    learning_rate: Positive = 2e-3
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    ema: Share = 0.05
    """Window of the parameter average, of which the model is made, as a share of the steps."""
    width: Count = 64
    """Units of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.2
    """Standard deviation of the features' frequencies, in cycles per standardised unit: a larger
    one gives finer detail and overfits earlier."""
    noise: Noise = 0.03
    """Last noise level σ, in standardised units; the model learns the data with this noise."""
    noise_start: Noise = 0.7
    """First noise level σ, at which the data are unimodal; it falls with every step. The same as
    `noise` for the fixed noise of the textbooks."""
    score: Literal["energy", "vector"] = "energy"
    """Gradient of an energy, which has a density, or a free vector field, which has none."""
    slices: CountOrZero = 0
    """Random directions a point for an estimate of the divergence; 0 for the exact one."""

    def conflicts(self) -> Iterator[str]:
        """A noise that would rise."""
        if self.noise > self.noise_start:
            yield f"noise must be at most noise_start = {self.noise_start}, not {self.noise}"

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> SMState:
        """An initial network, near the energy of N(0, s² I) or the score of N(0, I)."""
        dim = data.shape[1]
        if self.score == "vector":
            network = NetworkScore(key, dim, self)
        else:
            network = NetworkEnergy(
                key,
                dim,
                width=self.width,
                depth=self.depth,
                count=self.fourier_count,
                scale=self.fourier_scale,
            )
        return SMState(network, network, self._optimiser().init(network), jnp.zeros((), int))

    def step(
        self, key: Key[Scalar, ""], state: SMState, batch: Float[Array, "b d"]
    ) -> tuple[SMState, SMInfo]:
        """One Adam step on the implicit loss at the noise of this step."""
        sigma = self._noise(state.count)
        loss, gradient = jax.value_and_grad(self._loss)(state.network, key, batch, sigma)
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        new = SMState(network, averaged, optimiser, state.count + 1)
        return new, SMInfo(loss, sigma)

    def loss(self, key: Key[Scalar, ""], state: SMState, batch: Float[Array, "b d"]) -> Scalar:
        """The implicit loss of the averaged parameters, σ² J, always at the last noise."""
        return self._loss(state.averaged, key, batch, jnp.asarray(self.noise))

    def model(self, state: SMState) -> Model:
        """The distribution of the averaged energy, or the averaged score alone."""
        network = state.averaged
        if isinstance(network, NetworkEnergy):
            return energy_model(network)
        identity = Standardiser.identity(network.dim)
        return ScoreModel(identity, network, 0.1 * self.noise**2)

    def _loss(
        self,
        model: NetworkEnergy | ScoreField,
        key: Key[Scalar, ""],
        batch: Float[Array, "b d"],
        sigma: Float[Array, ""],
    ) -> Scalar:
        """σ² J at noise σ."""
        noise_key, slice_key = jax.random.split(key)
        z = batch + sigma * jax.random.normal(noise_key, batch.shape)
        losses = jax.vmap(lambda y, v: implicit_loss(model, y, v))(
            z, self._directions(slice_key, *batch.shape)
        )
        return sigma**2 * jnp.mean(losses)

    def _directions(self, key: Key[Scalar, ""], n: int, d: int) -> Float[Array, "n m d"]:
        """Directions v with mean v vᵀ = I: the axes times √d, or vectors of random signs."""
        if self.slices == 0:
            return jnp.broadcast_to(math.sqrt(d) * jnp.eye(d), (n, d, d))
        return jax.random.rademacher(key, (n, self.slices, d), jnp.float32)

    def _noise(self, count: Int[Array, ""]) -> Float[Array, ""]:
        """σ of a step: log σ falls linearly from that of `noise_start` to that of `noise`."""
        done = count.astype(float) / self.steps
        return self.noise_start * (self.noise / self.noise_start) ** done

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
