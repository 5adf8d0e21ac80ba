r"""Generative adversarial network (Goodfellow et al., 2014), with a modern loss that converges.

A generator G turns noise into points; a critic C tells them from data. The original game is

    min_G max_C  E log s(C(x)) + E log (1 − s(C(G(z)))),        s the logistic function,

whose value is −2 log 2 when the generator's law is the data's. The default is the relativistic game
of Jolicoeur-Martineau (2019), in which the critic judges pairs,

    min_G max_C  E log s(C(x) − C(G(z))),

whose value is then −log 2. It has no bad local optima where modes are dropped (Sun et al., 2020),
and with zero-centred gradient penalties on real and on generated points it converges locally
(Mescheder et al., 2018; Huang et al., 2024):

    (γ/2) E ‖∇C(x)‖² + (γ/2) E ‖∇C(G(z))‖².

There is no density: what a GAN learnt shows in its samples alone.
"""

import dataclasses
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.families.base import Family, Info
from densitometer.models import Model, Standardiser
from densitometer.nets import MLP, fourier_features
from densitometer.optim import Optimiser, adam, average, descend


class Critic(eqx.Module):
    """C(x), the log-odds that x is data."""

    mlp: MLP
    count: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "GAN"):
        self.count, self.scale = family.fourier_count, family.fourier_scale
        inputs = dim + 2 * self.count
        self.mlp = MLP(key, inputs, 1, width=family.width, depth=family.depth)

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The log-odds at one point."""
        return self.mlp(fourier_features(x, self.count, self.scale))[0]


class GANModel(Model):
    """Noise through the generator."""

    standardiser: Standardiser
    generator: MLP

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.generator(jax.random.normal(key, (self.generator.weights[0].shape[0],)))


class GANState(eqx.Module):
    """Two players, two optimisers, and the average of the generator that samples."""

    generator: MLP
    averaged: MLP
    critic: Critic
    generator_optimiser: optax.OptState
    critic_optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN(Family):
    """Generative adversarial network: a generator against a critic, no density."""

    name: ClassVar[str] = "gan"
    zero_allowed: ClassVar[tuple[str, ...]] = ("penalty", "fourier_count")
    select_by: ClassVar[Literal["holdout_loss", "holdout_kde_nll"]] = "holdout_kde_nll"

    steps: int = 10_000
    """Gradient steps at the standard budget, of each player."""
    batch_size: int = 256
    """Points a step, and as many generated ones."""
    objective: Literal["relativistic", "minimax"] = "relativistic"
    """The relativistic game, or the original minimax game of Goodfellow et al. (2014)."""
    penalty: float = 0.1
    """γ, the weight of the zero-centred gradient penalties on data and on generated points."""
    learning_rate: float = 1e-3
    """Peak rate of Adam for both players; it warms up, then decays along a cosine."""
    ema: float = 0.1
    """Window of the generator's average, which samples, as a share of the steps."""
    latent: int = 8
    """Dimension of the generator's noise."""
    width: int = 64
    """Units a hidden layer, of both players."""
    depth: int = 3
    """Hidden layers of each."""
    fourier_count: int = 32
    """Random Fourier features of the point at the critic; 0 for none."""
    fourier_scale: float = 0.5
    """Their standard frequency, in cycles per standardised unit."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> GANState:
        """Two fresh players."""
        generator_key, critic_key = jax.random.split(key)
        dim = data.shape[1]
        generator = MLP(generator_key, self.latent, dim, width=self.width, depth=self.depth)
        critic = Critic(critic_key, dim, self)
        optimiser = self._optimiser()
        return GANState(
            generator, generator, critic, optimiser.init(generator), optimiser.init(critic)
        )

    def step(
        self, key: Key[Scalar, ""], state: GANState, batch: Float[Array, "b d"]
    ) -> tuple[GANState, Info]:
        """One step of the critic, then one of the generator against the new critic."""
        critic_key, generator_key = jax.random.split(key)
        optimiser = self._optimiser()

        fake = self._generate(state.generator, critic_key, len(batch))
        (critic_loss, value), gradient = jax.value_and_grad(self._critic_loss, has_aux=True)(
            state.critic, batch, fake
        )
        critic, critic_optimiser = descend(
            optimiser, gradient, state.critic_optimiser, state.critic
        )

        generator_loss, gradient = jax.value_and_grad(self._generator_loss)(
            state.generator, critic, generator_key, batch
        )
        generator, generator_optimiser = descend(
            optimiser, gradient, state.generator_optimiser, state.generator
        )
        averaged = average(state.averaged, generator, self.ema * self.steps)
        info = {"loss": critic_loss, "generator_loss": generator_loss, "value": value}
        return GANState(generator, averaged, critic, generator_optimiser, critic_optimiser), info

    def loss(self, key: Key[Scalar, ""], state: GANState, batch: Float[Array, "b d"]) -> Scalar:
        """Minus the value of the game on these points and as many generated ones.

        log 2 (relativistic) or 2 log 2 (minimax) when the critic cannot tell; smaller when it can.
        """
        fake = self._generate(state.averaged, key, len(batch))
        return -self._value(*self._judge(state.critic, batch, fake))

    def model(self, state: GANState) -> Model:
        """The averaged generator."""
        identity = Standardiser.identity(state.averaged.biases[-1].shape[0])
        return GANModel(identity, state.averaged)

    def _value(self, real: Float[Array, " b"], fake: Float[Array, " b"]) -> Scalar:
        """The value of the game for the critic's log-odds: what it maximises."""
        if self.objective == "relativistic":
            return jnp.mean(jax.nn.log_sigmoid(real - fake))
        return jnp.mean(jax.nn.log_sigmoid(real)) + jnp.mean(jax.nn.log_sigmoid(-fake))

    def _critic_loss(
        self, critic: Critic, real: Float[Array, "b d"], fake: Float[Array, "b d"]
    ) -> tuple[Scalar, Scalar]:
        """Minus the value, plus the gradient penalties; and the value."""
        value = self._value(*self._judge(critic, real, fake))
        norms = jax.vmap(lambda x: jnp.sum(jax.grad(critic)(x) ** 2))
        penalty = 0.5 * self.penalty * (jnp.mean(norms(real)) + jnp.mean(norms(fake)))
        return penalty - value, value

    def _generator_loss(
        self, generator: MLP, critic: Critic, key: Key[Scalar, ""], real: Float[Array, "b d"]
    ) -> Scalar:
        """What the generator minimises: the minimax value, or −E log s(C(G(z)) − C(x)).

        The latter is the relativistic game with the roles exchanged; its gradient does not vanish
        while the critic wins.
        """
        real_odds, fake_odds = self._judge(critic, real, self._generate(generator, key, len(real)))
        if self.objective == "relativistic":
            return -self._value(fake_odds, real_odds)
        return self._value(real_odds, fake_odds)

    def _judge(
        self, critic: Critic, real: Float[Array, "b d"], fake: Float[Array, "b d"]
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        return jax.vmap(critic)(real), jax.vmap(critic)(fake)

    def _generate(self, generator: MLP, key: Key[Scalar, ""], n: int) -> Float[Array, "{n} d"]:
        return jax.vmap(generator)(jax.random.normal(key, (n, self.latent)))

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, b1=0.0, b2=0.99)
