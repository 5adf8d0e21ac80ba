"""Energies, p ∝ exp(−E): a network, a normaliser by quadrature, and a sampler.

The energy is the output of a network, on top of a wide Gaussian,

    E(z) = f(z) + ‖z‖² / (2 s²),        s = SPREAD,

and since f grows at most linearly, exp(−E) can always be normalised. Sampling begins at the same
Gaussian.
"""

import abc
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks.nets import FeatureMLP
from densitometer.estimates import Provenance
from densitometer.models import HasDensity, HasDiagnostics, HasEnergy, HasPath, Standardiser

SPREAD = 2.0
"""s, in standardised units: data lie within two or three, where this Gaussian still has mass."""

RADIUS, NODES = 8.0, 512
"""The normaliser is a sum over NODES^d points of [−RADIUS, RADIUS]^d."""

LEVELS, SETTLING, MOVES = 40, 7, 3
"""Temperatures of the sampler, levels at the last of them, and Langevin moves at each level."""

POPULATION = 1000
"""The least number of points that are sampled together."""


class Energy(eqx.Module):
    """E(z) = f(z) + ‖z‖² / (2 s²)."""

    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def tilt(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """f(z): −log of the ratio of exp(−E) to the Gaussian, up to a constant."""

    def __call__(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """E(z)."""
        return self.tilt(z) + jnp.sum(z**2) / (2 * SPREAD**2)


class NetworkEnergy(Energy):
    """f by a multilayer perceptron on Fourier features."""

    mlp: FeatureMLP
    dim: int = eqx.field(static=True)

    def __init__(
        self, key: Key[Scalar, ""], dim: int, *, width: int, depth: int, count: int, scale: float
    ):
        self.dim = dim
        self.mlp = FeatureMLP(
            key, dim, 1, width=width, depth=depth, count=count, scale=scale, last_gain=0.1
        )

    def tilt(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """f(z)."""
        return self.mlp(z)[0]


class EnergyModel(HasEnergy, HasPath, HasDiagnostics):
    """p ∝ exp(−E), sampled by a population that cools from a Gaussian."""

    standardiser: Standardiser
    network: Energy

    def _energy(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.network(z)

    def _population(self, key: Key[Scalar, ""], n: int) -> "Cooling":
        """n draws, which are made together."""
        return anneal(key, self.network, n)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._population(key, POPULATION).end[0]

    def _samples(self, key: Key[Scalar, ""], n: int) -> Float[Array, "n d"]:
        """`n` draws in data coordinates, of one population."""
        points, _ = self._draw(key, max(n, POPULATION))
        return self.standardiser.inverse(points[:n])

    def diagnostics(self, key: Key[Scalar, ""], n: int) -> dict[str, Float[Array, " n"]]:
        """``acceptance``: the accepted share of the last Langevin moves of each point."""
        return {"acceptance": self._draw(key, max(n, POPULATION))[1][:n]}

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        return ancestry(self._population(key, POPULATION), frames)[:, 0]

    @eqx.filter_jit
    def _paths(self, key: Key[Scalar, ""], n: int, frames: int) -> Float[Array, "frames n d"]:
        """`n` draws, those that `sample` makes of the same key, and their ancestors: noise first.

        Resampling leaves descendants to some points only, so the first frame is the part of the
        start from which the last frame descends.
        """
        lines = ancestry(self._population(key, max(n, POPULATION)), frames)
        return self.standardiser.inverse(lines[:, :n])

    @eqx.filter_jit
    def _draw(self, key: Key[Scalar, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """Draws and their acceptance, in one program for samples and diagnostics."""
        cooling = self._population(key, n)
        return cooling.end, jnp.mean(cooling.accepted[-(SETTLING + 1) // 2 :], axis=0)


class NormalisedEnergyModel(EnergyModel, HasDensity):
    """The same with its normaliser, log Z = log ∫ exp(−E)."""

    log_normaliser: Float[Array, ""]

    derived: ClassVar[tuple[str, ...]] = (*EnergyModel.derived, "log_normaliser")
    density_provenance: ClassVar[Provenance] = Provenance.of("quadrature", nodes=NODES)

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return -self._energy(z) - self.log_normaliser


def energy_model(network: Energy) -> EnergyModel:
    """The model of an energy, in standardised coordinates; in one or two dimensions normalised."""
    identity = Standardiser.identity(network.dim)
    if network.dim > 2:
        return EnergyModel(identity, network)
    return NormalisedEnergyModel(identity, network, log_normaliser(network))


@eqx.filter_jit
def log_normaliser(network: Energy, nodes: int = NODES) -> Float[Array, ""]:
    """log ∫ exp(−E(z)) dz over [−RADIUS, RADIUS]^d by the trapezoidal rule, nats.

    Its error falls faster than any power of the spacing for a smooth function that vanishes at the
    border (Trefethen & Weideman, 2014, doi:10.1137/130932132).
    """
    axis, spacing = jnp.linspace(-RADIUS, RADIUS, nodes, retstep=True)
    rest = jnp.meshgrid(*[axis] * (network.dim - 1), indexing="ij")
    others = jnp.stack([r.ravel() for r in rest], axis=1) if rest else jnp.zeros((1, 0))

    def slab(total: Array, first: Array) -> tuple[Array, None]:
        points = jnp.concatenate([jnp.full((len(others), 1), first), others], axis=1)
        energies = jax.vmap(network)(points)
        return jnp.logaddexp(total, jax.nn.logsumexp(-energies)), None

    total, _ = jax.lax.scan(slab, jnp.asarray(-jnp.inf), axis)
    return total + network.dim * jnp.log(spacing)


class Cooling(NamedTuple):
    """The history of a population that passes through the levels."""

    points: Float[Array, "states n d"]
    """The start, then the state after each level."""
    parents: Int[Array, "levels n"]
    """The index, at the level before, of the point that each was moved from."""
    accepted: Float[Array, "levels n"]
    """The accepted share of the moves of each point at the level."""
    end: Float[Array, "n d"]
    """The last of `points`: a program that needs no more does not compute the rest."""


def anneal(key: Key[Scalar, ""], network: Energy, n: int) -> Cooling:
    """A population of n points that cools from N(0, s² I) to p ∝ exp(−E)."""
    start_key, key = jax.random.split(key)
    start = SPREAD * jax.random.normal(start_key, (n, network.dim))
    betas = jnp.concatenate([jnp.linspace(0.0, 1.0, LEVELS + 1) ** 2, jnp.ones(SETTLING)])
    return cool(key, network, start, betas, 1.0)


def cool(
    key: Key[Scalar, ""],
    network: Energy,
    start: Float[Array, "n d"],
    betas: Float[Array, " states"],
    step: float,
) -> Cooling:
    """Bring a population from the first to the last distribution of p_β ∝ N(0, s² I) exp(−β f).

    From one to the next, points are resampled in proportion to exp(−Δβ f), so that every mode gets
    its share even if no point can cross from mode to mode, then moved by Metropolis-adjusted
    Langevin dynamics (`langevin`). The step size, `step` at first, adapts to the accepted share at
    the level before. Known as a sequential Monte Carlo sampler (Del Moral, Doucet & Jasra, 2006,
    doi:10.1111/j.1467-9868.2006.00553.x) or population annealing.
    """
    n = len(start)

    def level(carry: tuple[Walkers, Array], item: tuple[Array, Array, Array]) -> tuple[Any, Any]:
        walkers, step = carry
        level_key, before, beta = item
        draw_key, move_key = jax.random.split(level_key)
        redrawn = systematic(draw_key, (before - beta) * walkers.tilts, n)
        parents = jnp.where(beta == before, jnp.arange(n), redrawn)
        walkers = jax.tree.map(lambda a: a[parents], walkers)
        walkers, accepted = langevin(move_key, network, walkers, beta, step, MOVES)
        return (walkers, adapt(step, accepted)), (walkers.points, parents, accepted)

    begin = (Walkers.at(network, start), jnp.asarray(step))
    items = (jax.random.split(key, len(betas) - 1), betas[:-1], betas[1:])
    (walkers, _), (points, parents, accepted) = jax.lax.scan(level, begin, items)
    history = jnp.concatenate([start[None], points])
    return Cooling(history, parents, accepted, walkers.points)


def ancestry(cooling: Cooling, frames: int) -> Float[Array, "{frames} n d"]:
    """The points at the end and their ancestors at `frames` equally spaced levels, start first."""

    def back(who: Array, level: tuple[Array, Array]) -> tuple[Array, Array]:
        points, parents = level
        return parents[who], points[who]

    levels = (cooling.points[1:], cooling.parents)
    everyone = jnp.arange(len(cooling.end))
    first, lines = jax.lax.scan(back, everyone, levels, reverse=True)
    lines = jnp.concatenate([cooling.points[:1, first], lines])
    return lines[np.linspace(0, len(lines) - 1, frames).astype(int)]


class Walkers(NamedTuple):
    """Points, with f and its gradient there, so that neither is evaluated twice."""

    points: Float[Array, "n d"]
    tilts: Float[Array, " n"]
    """f."""
    slopes: Float[Array, "n d"]
    """∇f."""

    @classmethod
    def at(cls, network: Energy, points: Float[Array, "n d"]) -> "Walkers":
        """Walkers at these points."""
        return cls(points, *jax.vmap(jax.value_and_grad(network.tilt))(points))

    def potential(self, beta: float | Array) -> tuple[Float[Array, " n"], Float[Array, "n d"]]:
        """U_β(z) = β f(z) + ‖z‖² / (2 s²), and its gradient."""
        value = beta * self.tilts + jnp.sum(self.points**2, axis=1) / (2 * SPREAD**2)
        return value, beta * self.slopes + self.points / SPREAD**2


def langevin(
    key: Key[Scalar, ""],
    network: Energy,
    walkers: Walkers,
    beta: float | Array,
    step: Float[Array, ""],
    moves: int,
) -> tuple[Walkers, Float[Array, " n"]]:
    """`moves` Metropolis-adjusted Langevin moves of each point at temperature 1/β.

    With U_β(z) = β f(z) + ‖z‖² / (2 s²) a point proposes

        z′ = z − ε ∇U(z) + √(2ε) n,        n ~ N(0, I),

    and accepts it with probability min(1, exp(U(z) − U(z′)) q(z | z′) / q(z′ | z)), where q is the
    density of the proposal: p_β ∝ exp(−U_β) is invariant, whatever ε. Source: Roberts & Tweedie
    (1996, doi:10.2307/3318418).

    Returns:
        The walkers after the moves, and the accepted share of the moves of each.
    """

    def move(old: Walkers, k: Array) -> tuple[Walkers, Array]:
        noise_key, accept_key = jax.random.split(k)
        noise = jax.random.normal(noise_key, old.points.shape)
        u, slope = old.potential(beta)
        new = Walkers.at(network, old.points - step * slope + jnp.sqrt(2 * step) * noise)
        new_u, new_slope = new.potential(beta)
        back = (old.points - new.points + step * new_slope) / jnp.sqrt(2 * step)
        log_ratio = u - new_u + 0.5 * jnp.sum(noise**2 - back**2, axis=1)
        accept = jnp.log(jax.random.uniform(accept_key, u.shape)) < log_ratio
        choose = lambda a, b: jnp.where(accept.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        return jax.tree.map(choose, new, old), accept.astype(jnp.float32)

    walkers, accepted = jax.lax.scan(move, walkers, jax.random.split(key, moves))
    return walkers, jnp.mean(accepted, axis=0)


def adapt(step: Float[Array, ""], accepted: Float[Array, " n"]) -> Float[Array, ""]:
    """The step size ε of the next moves: larger if more than 60 % were accepted, else smaller.

    An acceptance of 0.574 is optimal in high dimension (Roberts & Rosenthal, 1998,
    doi:10.1111/1467-9868.00123).
    """
    return step * jnp.exp(2 * (jnp.mean(accepted) - 0.6))


def systematic(key: Key[Scalar, ""], log_weights: Float[Array, " m"], n: int) -> Int[Array, " n"]:
    """n indices drawn in proportion to weights, by one uniform number: systematic resampling.

    Source: Kitagawa (1996, doi:10.1080/10618600.1996.10474692).
    """
    ladder = jnp.cumsum(jax.nn.softmax(log_weights))
    rungs = (jnp.arange(n, dtype=float) + jax.random.uniform(key)) / n
    return jnp.minimum(jnp.searchsorted(ladder, rungs), len(log_weights) - 1)
