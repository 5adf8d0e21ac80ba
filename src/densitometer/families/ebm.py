r"""Energy-based model (LeCun et al., 2006), by ranking noise-contrastive estimation or by PCD.

A network gives an energy E, and the law is p(x) = exp(−E(x)) / Z. Its normaliser Z = ∫ exp(−E) is
out of reach while learning, but a proposal q that covers the data, can be sampled and has a known
density tells enough about it: Z = E_{y∼q} exp(−E(y)) / q(y).

**Ranking noise-contrastive estimation** (Jozefowicz et al., 2016; Ma & Collins, 2018) hides a data
point x among K draws y₁ … y_K of q, and asks which of them it is. By Bayes the answer is a softmax
of the log-ratios s = −E − log q, in which Z cancels, so one minimises

    −log  exp s(x) / (exp s(x) + Σₖ exp s(yₖ)).

The minimum is at the true law for every K and every q that covers it, up to the constant that an
energy has free. As K grows the objective less log K becomes −log p(x) + log q(x), with log Z
estimated by importance sampling: maximum likelihood. A q near the data makes the question hard and
the answer precise (Singh, Tu & Sindhwani, 2023): here a mixture of Gaussians, fitted beforehand.

Samples, too, begin as draws of q: see `EBMModel`.

**Persistent contrastive divergence** (Hinton, 2002; Tieleman, 2008) climbs the likelihood itself,

    −∇ log-likelihood = E_data ∇E − E_p ∇E,

with E_p over a population of Markov chains that is kept from step to step and moved by
Metropolis-adjusted Langevin. These moves are short and no chain crosses from mode to mode, so each
step also lets every chain jump to a draw y of q, accepted with probability
min(1, exp(E(x) − E(y)) q(x) / q(y)): exact, like the short moves.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.blocks.energies import (
    SPREAD,
    Cooling,
    Energy,
    EnergyModel,
    NetworkEnergy,
    NormalisedEnergyModel,
    Walkers,
    adapt,
    cool,
    langevin,
    log_normaliser,
    systematic,
)
from densitometer.blocks.optim import Optimiser, adam, average, descend
from densitometer.domains import Count, Depth, Features, Positive, PositiveOrZero, Share, Steps
from densitometer.families.base import Family, Info
from densitometer.gaussian import Mixture, fit_mixture
from densitometer.models import Model, Standardiser

EM_STEPS = 100
"""Iterations of expectation–maximisation. The proposal need not be the best mixture."""

PER_SAMPLE = 4
"""Draws of the proposal for each sample of the model."""

FIRST_STEP = 0.01
"""ε of the first Langevin moves, in squared standardised units; it adapts."""

SETTLING = 8
"""Levels of Langevin moves after the draw, at each of which ε adapts."""

FLOOR = 0.03
"""Least standard deviation of a component of the proposal, in standardised units."""

LOSS_DRAWS = 10_000
"""Draws of the proposal behind log Z on the curves: its standard error is below 0.01 nats."""


class Proposal(Mixture):
    """q, a mixture of Gaussians."""

    @classmethod
    def widened(cls, mixture: Mixture, share: float) -> "Proposal":
        """`mixture` with a `share` of N(0, SPREAD² I), so that an energy is taught in the tails."""
        dim = mixture.means.shape[1]
        return cls(
            jnp.append(mixture.log_weights + math.log1p(-share), math.log(share)),
            jnp.concatenate([mixture.means, jnp.zeros((1, dim))]),
            jnp.concatenate([mixture.factors, SPREAD * jnp.eye(dim)[None]]),
        )

    def sample(self, key: Key[Scalar, ""], n: int) -> Float[Array, "n d"]:
        """n draws in random order, each component in its due number.

        Every single draw follows q; together they vary less than independent ones.
        """
        rung_key, order_key, noise_key = jax.random.split(key, 3)
        j = jax.random.permutation(order_key, systematic(rung_key, self.log_weights, n))
        noise = jax.random.normal(noise_key, (n, self.means.shape[1]))
        return self.means[j] + jnp.einsum("nij,nj->ni", self.factors[j], noise)


class EBMModel(EnergyModel):
    """A law known by its energy, sampled from draws of the proposal.

    Of PER_SAMPLE · n draws of q, n are drawn again in proportion to exp(−E) / q, which gives every
    mode its due share (sampling-importance resampling; Rubin, 1988), then moved by
    Metropolis-adjusted Langevin, which leaves p unchanged and takes equal ones apart.
    """

    proposal: Proposal

    def _population(self, key: Key[Scalar, ""], n: int) -> Cooling:
        draw_key, choice_key, key = jax.random.split(key, 3)
        draws = self.proposal.sample(draw_key, PER_SAMPLE * n)
        weights = log_ratios(self.network, self.proposal, draws)
        start = draws[systematic(choice_key, weights, n)]
        return cool(key, self.network, start, jnp.ones(SETTLING + 1), FIRST_STEP)


class NormalisedEBMModel(EBMModel, NormalisedEnergyModel):
    """The same with its normaliser, by quadrature."""


class Chains(eqx.Module):
    """A population of Markov chains, and the ε of its Langevin moves."""

    points: Float[Array, "c d"]
    step: Float[Array, ""]


class EBMState(eqx.Module):
    """Energy, its average, the proposal, the chains of PCD and the optimiser's moments."""

    network: NetworkEnergy
    averaged: NetworkEnergy
    proposal: Proposal
    chains: Chains | None
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class EBM(Family[EBMState]):
    """Energy-based model: p ∝ exp(−E), told from the draws of a proposal, or by Markov chains."""

    name: ClassVar[str] = "ebm"
    label: ClassVar[str] = "EBM"
    colour: ClassVar[int | None] = 0
    papers: ClassVar[tuple[str, ...]] = ("lecun2006", "ma2018", "tieleman2008")
    path_caption: ClassVar[str] = (
        "A wide Gaussian cools into the model’s law by Langevin moves; shown are points that are "
        "left at the end, and their ancestors."
    )
    loss_draws: ClassVar[int] = 1

    steps: Steps = 1_600
    """Gradient steps at the standard budget."""
    batch_size: Count = 256
    """Points a step."""
    learning_rate: Positive = 1e-3
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    noise: PositiveOrZero = 0.02
    """Standard deviation of Gaussian noise on the data, in standardised units; it smooths."""
    ema: Share = 0.1
    """Window of the parameter average that samples and scores, as a share of the steps."""
    width: Count = 128
    """Units a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.15
    """Their standard frequency, in cycles per standardised unit: finer detail, earlier overfit."""
    objective: Literal["nce", "pcd"] = "nce"
    """Ranking noise-contrastive estimation, or persistent contrastive divergence."""
    negatives: Count = 768
    """Draws of the proposal that a step tells the batch from; in PCD, chains."""
    components: Count = 32
    """Gaussians in the proposal."""
    wide_share: Share = 0.1
    """Share of the proposal's draws from a wide Gaussian, where there are no data."""
    moves: Count = 2
    """Langevin moves of each chain a step, in PCD."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> EBMState:
        """A fresh energy, a proposal fitted to the data, and chains that start as its draws."""
        key, mixture_key, chain_key = jax.random.split(key, 3)
        network = NetworkEnergy(
            key,
            data.shape[1],
            width=self.width,
            depth=self.depth,
            count=self.fourier_count,
            scale=self.fourier_scale,
        )
        mixture = fit_mixture(mixture_key, data, self.components, iterations=EM_STEPS, floor=FLOOR)
        proposal = Proposal.widened(mixture, self.wide_share)
        chains = None
        if self.objective == "pcd":
            chains = Chains(proposal.sample(chain_key, self.negatives), jnp.asarray(FIRST_STEP))
        optimiser = self._optimiser().init(network)
        return EBMState(network, network, proposal, chains, optimiser)

    def step(
        self, key: Key[Scalar, ""], state: EBMState, batch: Float[Array, "b d"]
    ) -> tuple[EBMState, Info]:
        """One Adam step on the objective."""
        key, noise_key = jax.random.split(key)
        batch = batch + self.noise * jax.random.normal(noise_key, batch.shape)
        chains, info = state.chains, {}
        if chains is None:
            draws = state.proposal.sample(key, self.negatives)
            value, gradient = jax.value_and_grad(ranking_loss)(
                state.network, state.proposal, batch, draws
            )
        else:
            chains, info = self._move(key, state.network, state.proposal, chains)
            value, gradient = jax.value_and_grad(contrast)(state.network, batch, chains.points)
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        new = EBMState(network, averaged, state.proposal, chains, optimiser)
        return new, {"loss": value, **info}

    def loss(self, key: Key[Scalar, ""], state: EBMState, batch: Float[Array, "b d"]) -> Scalar:
        """The averaged energy's negative log-likelihood, nats: mean E + log Z, by the proposal."""
        draws = state.proposal.sample(key, LOSS_DRAWS)
        log_z = log_normaliser_estimate(state.averaged, state.proposal, draws)
        return jnp.mean(jax.vmap(state.averaged)(batch)) + log_z

    def model(self, state: EBMState) -> Model:
        """The law of the averaged energy; in one or two dimensions with its density."""
        network, proposal = state.averaged, state.proposal
        identity = Standardiser.identity(network.dim)
        if network.dim > 2:
            return EBMModel(identity, network, proposal)
        return NormalisedEBMModel(identity, network, log_normaliser(network), proposal)

    def _move(
        self, key: Key[Scalar, ""], network: Energy, proposal: Proposal, chains: Chains
    ) -> tuple[Chains, Info]:
        """One jump and a few Langevin moves of every chain, and the share of each accepted."""
        draw_key, jump_key, move_key = jax.random.split(key, 3)
        draws = proposal.sample(draw_key, len(chains.points))
        gain = log_ratios(network, proposal, draws) - log_ratios(network, proposal, chains.points)
        jump = jnp.log(jax.random.uniform(jump_key, gain.shape)) < gain
        points = jnp.where(jump[:, None], draws, chains.points)
        walkers = Walkers.at(network, points)
        walkers, accepted = langevin(move_key, network, walkers, 1.0, chains.step, self.moves)
        info = {"acceptance": jnp.mean(accepted), "jumps": jnp.mean(jump)}
        return Chains(walkers.points, adapt(chains.step, accepted)), info

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)


