r"""Energy-based model, by noise-contrastive estimation or by persistent contrastive divergence.

A network gives an energy E and with it the distribution p(x) = exp(−E(x)) / Z (LeCun et al., 2006).
Its normaliser Z = ∫ exp(−E) is out of reach during training, but it can be estimated from a
proposal q that covers the data, can be sampled and has a known density: Z = E_{y∼q} exp(−E(y)) /
q(y).

**Ranking noise-contrastive estimation** (Jozefowicz et al., 2016, arXiv:1602.02410; Ma & Collins,
2018, arXiv:1809.01812) hides a data point x among K draws y₁ … y_K of q, and asks which of them it
is. By Bayes' rule the answer is a softmax of the log-ratios s = −E − log q, in which Z cancels, so
one minimises

    −log  exp s(x) / (exp s(x) + Σₖ exp s(yₖ)).

If the draws are independent, the minimum is at the true distribution for every K and every q that
covers it, up to the additive constant of an energy; here each component of q has its due number of
draws, which vary less, and what that changes vanishes as K grows.
As K grows the objective less log K becomes −log p(x) + log q(x), with log Z
estimated by importance sampling: maximum likelihood. A q near the data makes the question hard and
the answer precise (Singh, Tu & Sindhwani, 2023, arXiv:2309.05803): here a mixture of Gaussians,
fitted beforehand. The model's samples begin as draws of q, too (`EBMModel`).

**Persistent contrastive divergence** (Hinton, 2002, doi:10.1162/089976602760128018; Tieleman, 2008,
doi:10.1145/1390156.1390290) follows the gradient of the likelihood itself,

    −∇ log-likelihood = E_data ∇E − E_p ∇E,

with E_p over a population of Markov chains that persists from step to step and is moved by
Metropolis-adjusted Langevin dynamics. These moves are short and no chain crosses from mode to mode,
so each step also proposes to every chain a jump to a draw y of q, accepted with probability
min(1, exp(E(x) − E(y)) q(x) / q(y)). Both kinds of move leave p invariant.
"""

import dataclasses
import math
from typing import ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.batches import CHUNK
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

PER_SAMPLE = 16
"""Draws of the proposal for each sample of the model, from which it is resampled.

Samples share them, so they are not quite independent: their means vary as those of independent ones
times √(1 + 1/(16 e)), where e is the effective share of the draws."""

FIRST_STEP = 0.01
"""Step size ε of the first Langevin moves, in squared standardised units; it adapts."""

SETTLING = 8
"""Levels of Langevin moves after resampling; ε adapts after each."""

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
    """p ∝ exp(−E), sampled from draws of the proposal.

    Of PER_SAMPLE · n draws of q, n are resampled in proportion to exp(−E) / q, which gives every
    mode its share (sampling-importance resampling; Rubin, 1988), then moved by Metropolis-adjusted
    Langevin dynamics, which leave p invariant and separate equal ones.
    """

    proposal: Proposal

    def _population(self, key: Key[Scalar, ""], n: int) -> Cooling:
        draw_key, choice_key, key = jax.random.split(key, 3)
        draws = self.proposal.sample(draw_key, PER_SAMPLE * n)
        ratio = lambda x: log_ratios(self.network, self.proposal, x[None])[0]
        weights = jax.lax.map(ratio, draws, batch_size=CHUNK)
        start = draws[systematic(choice_key, weights, n)]
        return cool(key, self.network, start, jnp.ones(SETTLING + 1), FIRST_STEP)


class NormalisedEBMModel(EBMModel, NormalisedEnergyModel):
    """The same with its normaliser, by quadrature."""


class Chains(eqx.Module):
    """A population of Markov chains."""

    points: Float[Array, "c d"]
    step: Float[Array, ""]
    """Step size ε of their Langevin moves."""


class EBMState(eqx.Module):
    """What the next step needs."""

    network: NetworkEnergy
    averaged: NetworkEnergy
    """The moving average of the network's parameters, of which the model is made."""
    proposal: Proposal
    """q, fitted once to the training points."""
    chains: Chains | None
    """Those of persistent contrastive divergence, else None."""
    optimiser: optax.OptState


class EBMInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The ranking loss in nats, or mean E of the data less mean E of the chains."""
    acceptance: Float[Array, ""] | None = None
    """The share of Langevin moves that were accepted; None without chains."""
    jumps: Float[Array, ""] | None = None
    """The share of jumps to a draw of the proposal that were accepted; None without chains."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EBM(Family[EBMState]):
    """Energy-based model: p ∝ exp(−E), learnt by contrast with a proposal or with Markov chains."""

    name: ClassVar[str] = "ebm"
    label: ClassVar[str] = "EBM"
    colour: ClassVar[int | None] = 0
    papers: ClassVar[tuple[str, ...]] = ("lecun2006", "ma2018", "tieleman2008")
    path_caption: ClassVar[str] = (
        "Draws of a fitted mixture of Gaussians, chosen by their weights (left), move into the "
        "model’s distribution by Langevin steps."
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
    """Standard deviation of Gaussian noise on the data, in standardised units: the model learns the
    data with this noise."""
    ema: Share = 0.1
    """Window of the parameter average, of which the model is made, as a share of the steps."""
    width: Count = 128
    """Units of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.15
    """Standard deviation of the features' frequencies, in cycles per standardised unit: a larger
    one gives finer detail and overfits earlier."""
    objective: Literal["nce", "pcd"] = "nce"
    """Ranking noise-contrastive estimation, or persistent contrastive divergence."""
    negatives: Count = 768
    """Draws of the proposal among which a step hides the batch; in PCD, chains."""
    components: Count = 32
    """Number of Gaussians in the proposal."""
    wide_share: Share = 0.1
    """Share of a wide Gaussian in the proposal, for places without data."""
    moves: Count = 2
    """Langevin moves of each chain in a step of PCD."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> EBMState:
        """An initial energy, a proposal fitted to the data, and chains that start as its draws."""
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
    ) -> tuple[EBMState, EBMInfo]:
        """One Adam step on the objective; in PCD after a move of the chains."""
        key, noise_key = jax.random.split(key)
        batch = batch + self.noise * jax.random.normal(noise_key, batch.shape)
        chains, acceptance, jumps = state.chains, None, None
        if chains is None:
            draws = state.proposal.sample(key, self.negatives)
            value, gradient = jax.value_and_grad(ranking_loss)(
                state.network, state.proposal, batch, draws
            )
        else:
            chains, acceptance, jumps = self._move(key, state.network, state.proposal, chains)
            value, gradient = jax.value_and_grad(contrast)(state.network, batch, chains.points)
        network, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        new = EBMState(network, averaged, state.proposal, chains, optimiser)
        return new, EBMInfo(value, acceptance, jumps)

    def loss(self, key: Key[Scalar, ""], state: EBMState, batch: Float[Array, "b d"]) -> Scalar:
        """−log-likelihood of the averaged energy, nats: mean E + log Z, by the proposal."""
        draws = state.proposal.sample(key, LOSS_DRAWS)
        log_z = log_normaliser_estimate(state.averaged, state.proposal, draws)
        return jnp.mean(jax.vmap(state.averaged)(batch)) + log_z

    def model(self, state: EBMState) -> Model:
        """The averaged energy's distribution; in one or two dimensions with its density."""
        network, proposal = state.averaged, state.proposal
        identity = Standardiser.identity(network.dim)
        if network.dim > 2:
            return EBMModel(identity, network, proposal)
        return NormalisedEBMModel(identity, network, log_normaliser(network), proposal)

    def _move(
        self, key: Key[Scalar, ""], network: Energy, proposal: Proposal, chains: Chains
    ) -> tuple[Chains, Scalar, Scalar]:
        """The chains after a jump and Langevin moves; the accepted shares of moves and of jumps."""
        draw_key, jump_key, move_key = jax.random.split(key, 3)
        draws = proposal.sample(draw_key, len(chains.points))
        gain = log_ratios(network, proposal, draws) - log_ratios(network, proposal, chains.points)
        jump = jnp.log(jax.random.uniform(jump_key, gain.shape)) < gain
        points = jnp.where(jump[:, None], draws, chains.points)
        walkers = Walkers.at(network, points)
        walkers, accepted = langevin(move_key, network, walkers, 1.0, chains.step, self.moves)
        chains = Chains(walkers.points, adapt(chains.step, accepted))
        return chains, jnp.mean(accepted), jnp.mean(jump)

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)


def log_ratios(
    energy: Energy, proposal: Proposal, points: Float[Array, "n d"]
) -> Float[Array, " n"]:
    """s = −E − log q of each point: the log importance weight plus log Z, nats."""
    return -jax.vmap(energy)(points) - jax.vmap(proposal.log_prob)(points)


def ranking_loss(
    energy: Energy, proposal: Proposal, batch: Float[Array, "b d"], draws: Float[Array, "k d"]
) -> Scalar:
    """Mean of −log exp s(x) / (exp s(x) + Σₖ exp s(yₖ)), less log K, in nats.

    With many draws the mean of log q − log p: the negative log-likelihood less that of the
    proposal. All points of the batch share the same draws, which costs least.
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
    """An estimate of log Z, nats: the log of the mean of exp(−E) / q over draws of q."""
    s = log_ratios(energy, proposal, draws)
    return jax.nn.logsumexp(s) - math.log(len(draws))
