r"""Variational autoencoder, importance weighted, with its marginal density.

A latent z ~ N(0, I) is decoded to a Gaussian whose mean and covariance are networks (Kingma &
Welling, 2014, arXiv:1312.6114):

    p(x | z) = N(x; f(z), Σ(z)),        p(x) = ∫ N(z; 0, I) p(x | z) dz.

An encoder q(z | x) = N(μ(x), L(x) L(x)ᵀ) proposes latents, and k of them bound the log-density
(Burda, Grosse & Salakhutdinov, 2016, arXiv:1509.00519):

    log p(x) ≥ E log (1/k) Σᵢ wᵢ,     wᵢ = N(zᵢ; 0, I) p(x | zᵢ) / q(zᵢ | x),   zᵢ ~ q(· | x).

k = 1 is the ELBO; the bound tightens as k grows, and asks less of the encoder. The signal in the
encoder's gradient would drown in noise as k grows (Rainforth et al., 2018, arXiv:1802.04537), so it
is taken through the latents alone, doubly reparametrised (Tucker et al., 2019, arXiv:1810.04152;
`gradient`).

Samples are draws from the prior, decoded, *with* the decoder's noise: they follow p(x), whose value
needs no bound if the latent is planar, where the integral is a sum over cells
(`blocks.quadrature`).
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key, Scalar

from densitometer.blocks.nets import MLP, Activation
from densitometer.blocks.optim import Optimiser, adam, average, descend
from densitometer.blocks.quadrature import NODES, Mixture, log_det, marginal
from densitometer.domains import Count, Depth, Positive, PositiveOrZero, Share, Steps
from densitometer.estimates import Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasBound, HasDensity, HasPath, Model, Standardiser


class Encoder(eqx.Module):
    """q(z | x) = N(μ(x), L(x) L(x)ᵀ)."""

    mlp: MLP
    latent: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " d"]) -> tuple[Float[Array, " l"], Float[Array, "l l"]]:
        """μ(x) and the lower triangular L(x), whose diagonal is positive."""
        out = self.mlp(x)
        mean, log_diagonal, below = jnp.split(out, (self.latent, 2 * self.latent))
        # Narrow at the start: a proposal that is too wide wastes its latents.
        return mean, jnp.diag(jnp.exp(log_diagonal - 1.0)) + _below_diagonal(below, self.latent)


class Decoder(eqx.Module):
    """p(x | z) = N(f(z), Σ(z)) with Σ⁻¹ = WᵀW.

    Each coordinate is a regression on those before it: with a strictly lower triangular C(z) and
    standard deviations s(z), x − f = C (x − f) + s n for n ~ N(0, I). So n = W (x − f) with
    W = diag(1/s) (I − C), and training inverts no matrix.
    """

    mlp: MLP
    dim: int = eqx.field(static=True)
    min_sd: float = eqx.field(static=True)

    def __call__(self, z: Float[Array, " l"]) -> tuple[Float[Array, " d"], Float[Array, "d d"]]:
        """f(z) and the lower triangular W(z), whose diagonal is positive."""
        mean, log_sd, below = jnp.split(self.mlp(z), (self.dim, 2 * self.dim))
        regression = jnp.eye(self.dim) - _below_diagonal(below, self.dim)
        return mean, regression / (jnp.exp(log_sd) + self.min_sd)[:, None]

    def log_likelihood(self, x: Float[Array, " d"], z: Float[Array, " l"]) -> Float[Array, ""]:
        """log p(x | z), nats."""
        mean, whitener = self(z)
        # A sum of products, which the compiler fuses; a product of small matrices it does not.
        white = jnp.sum(whitener * (x - mean)[None], axis=1)
        return log_normal(white) + log_det(whitener)


class Autoencoder(eqx.Module):
    """The two conditional distributions."""

    encoder: Encoder
    decoder: Decoder

    def bound(self, key: Key[Scalar, ""], x: Float[Array, " d"], k: int) -> Float[Array, ""]:
        """log (1/k) Σ wᵢ for k latents drawn from the encoder, nats."""
        mean, factor = self.encoder(x)

        def log_weight(noise: Float[Array, " l"]) -> Float[Array, ""]:
            z = mean + factor @ noise
            log_proposal = log_normal(noise) - log_det(factor)
            return log_normal(z) + self.decoder.log_likelihood(x, z) - log_proposal

        log_weights = jax.vmap(log_weight)(jax.random.normal(key, (k, len(mean))))
        return jax.nn.logsumexp(log_weights) - math.log(k)


def gradient(
    networks: Autoencoder, key: Key[Scalar, ""], batch: Float[Array, "b d"], k: int
) -> tuple[Scalar, Autoencoder]:
    """The mean bound of a batch, and an unbiased estimate of the gradient of its expectation.

    With ŵᵢ = wᵢ / Σⱼ wⱼ, θ the decoder's parameters, φ the encoder's and zᵢ = μ + L nᵢ,

        ∂θ = E Σᵢ ŵᵢ ∂θ log p(x | zᵢ),        ∂φ = E Σᵢ ŵᵢ² (∂ log wᵢ / ∂zᵢ) (∂zᵢ / ∂φ),

    where φ enters through zᵢ alone (Tucker, Lawson, Gu & Maddison, 2019, arXiv:1810.04152). The
    plain ∂φ has ŵᵢ for ŵᵢ² and a further term through the parameters of q. For k = 1 this is the
    ELBO's gradient of Roeder, Wu & Duvenaud (2017, arXiv:1703.09194), which has no variance where
    the encoder is exact.
    """
    b, latent = len(batch), networks.encoder.latent
    noise = jax.random.normal(key, (b, k, latent))
    # All latents in one long batch: nested ones would double the cost of the weights' gradient.
    points = jnp.repeat(batch, k, axis=0)

    def propose(encoder: Encoder) -> tuple[Array, Array]:
        mean, factor = jax.vmap(encoder)(batch)
        return mean[:, None] + noise @ factor.mT, factor

    def log_joint(decoder: Decoder, z: Array) -> Array:
        flat = z.reshape(b * k, latent)
        log_p = jax.vmap(log_normal)(flat) + jax.vmap(decoder.log_likelihood)(points, flat)
        return log_p.reshape(b, k)

    z, pull_encoder, factor = jax.vjp(propose, networks.encoder, has_aux=True)
    log_p, pull_decoder = jax.vjp(log_joint, networks.decoder, z)
    log_q = jax.vmap(jax.vmap(log_normal))(noise) - jax.vmap(log_det)(factor)[:, None]
    log_w = log_p - log_q
    share = jax.nn.softmax(log_w, axis=1)
    for_decoder, share_times_slope = pull_decoder(share / b)
    # ∂ log q / ∂z = −L⁻ᵀ n; that of −log q, with a row a latent, is nᵀ L⁻¹.
    share_times_slope += (share / b)[..., None] * (noise @ jnp.linalg.inv(factor))
    (for_encoder,) = pull_encoder(share[..., None] * share_times_slope)
    bound = jnp.mean(jax.nn.logsumexp(log_w, axis=1)) - math.log(k)
    return bound, Autoencoder(for_encoder, for_decoder)


class VAEModel(HasBound, HasPath):
    """Prior, decoder and its noise, with the encoder for the bound.

    Its path is the image of the noise as it grows, x(s) = f(sz) + s W(sz)⁻¹ ε with s from 0 to 1,
    which shows how the decoder unfolds the latent ball.
    """

    standardiser: Standardiser
    networks: Autoencoder

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._decode(*self._noise(key))

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        z, noise = self._noise(key)
        return jax.vmap(lambda s: self._decode(s * z, s * noise))(jnp.linspace(0.0, 1.0, frames))

    def _noise(self, key: Key[Scalar, ""]) -> tuple[Float[Array, " l"], Float[Array, " d"]]:
        latent_key, noise_key = jax.random.split(key)
        z = jax.random.normal(latent_key, (self.networks.encoder.latent,))
        return z, jax.random.normal(noise_key, (self.dim,))

    def _decode(self, z: Float[Array, " l"], noise: Float[Array, " d"]) -> Float[Array, " d"]:
        mean, whitener = self.networks.decoder(z)
        return mean + jnp.linalg.solve(whitener, noise)

    def _log_prob_bound(
        self, key: Key[Scalar, ""], z: Float[Array, " d"], k: int
    ) -> Float[Array, ""]:
        return self.networks.bound(key, z, k)


class PlanarVAEModel(VAEModel, HasDensity):
    """A VAE with a planar latent, whose marginal density is a sum over cells."""

    marginal: Mixture

    density_provenance: ClassVar[Provenance] = Provenance.of("quadrature", nodes=NODES)
    derived: ClassVar[tuple[str, ...]] = (*VAEModel.derived, "marginal")

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.marginal.log_prob(z)


def _below_diagonal(entries: Float[Array, " m"], n: int) -> Float[Array, "n n"]:
    """The strictly lower triangular matrix of its entries, row by row."""
    rows, columns = jnp.tril_indices(n, -1)
    # A product with constants: scattering is slow.
    return jnp.eye(n)[:, rows] * entries[None] @ jnp.eye(n)[columns]


class VAEState(eqx.Module):
    """What the next step needs."""

    networks: Autoencoder
    averaged: Autoencoder
    """The moving average of the networks' parameters, of which the model is made."""
    optimiser: optax.OptState


class VAEInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The negative bound in nats, with `importance_samples` latents a point."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAE(Family[VAEState]):
    """Variational autoencoder: a decoder of a latent, learnt by a bound that k samples tighten."""

    name: ClassVar[str] = "vae"
    label: ClassVar[str] = "VAE"
    colour: ClassVar[int | None] = 3
    papers: ClassVar[tuple[str, ...]] = ("kingma2014", "burda2016")
    path_caption: ClassVar[str] = (
        "The noise is scaled by s, from 0 (left) to 1 (right), and mapped by the decoder: how it "
        "unfolds the latent ball."
    )
    loss_draws: ClassVar[int] = 8

    steps: Steps = 8_000
    """Gradient steps at the standard budget."""
    batch_size: Count = 128
    """Points a step."""
    importance_samples: Count = 8
    """Latents a point in the training bound, k; 1 is the ELBO of the original."""
    learning_rate: Positive = 3e-3
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    ema: Share = 0.1
    """Window of the parameter average, of which the model is made, as a share of the steps."""
    latent: Count = 2
    """Dimension of the latent; with 2 the marginal density is computed by quadrature."""
    width: Count = 64
    """Units of a hidden layer, for encoder and decoder."""
    depth: Depth = 3
    """Hidden layers, for encoder and decoder."""
    min_sd: Positive = 0.02
    """Least standard deviation of the decoder, in standardised units."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> VAEState:
        """Networks with initial parameters."""
        encoder_key, decoder_key = jax.random.split(key)
        dim, latent = data.shape[1], self.latent
        # Rectified units make the decoder piecewise linear: it leaps and creases where the data
        # have gaps and edges. With smooth units the divergence from the spiral is twice as large,
        # and so it is with rectified ones in the encoder.
        encoder = self._network(encoder_key, dim, latent, jax.nn.silu)
        decoder = self._network(decoder_key, latent, dim, jax.nn.relu)
        networks = Autoencoder(Encoder(encoder, latent), Decoder(decoder, dim, self.min_sd))
        return VAEState(networks, networks, self._optimiser().init(networks))

    def step(
        self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]
    ) -> tuple[VAEState, VAEInfo]:
        """One Adam step up the bound."""
        bound, ascent = gradient(state.networks, key, batch, self.importance_samples)
        descent = jax.tree.map(jnp.negative, ascent)
        networks, optimiser = descend(self._optimiser(), descent, state.optimiser, state.networks)
        averaged = average(state.averaged, networks, self.ema * self.steps)
        return VAEState(networks, averaged, optimiser), VAEInfo(-bound)

    def loss(self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]) -> Scalar:
        """The negative bound of the averaged parameters, nats in standardised coordinates."""
        keys = jax.random.split(key, len(batch))
        bound = lambda k, x: state.averaged.bound(k, x, self.importance_samples)
        return -jnp.mean(jax.vmap(bound)(keys, batch))

    def model(self, state: VAEState) -> Model:
        """Prior and decoder; with a planar latent the model has a density."""
        networks = state.averaged
        identity = Standardiser.identity(networks.decoder.dim)
        if self.latent == 2:
            return PlanarVAEModel(identity, networks, marginal(networks.decoder))
        return VAEModel(identity, networks)

    def _network(
        self, key: Key[Scalar, ""], inputs: int, outputs: int, activation: Activation
    ) -> MLP:
        """A network of a Gaussian's parameters: a mean, and the entries of a triangular matrix.

        The means start as a random map, since a decoder that starts constant stays so and ignores
        its latent. The matrices start nearly constant: untrained Gaussians that are narrow and far
        apart have weights beyond the range of floats.
        """
        numbers = outputs + outputs * (outputs + 1) // 2
        mlp = MLP(key, inputs, numbers, width=self.width, depth=self.depth, activation=activation)
        last = mlp.weights[-1].at[outputs:].multiply(0.1)
        return eqx.tree_at(lambda m: m.weights[-1], mlp, last)

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