def log_ratios(
    energy: Energy, proposal: Proposal, points: Float[Array, "n d"]
) -> Float[Array, " n"]:
    """s = −E − log q of each point: the log importance weight, up to −log Z."""
    return -jax.vmap(energy)(points) - jax.vmap(proposal.log_prob)(points)


def ranking_loss(
    energy: Energy, proposal: Proposal, batch: Float[Array, "b d"], draws: Float[Array, "k d"]
) -> Scalar:
    """Mean of −log exp s(x) / (exp s(x) + Σₖ exp s(yₖ)), less log K, in nats.

    For many draws the mean of log q − log p: the negative log-likelihood, less the proposal's.
    All points of the batch are told from the same draws, which costs least.
    """
    s = log_ratios(energy, proposal, jnp.concatenate([batch, draws]))
    data, noise = s[: len(batch)], s[len(batch) :]
    everyone = jnp.logaddexp(data, jax.nn.logsumexp(noise))
    return jnp.mean(everyone - data) - math.log(len(draws))


def contrast(energy: Energy, batch: Float[Array, "b d"], chains: Float[Array, "c d"]) -> Scalar:
    """Mean E of the data less mean E of the chains; its gradient is that of −log-likelihood."""
    return jnp.mean(jax.vmap(energy)(batch)) - jnp.mean(jax.vmap(energy)(chains))


def log_normaliser_estimate(
    energy: Energy, proposal: Proposal, draws: Float[Array, "k d"]
) -> Scalar:
    """log of the mean of exp(−E) / q over draws of q: log Z, nats."""
    s = log_ratios(energy, proposal, draws)
    return jax.nn.logsumexp(s) - math.log(len(draws))
