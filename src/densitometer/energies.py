"""What laws known by their energy share, p ∝ exp(−E): a network, a normaliser, a sampler.

The energy is a network's output over a wide Gaussian,

    E(z) = f(z) + ‖z‖² / (2 s²),        s = SPREAD,

and since f grows at most linearly, exp(−E) can always be normalised. The same Gaussian is where
sampling begins.
"""

import abc
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.models import HasDensity, HasDiagnostics, HasEnergy, Standardiser
from densitometer.nets import FeatureMLP

SPREAD = 2.0
"""s: standardised data lie within two or three, where this Gaussian still has mass."""

RADIUS, NODES = 8.0, 512
"""The normaliser is a sum over NODES^d points of [−RADIUS, RADIUS]^d."""

LEVELS, MOVES, LAST_MOVES = 40, 3, 20
"""Temperatures of the sampler, Langevin moves at each, and further moves at the last."""

POPULATION = 1000
"""The sampler works with at least so many points together."""


class Energy(eqx.Module):
    """E(z) = f(z) + ‖z‖² / (2 s²)."""

    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def tilt(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        """f(z): −log of the law's ratio to the Gaussian, up to a constant."""

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


class EnergyModel(HasEnergy, HasDiagnostics):
    """A law known by its energy, sampled by a population that cools from a Gaussian."""

    standardiser: Standardiser
    network: Energy

    def _energy(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.network(z)

    def _population(
        self, key: Key[Scalar, ""], n: int
    ) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """n draws that arise together, and the share of its last moves that each accepted."""
        return anneal(key, self.network, n)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._population(key, POPULATION)[0][0]

    def sample(self, key: Key[Scalar, ""], n: int) -> Float[Array, "n d"]:
        """`n` draws in data coordinates, of one population."""
        points, _ = self._draw(key, max(n, POPULATION))
        return self.standardiser.inverse(points[:n])

    def diagnostics(self, key: Key[Scalar, ""], n: int) -> dict[str, Float[Array, " n"]]:
        """``acceptance``: the share of each point's last Langevin moves that were accepted."""
        return {"acceptance": self._draw(key, max(n, POPULATION))[1][:n]}

    @eqx.filter_jit
    def _draw(self, key: Key[Scalar, ""], n: int) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
        """`_population`, compiled: what takes longest to compile is compiled once for both."""
        return self._population(key, n)


class NormalisedEnergyModel(EnergyModel, HasDensity):
    """The same with its normaliser, log Z = log ∫ exp(−E)."""

    log_normaliser: Float[Array, ""]

    derived: ClassVar[tuple[str, ...]] = (*EnergyModel.derived, "log_normaliser")
    density_provenance: ClassVar[str] = f"quadrature(nodes={NODES})"

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return -self._energy(z) - self.log_normaliser


def energy_model(network: Energy) -> EnergyModel:
    """The law of an energy, in standardised coordinates; in one or two dimensions normalised."""
    identity = Standardiser.identity(network.dim)
    if network.dim > 2:
        return EnergyModel(identity, network)
    return NormalisedEnergyModel(identity, network, log_normaliser(network))


@eqx.filter_jit
def log_normaliser(network: Energy, nodes: int = NODES) -> Float[Array, ""]:
    """log ∫ exp(−E(z)) dz over [−RADIUS, RADIUS]^d by the trapezoidal rule.

    The rule's error falls faster than any power of the spacing for a smooth function that vanishes
    at the border (Trefethen & Weideman, 2014).
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


def anneal(
    key: Key[Scalar, ""], network: Energy, n: int
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """A population of n points that cools from N(0, s² I) to p ∝ exp(−E).

    Between the two lie the laws p_β ∝ N(0, s² I) exp(−β f), β from 0 to 1. From one to the next,
    points are drawn again in proportion to exp(−Δβ f), so that every mode keeps its due share even
    when no point can cross to another, then moved by Metropolis-adjusted Langevin (`langevin`).
    Known as a sequential Monte Carlo sampler (Del Moral, Doucet & Jasra, 2006) or population
    annealing. The length of a move adapts to the share accepted at the level before.

    Returns the points, and the share of its last moves that each accepted.
    """
    start_key, key = jax.random.split(key)
    betas = jnp.linspace(0.0, 1.0, LEVELS + 1) ** 2
    tilt = jax.vmap(network.tilt)

    def level(carry: tuple[Array, Array], item: tuple[Array, Array, Array]) -> tuple[Any, None]:
        points, step = carry
        level_key, before, beta = item
        draw_key, move_key = jax.random.split(level_key)
        points = points[systematic(draw_key, (before - beta) * tilt(points), n)]
        points, accepted = langevin(move_key, network, points, beta, step, MOVES)
        return (points, adapt(step, accepted)), None

    start = SPREAD * jax.random.normal(start_key, (n, network.dim))
    last_key, key = jax.random.split(key)
    items = (jax.random.split(key, LEVELS), betas[:-1], betas[1:])
    (points, step), _ = jax.lax.scan(level, (start, jnp.asarray(1.0)), items)
    return langevin(last_key, network, points, jnp.asarray(1.0), step, LAST_MOVES)


def langevin(
    key: Key[Scalar, ""],
    network: Energy,
    points: Float[Array, "n d"],
    beta: Float[Array, ""],
    step: Float[Array, ""],
    moves: int,
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """`moves` Metropolis-adjusted Langevin moves of each point at temperature 1/β.

    With U_β(z) = β f(z) + ‖z‖² / (2 s²) a point proposes

        z′ = z − ε ∇U(z) + √(2ε) n,        n ~ N(0, I),

    and accepts it with probability min(1, exp(U(z) − U(z′)) q(z | z′) / q(z′ | z)), where q is the
    proposal's density (Roberts & Tweedie, 1996): p_β ∝ exp(−U_β) is left unchanged, whatever ε.

    Returns the points, and the share of its moves that each accepted.
    """

    def potential(z: Array) -> Array:
        return beta * network.tilt(z) + jnp.sum(z**2) / (2 * SPREAD**2)

    look = jax.vmap(jax.value_and_grad(potential))

    def move(carry: tuple[Array, Array, Array], k: Array) -> tuple[Any, Array]:
        z, u, slope = carry
        noise_key, accept_key = jax.random.split(k)
        noise = jax.random.normal(noise_key, z.shape)
        new_z = z - step * slope + jnp.sqrt(2 * step) * noise
        new_u, new_slope = look(new_z)
        back = (z - new_z + step * new_slope) / jnp.sqrt(2 * step)
        log_ratio = u - new_u + 0.5 * jnp.sum(noise**2 - back**2, axis=1)
        accept = jnp.log(jax.random.uniform(accept_key, u.shape)) < log_ratio
        choose = lambda a, b: jnp.where(accept.reshape(-1, *[1] * (a.ndim - 1)), a, b)
        carry = jax.tree.map(choose, (new_z, new_u, new_slope), carry)
        return carry, accept.astype(jnp.float32)

    (points, _, _), accepted = jax.lax.scan(
        move, (points, *look(points)), jax.random.split(key, moves)
    )
    return points, jnp.mean(accepted, axis=0)


def adapt(step: Float[Array, ""], accepted: Float[Array, " n"]) -> Float[Array, ""]:
    """A longer move where more than 60 % are accepted, near the best for Langevin moves."""
    return step * jnp.exp(2 * (jnp.mean(accepted) - 0.6))


def systematic(key: Key[Scalar, ""], log_weights: Float[Array, " m"], n: int) -> Int[Array, " n"]:
    """n indices drawn in proportion to weights, by one uniform number (Kitagawa, 1996)."""
    ladder = jnp.cumsum(jax.nn.softmax(log_weights))
    rungs = (jnp.arange(n, dtype=float) + jax.random.uniform(key)) / n
    return jnp.minimum(jnp.searchsorted(ladder, rungs), len(log_weights) - 1)
