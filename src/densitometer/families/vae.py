r"""Variational autoencoder (Kingma & Welling, 2014), importance weighted (Burda et al., 2016).

A latent z ~ N(0, I) is decoded to a Gaussian whose mean and standard deviation are networks:

    p(x | z) = N(x; f(z), σ(z)² I),        p(x) = ∫ N(z; 0, I) p(x | z) dz.

An encoder q(z | x) = N(μ(x), L(x) L(x)ᵀ) proposes latents, and k of them bound the log-density:

    log p(x) ≥ E log (1/k) Σᵢ wᵢ,     wᵢ = N(zᵢ; 0, I) p(x | zᵢ) / q(zᵢ | x),   zᵢ ~ q(· | x).

k = 1 is the ELBO; the bound tightens as k grows, and asks less of the encoder. Samples are draws
from the prior, decoded, *with* the decoder's noise: they follow p(x), whose value in low latent
dimension needs no bound: a lattice over z gives the integral itself.
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.families.base import Family, Info
from densitometer.models import HasBound, HasDensity, Model, Standardiser
from densitometer.nets import MLP, fourier_features, log_normal
from densitometer.optim import Optimiser, adam, average, descend

RADIUS, NODES = 4.6, 400
"""The lattice over a planar latent: NODES × NODES points of [−RADIUS, RADIUS]²."""


class Autoencoder(eqx.Module):
    """The encoder's and the decoder's networks, as the two conditional laws they stand for."""

    encoder: MLP
    decoder: MLP
    latent: int = eqx.field(static=True)
    count: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    min_sd: float = eqx.field(static=True)

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "VAE"):
        encoder_key, decoder_key = jax.random.split(key)
        self.latent, self.min_sd = family.latent, family.min_sd
        self.count, self.scale = family.fourier_count, family.fourier_scale
        width, depth = family.width, family.depth
        lower = self.latent * (self.latent + 1) // 2
        self.encoder = MLP(
            encoder_key, dim + 2 * self.count, self.latent + lower, width=width, depth=depth
        )
        self.decoder = MLP(decoder_key, self.latent, dim + 1, width=width, depth=depth)

    def encode(self, x: Float[Array, " d"]) -> tuple[Float[Array, " l"], Float[Array, "l l"]]:
        """μ(x) and the Cholesky factor L(x) of the proposal's covariance."""
        out = self.encoder(fourier_features(x, self.count, self.scale))
        mean, entries = out[: self.latent], out[self.latent :]
        factor = (
            jnp.zeros((self.latent, self.latent)).at[jnp.tril_indices(self.latent)].set(entries)
        )
        diagonal = jnp.exp(jnp.diag(factor) - 1.0)
        return mean, jnp.tril(factor, -1) + jnp.diag(diagonal)

    def decode(self, z: Float[Array, " l"]) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """f(z) and log σ(z)."""
        out = self.decoder(z)
        return out[:-1], jnp.logaddexp(out[-1], math.log(self.min_sd))

    def log_likelihood(self, x: Float[Array, " d"], z: Float[Array, " l"]) -> Float[Array, ""]:
        """log p(x | z)."""
        mean, log_sd = self.decode(z)
        return log_normal((x - mean) * jnp.exp(-log_sd)) - len(x) * log_sd

    def bound(self, key: Key[Scalar, ""], x: Float[Array, " d"], k: int) -> Float[Array, ""]:
        """log (1/k) Σ wᵢ for k latents drawn from the proposal."""
        mean, factor = self.encode(x)

        def log_weight(noise: Float[Array, " l"]) -> Float[Array, ""]:
            z = mean + factor @ noise
            log_proposal = log_normal(noise) - jnp.sum(jnp.log(jnp.diag(factor)))
            return log_normal(z) + self.log_likelihood(x, z) - log_proposal

        log_weights = jax.vmap(log_weight)(jax.random.normal(key, (k, self.latent)))
        return jax.nn.logsumexp(log_weights) - math.log(k)


class VAEModel(HasBound):
    """Prior, decoder and its noise; the encoder serves the bound."""

    standardiser: Standardiser
    networks: Autoencoder

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        latent_key, noise_key = jax.random.split(key)
        mean, log_sd = self.networks.decode(jax.random.normal(latent_key, (self.networks.latent,)))
        return mean + jnp.exp(log_sd) * jax.random.normal(noise_key, mean.shape)

    def _log_prob_bound(
        self, key: Key[Scalar, ""], z: Float[Array, " d"], k: int
    ) -> Float[Array, ""]:
        return self.networks.bound(key, z, k)


