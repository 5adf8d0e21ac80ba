r"""Generative adversarial network, with a relativistic loss and gradient penalties.

A generator G turns noise into points; a critic C distinguishes them from data. The original game
(Goodfellow et al., 2014, arXiv:1406.2661) is

    min_G max_C  E log s(C(x)) + E log (1 − s(C(G(z)))),        s the logistic function,

whose value is −2 log 2 when the generator's distribution is that of the data. The default is the
relativistic game of Jolicoeur-Martineau (2019, arXiv:1807.00734), in which the critic judges pairs,

    min_G max_C  E log s(C(x) − C(G(z))),

whose value is then −log 2. It has no bad local optima where modes are dropped (Sun et al., 2020,
arXiv:2011.04926), and with zero-centred gradient penalties on real and on generated points,

    (γ/2) E ‖∇C(x)‖² + (γ/2) E ‖∇C(G(z))‖²,

it converges locally (Mescheder et al., 2018, arXiv:1801.04406; Huang et al., 2024,
arXiv:2501.05441). The penalty blurs the critic: near equilibrium it maximises, up to constants,

    ½ ∫ C (p − q) − ¼ ∫ C² p − γ ∫ ‖∇C‖² p,

so where p varies slowly the response to a wave of wave number k is smaller by the factor 1 + 4γk²:
structure finer than 2√γ is hardly seen. A large γ keeps the first steps calm, a small γ makes the
last ones sharp, so γ falls geometrically during training; Huang et al. (2024) lower theirs, too.

The generator is a network of noise u and a Gaussian of its own at every point,

    x = G(u) + s(u) ε,        ε ~ N(0, I),

so that the tails of a mode need not be folded out of the noise. Some coordinates of u are uniform
in a cube and the others are signs ±1: a continuous map of a connected cube has to lay a bridge
between every two islands of the data, a map of 2^m separate cubes only between a few.

The generator is the slower player. Steps of finite size make its distribution fluctuate; what the
critic judges is the distribution smeared by the fluctuations; it is the smeared one that matches
the data, so the averaged generator, which samples, is too narrow by as much.

There is no density: a GAN is judged by its samples alone.
"""

import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks.nets import MLP, FeatureMLP
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
    Steps,
)
from densitometer.families.base import Family, Info
from densitometer.models import HasPath, Model, Standardiser


class Critic(eqx.Module):
    """C(x), the log-odds that x is data."""

    mlp: FeatureMLP

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "GAN"):
        self.mlp = FeatureMLP(
            key,
            dim,
            1,
            width=family.width,
            depth=family.depth,
            count=family.fourier_count,
            scale=family.fourier_scale,
        )

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """The log-odds at one point."""
        return self.mlp(x)[0]


class Generator(eqx.Module):
    """x = G(u) + s(u) ε, with u uniform in a cube on its first axes and ±1 on the others.

    A cube has sharp faces, as data have that end abruptly; the tails of Gaussian noise would have
    to be folded there.
    """

    mlp: MLP
    latent: int = eqx.field(static=True)
    signs: int = eqx.field(static=True)
    spread: float = eqx.field(static=True)

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "GAN"):
        self.latent, self.signs, self.spread = family.latent, family.signs, family.spread
        inputs = self.latent + self.signs
        self.mlp = MLP(key, inputs, dim + 1, width=family.width, depth=family.depth)

    @property
    def dim(self) -> int:
        """d, the dimension of the space."""
        return self.mlp.biases[-1].shape[0] - 1

    def noise(self, key: Key[Scalar, ""], n: int) -> Float[Array, "{n} z"]:
        """`n` draws of (u, ε), of zero mean and unit variance on each axis."""
        # One draw for all three: compiling another takes longer than transforming this one.
        normal = jax.random.normal(key, (n, self.latent + self.signs + self.dim))
        cube, signs, noise = jnp.split(normal, [self.latent, self.latent + self.signs], axis=1)
        cube = math.sqrt(3) * jax.scipy.special.erf(cube / math.sqrt(2))
        return jnp.concatenate([cube, jnp.sign(signs), noise], axis=1)

    def __call__(self, noise: Float[Array, " z"]) -> Float[Array, " d"]:
        """The point generated from one draw of (u, ε)."""
        u, epsilon = jnp.split(noise, [self.latent + self.signs])
        centre, log_scale = jnp.split(self.mlp(u), [self.dim])
        return centre + self.spread * jnp.exp(log_scale) * epsilon