class PlanarVAEModel(VAEModel, HasDensity):
    """A VAE with a two-dimensional latent, whose marginal is a sum over a lattice.

    With bumps of width b = 0.7 h on a lattice of spacing h in the latent, the prior is

        N(z; 0, I) = Σ_k w_k N(z; z_k, b² I),    w_k = h² N(z_k; 0, (1 − b²) I),

    to within 2e-4 of its value, in ripples that average out. On one bump the decoder is taken for
    linear, so

        p(x) ≈ Σ_k w_k N(x; f(z_k), σ(z_k)² I + b² J_k J_kᵀ),    J_k = ∂f/∂z (z_k).

    The error is of second order in b and comes from where the decoder bends sharply, between modes;
    the mass outside the lattice is below 1e-4.
    """

    nodes: int = eqx.field(static=True)

    density_provenance: ClassVar[str] = f"quadrature(nodes={NODES}x{NODES})"

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        axis = jnp.linspace(-RADIUS, RADIUS, self.nodes)
        h = 2 * RADIUS / (self.nodes - 1)
        b = 0.7 * h

        def component(latent: Float[Array, " l"]) -> Float[Array, ""]:
            mean, log_sd = self.networks.decode(latent)
            jacobian = jax.jacfwd(lambda u: self.networks.decode(u)[0])(latent)
            covariance = jnp.exp(2 * log_sd) * jnp.eye(self.dim) + b**2 * jacobian @ jacobian.T
            # Inverted here, once a node: a triangular solve would run for every pair of node and
            # point, at a hundred times the price of a product.
            inverse = jnp.linalg.inv(jnp.linalg.cholesky(covariance))
            spread = math.sqrt(1 - b**2)
            log_weight = 2 * math.log(h / spread) + log_normal(latent / spread)
            log_det = jnp.sum(jnp.log(jnp.diag(inverse)))
            return log_weight + log_normal(inverse @ (z - mean)) + log_det

        def row(total: Array, first: Array) -> tuple[Array, None]:
            latents = jnp.stack([jnp.full_like(axis, first), axis], axis=1)
            return jnp.logaddexp(total, jax.nn.logsumexp(jax.vmap(component)(latents))), None

        return jax.lax.scan(row, jnp.asarray(-jnp.inf), axis)[0]


class VAEState(eqx.Module):
    """Parameters, their average, and the optimiser's moments."""

    networks: Autoencoder
    averaged: Autoencoder
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAE(Family):
    """Variational autoencoder: a latent, a decoder with noise, a bound tightened by k samples."""

    name: ClassVar[str] = "vae"
    zero_allowed: ClassVar[tuple[str, ...]] = ("weight_decay", "fourier_count")

    steps: int = 5_000
    """Gradient steps at the standard budget."""
    batch_size: int = 256
    """Points a step."""
    importance_samples: int = 8
    """k of the training bound; 1 is the ELBO of the original."""
    learning_rate: float = 2e-3
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    ema: float = 0.1
    """Window of the parameter average that samples and scores, as a share of the steps."""
    latent: int = 2
    """Dimension of the latent; with 2 the marginal likelihood is computed by quadrature."""
    width: int = 96
    """Units a hidden layer, of encoder and decoder."""
    depth: int = 3
    """Hidden layers of each."""
    fourier_count: int = 0
    """Random Fourier features of the point at the encoder; 0 for none."""
    fourier_scale: float = 0.5
    """Their standard frequency, in cycles per standardised unit."""
    min_sd: float = 0.005
    """The decoder's standard deviation never falls below this, in standardised units."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> VAEState:
        """Fresh networks."""
        networks = Autoencoder(key, data.shape[1], self)
        return VAEState(networks, networks, self._optimiser().init(networks))

    def step(
        self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]
    ) -> tuple[VAEState, Info]:
        """One Adam step on the negative bound."""
        loss, gradient = jax.value_and_grad(self._negative_bound)(state.networks, key, batch)
        networks, optimiser = descend(self._optimiser(), gradient, state.optimiser, state.networks)
        averaged = average(state.averaged, networks, self.ema * self.steps)
        return VAEState(networks, averaged, optimiser), {"loss": loss}

    def loss(self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]) -> Scalar:
        """The negative bound of the averaged parameters, in nats (standardised coordinates)."""
        return self._negative_bound(state.averaged, key, batch)

    def model(self, state: VAEState) -> Model:
        """Prior and decoder; with a 2-D latent the model has a density."""
        networks = state.averaged
        identity = Standardiser.identity(networks.decoder.biases[-1].shape[0] - 1)
        if self.latent == 2:
            return PlanarVAEModel(identity, networks, nodes=NODES)
        return VAEModel(identity, networks)

    def _negative_bound(
        self, networks: Autoencoder, key: Key[Scalar, ""], batch: Float[Array, "b d"]
    ) -> Scalar:
        keys = jax.random.split(key, len(batch))
        bounds = jax.vmap(lambda k, x: networks.bound(k, x, self.importance_samples))(keys, batch)
        return -jnp.mean(bounds)

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