class GANModel(HasPath):
    """The generator, applied to noise.

    Its path is the image of the noise as it grows from 0 to its full size, which shows how the
    generator unfolds the cubes.
    """

    standardiser: Standardiser
    generator: Generator

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self.generator(self.generator.noise(key, 1)[0])

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        noise = self.generator.noise(key, 1)[0]
        return jax.vmap(lambda s: self.generator(s * noise))(jnp.linspace(0.0, 1.0, frames))


class GANState(eqx.Module):
    """What the next step needs."""

    generator: Generator
    averaged: Generator
    """The moving average of the generator's parameters, of which the model is made."""
    critic: Critic
    generator_optimiser: optax.OptState
    critic_optimiser: optax.OptState
    time: Int[Array, ""]
    """Steps so far."""


class GANInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The critic's: minus the value of the game, plus the gradient penalties."""
    generator_loss: Float[Array, ""]
    """The generator's, against the new critic."""
    value: Float[Array, ""]
    """The value of the game, which the critic maximises. If it cannot distinguish the two sides:
    −log 2 (relativistic) or −2 log 2 (minimax)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GAN(Family[GANState]):
    """Generative adversarial network: a generator against a critic, no density."""

    name: ClassVar[str] = "gan"
    label: ClassVar[str] = "GAN"
    colour: ClassVar[int | None] = 6
    papers: ClassVar[tuple[str, ...]] = ("goodfellow2014", "jolicoeur2019", "huang2024")
    path_caption: ClassVar[str] = (
        "The noise is scaled by s, from 0 (left) to 1 (right), and mapped by the generator: how it "
        "unfolds its noise."
    )
    select_by: ClassVar[Literal["holdout_loss", "holdout_kde_nll"]] = "holdout_kde_nll"
    loss_draws: ClassVar[int] = 4

    steps: Steps = 10_000
    """Gradient steps at the standard budget, of each player."""
    batch_size: Count = 128
    """Points a step, and as many generated ones."""
    objective: Literal["relativistic", "minimax"] = "relativistic"
    """Relativistic game, or the original minimax game of Goodfellow et al. (2014)."""
    penalty: PositiveOrZero = 0.3
    """Weight γ of the zero-centred gradient penalties at the first step; 0 for none."""
    penalty_decay: Annotated[float, Range(above=0, at_most=1)] = 0.02
    """Share of γ that is left at the last step; it falls geometrically. 1 for a constant γ."""
    penalty_points: Count = 64
    """Real points, and as many generated ones, of a step's penalty: a part of the batch, to save
    time."""
    learning_rate: Positive = 2e-3
    """Peak rate of the critic's Adam; it warms up, then decays along a cosine."""
    generator_pace: Positive = 0.5
    """Learning rate of the generator, as a share of the critic's."""
    ema: Share = 0.1
    """Window of the generator's average, of which the model is made, as a share of the steps."""
    latent: Count = 3
    """Axes of the generator's noise that are uniform in a cube."""
    signs: CountOrZero = 6
    """Axes of the generator's noise that are ±1; 0 for a connected noise."""
    spread: PositiveOrZero = 0.05
    """Scale of the Gaussian at a generated point before training; 0 for none."""
    width: Count = 64
    """Units of a hidden layer, for both players."""
    depth: Depth = 3
    """Hidden layers, for both players."""
    fourier_count: Features = 16
    """Random Fourier features of the point, for the critic; 0 for none."""
    fourier_scale: Positive = 0.5
    """Standard deviation of the features' frequencies, in cycles per standardised unit."""

    def conflicts(self) -> Iterator[str]:
        """More points of the penalty than the batch has."""
        if self.penalty and self.penalty_points > self.batch_size:
            most = f"batch_size = {self.batch_size}"
            yield f"penalty_points must be at most {most}, not {self.penalty_points}"

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> GANState:
        """Two players with initial parameters."""
        generator_key, critic_key = jax.random.split(key)
        dim = data.shape[1]
        generator = Generator(generator_key, dim, self)
        critic = Critic(critic_key, dim, self)
        return GANState(
            generator=generator,
            averaged=generator,
            critic=critic,
            generator_optimiser=self._optimiser(self.generator_pace).init(generator),
            critic_optimiser=self._optimiser().init(critic),
            time=jnp.zeros((), int),
        )

    def step(
        self, key: Key[Scalar, ""], state: GANState, batch: Float[Array, "b d"]
    ) -> tuple[GANState, GANInfo]:
        """One step of the critic, then one of the generator against the new critic."""
        critic_key, generator_key = jax.random.split(key)

        fake = self._generate(state.generator, critic_key, len(batch))
        (critic_loss, value), gradient = jax.value_and_grad(self._critic_loss, has_aux=True)(
            state.critic, batch, fake, self._penalty_weight(state.time)
        )
        critic, critic_optimiser = descend(
            self._optimiser(), gradient, state.critic_optimiser, state.critic
        )

        generator_loss, gradient = jax.value_and_grad(self._generator_loss)(
            state.generator, critic, generator_key, batch
        )
        generator, generator_optimiser = descend(
            self._optimiser(self.generator_pace),
            gradient,
            state.generator_optimiser,
            state.generator,
        )
        averaged = average(state.averaged, generator, self.ema * self.steps)
        new = GANState(
            generator, averaged, critic, generator_optimiser, critic_optimiser, state.time + 1
        )
        return new, GANInfo(critic_loss, generator_loss, value)

    def loss(self, key: Key[Scalar, ""], state: GANState, batch: Float[Array, "b d"]) -> Scalar:
        """Minus the value of the game on these points and as many generated ones.

        log 2 (relativistic) or 2 log 2 (minimax) when the critic cannot distinguish them; smaller
        when it can.
        """
        fake = self._generate(state.averaged, key, len(batch))
        return -self._value(*self._judge(state.critic, batch, fake))

    def model(self, state: GANState) -> Model:
        """The averaged generator."""
        identity = Standardiser.identity(state.averaged.dim)
        return GANModel(identity, state.averaged)

    def _value(self, real: Float[Array, " b"], fake: Float[Array, " b"]) -> Scalar:
        """The value of the game, which the critic maximises, for its log-odds."""
        if self.objective == "relativistic":
            return jnp.mean(jax.nn.log_sigmoid(real - fake))
        return jnp.mean(jax.nn.log_sigmoid(real)) + jnp.mean(jax.nn.log_sigmoid(-fake))

    def _critic_loss(
        self,
        critic: Critic,
        real: Float[Array, "b d"],
        fake: Float[Array, "b d"],
        gamma: Float[Array, ""],
    ) -> tuple[Scalar, Scalar]:
        """Minus the value, plus the gradient penalties; and the value.

        The penalties are means over the first `penalty_points` of either side. Points are in random
        order, so this is unbiased, and the gradient of a gradient is the most costly part of a
        step.
        """
        value = self._value(*self._judge(critic, real, fake))
        some = jnp.concatenate([real[: self.penalty_points], fake[: self.penalty_points]])
        norms = jax.vmap(lambda x: jnp.sum(jax.grad(critic)(x) ** 2))(some)
        return gamma * jnp.mean(norms) - value, value

    def _penalty_weight(self, time: Int[Array, ""]) -> Float[Array, ""]:
        """γ at a step: `penalty` times `penalty_decay` to the power of `time` / `steps`."""
        return self.penalty * self.penalty_decay ** (time.astype(float) / self.steps)

    def _generator_loss(
        self, generator: Generator, critic: Critic, key: Key[Scalar, ""], real: Float[Array, "b d"]
    ) -> Scalar:
        """The generator's objective: the minimax value, or −E log s(C(G(z)) − C(x)).

        The latter is the relativistic game with the roles exchanged; its gradient does not vanish
        where the critic wins.
        """
        real_odds, fake_odds = self._judge(critic, real, self._generate(generator, key, len(real)))
        if self.objective == "relativistic":
            return -self._value(fake_odds, real_odds)
        return self._value(real_odds, fake_odds)

    def _judge(
        self, critic: Critic, real: Float[Array, "b d"], fake: Float[Array, "b d"]
    ) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        """The critic's log-odds on both sides, in one pass."""
        odds = jax.vmap(critic)(jnp.concatenate([real, fake]))
        return odds[: len(real)], odds[len(real) :]

    def _generate(
        self, generator: Generator, key: Key[Scalar, ""], n: int
    ) -> Float[Array, "{n} d"]:
        return jax.vmap(generator)(generator.noise(key, n))

    def _optimiser(self, pace: float = 1.0) -> Optimiser:
        return adam(pace * self.learning_rate, self.steps, b1=0.0)
