r"""Variational autoencoder (Kingma & Welling, 2014), importance weighted (Burda et al., 2016).

A latent z ~ N(0, I) is decoded to a Gaussian whose mean and covariance are networks:

    p(x | z) = N(x; f(z), Σ(z)),        p(x) = ∫ N(z; 0, I) p(x | z) dz.

An encoder q(z | x) = N(μ(x), L(x) L(x)ᵀ) proposes latents, and k of them bound the log-density:

    log p(x) ≥ E log (1/k) Σᵢ wᵢ,     wᵢ = N(zᵢ; 0, I) p(x | zᵢ) / q(zᵢ | x),   zᵢ ~ q(· | x).

k = 1 is the ELBO; the bound tightens as k grows, and asks less of the encoder. The signal that
trains the encoder would drown in noise as k grows (Rainforth et al., 2018), so its gradient is
taken through the latents alone, doubly reparametrised (Tucker et al., 2019; `gradient`).

Samples are draws from the prior, decoded, *with* the decoder's noise: they follow p(x), whose value
needs no bound where the latent is planar: the integral is summed over cells (`marginal`).
"""

import dataclasses
import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks.nets import MLP, Activation
from densitometer.blocks.optim import Optimiser, adam, average, descend
from densitometer.domains import Count, Depth, Positive, PositiveOrZero, Share, Steps
from densitometer.estimates import Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasBound, HasDensity, HasPath, Model, Standardiser

SIDE, ROUNDS, SPLITS = 64, 12, 1024
"""The marginal starts from SIDE × SIDE cells, and halves the SPLITS worst of them ROUNDS times."""

NODES = SIDE**2 + ROUNDS * SPLITS
"""Cells of the marginal in the end."""

EDGE = 1e-7
"""Nearest that a node comes to the border of the unit square: 5.2 standard deviations out."""


class Encoder(eqx.Module):
    """q(z | x) = N(μ(x), L(x) L(x)ᵀ)."""

    mlp: MLP
    latent: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " d"]) -> tuple[Float[Array, " l"], Float[Array, "l l"]]:
        """μ(x) and the lower triangular L(x), whose diagonal is positive."""
        out = self.mlp(x)
        mean, log_diagonal, below = jnp.split(out, (self.latent, 2 * self.latent))
        # Narrow at first: a proposal that is too wide wastes its latents.
        return mean, jnp.diag(jnp.exp(log_diagonal - 1.0)) + _below_diagonal(below, self.latent)


class Decoder(eqx.Module):
    """p(x | z) = N(f(z), Σ(z)) with Σ⁻¹ = WᵀW.

    Each coordinate is a regression on those before it: with a strictly lower triangular C(z) and
    standard deviations s(z), x − f = C (x − f) + s n for n ~ N(0, I). So n = W (x − f) with
    W = diag(1/s) (I − C), and no matrix is ever inverted to train.
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
        # A sum of products, which the compiler fuses, as it does no product of small matrices.
        white = jnp.sum(whitener * (x - mean)[None], axis=1)
        return log_normal(white) + _log_det(whitener)


class Autoencoder(eqx.Module):
    """The two conditional laws."""

    encoder: Encoder
    decoder: Decoder

    def bound(self, key: Key[Scalar, ""], x: Float[Array, " d"], k: int) -> Float[Array, ""]:
        """log (1/k) Σ wᵢ for k latents drawn from the proposal, nats."""
        mean, factor = self.encoder(x)

        def log_weight(noise: Float[Array, " l"]) -> Float[Array, ""]:
            z = mean + factor @ noise
            log_proposal = log_normal(noise) - _log_det(factor)
            return log_normal(z) + self.decoder.log_likelihood(x, z) - log_proposal

        log_weights = jax.vmap(log_weight)(jax.random.normal(key, (k, len(mean))))
        return jax.nn.logsumexp(log_weights) - math.log(k)


def gradient(
    networks: Autoencoder, key: Key[Scalar, ""], batch: Float[Array, "b d"], k: int
) -> tuple[Scalar, Autoencoder]:
    """The batch's mean bound, and an unbiased estimate of the gradient of its expectation.

    With ŵᵢ = wᵢ / Σⱼ wⱼ, θ the decoder's parameters, φ the encoder's and zᵢ = μ + L nᵢ,

        ∂θ = E Σᵢ ŵᵢ ∂θ log p(x | zᵢ),        ∂φ = E Σᵢ ŵᵢ² (∂ log wᵢ / ∂zᵢ) (∂zᵢ / ∂φ),

    where φ enters through zᵢ alone (Tucker, Lawson, Gu & Maddison, 2019). The plain ∂φ has ŵᵢ for
    ŵᵢ² and a further term through the parameters of q. For k = 1 this is the ELBO's gradient of
    Roeder, Wu & Duvenaud (2017), which has no variance where the encoder is exact.
    """
    b, latent = len(batch), networks.encoder.latent
    noise = jax.random.normal(key, (b, k, latent))
    # All latents in one long batch: nested ones would double the price of the weights' gradient.
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
    log_q = jax.vmap(jax.vmap(log_normal))(noise) - jax.vmap(_log_det)(factor)[:, None]
    log_w = log_p - log_q
    share = jax.nn.softmax(log_w, axis=1)
    for_decoder, share_times_slope = pull_decoder(share / b)
    # ∂ log q / ∂z = −L⁻ᵀ n, so that of −log q, a row a latent, is nᵀ L⁻¹.
    share_times_slope += (share / b)[..., None] * (noise @ jnp.linalg.inv(factor))
    (for_encoder,) = pull_encoder(share[..., None] * share_times_slope)
    bound = jnp.mean(jax.nn.logsumexp(log_w, axis=1)) - math.log(k)
    return bound, Autoencoder(for_encoder, for_decoder)


class VAEModel(HasBound, HasPath):
    """Prior, decoder and its noise; the encoder serves the bound.

    Its path is the image of the latent ball as it grows, x(s) = μ(sz) + s W(sz)⁻¹ ε with s from 0
    to 1: it shows how the decoder unfolds the ball.
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


class Mixture(eqx.Module):
    """Σₖ weightₖ N(x; meanₖ, (Wₖᵀ Wₖ)⁻¹), `log_scales` being log weightₖ + log det Wₖ."""

    means: Float[Array, "n d"]
    whiteners: Float[Array, "n d d"]
    log_scales: Float[Array, " n"]

    def log_prob(self, x: Float[Array, " d"]) -> Float[Array, ""]:
        """log of the sum, nats."""
        exponent = self.log_scales - 0.5 * len(x) * math.log(2 * math.pi)
        # Entry by entry, which the compiler fuses: products of small matrices, for every pair of
        # point and component, would go through memory at four times the price.
        for i in range(len(x)):
            white = jnp.zeros_like(exponent)
            for j in range(i + 1):
                white += self.whiteners[:, i, j] * (x[j] - self.means[:, j])
            exponent -= 0.5 * white**2
        return jax.nn.logsumexp(exponent)


class PlanarVAEModel(VAEModel, HasDensity):
    """A VAE with a two-dimensional latent, whose marginal is a sum over cells."""

    marginal: Mixture

    density_provenance: ClassVar[Provenance] = Provenance.of("quadrature", nodes=NODES)
    derived: ClassVar[tuple[str, ...]] = (*VAEModel.derived, "marginal")

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self.marginal.log_prob(z)


class Cells(eqx.Module):
    """Rectangles of the unit square, and what the decoder makes of each: see `marginal`."""

    centres: Float[Array, "*n 2"]
    sizes: Float[Array, "*n 2"]
    means: Float[Array, "*n d"]
    covariances: Float[Array, "*n d d"]
    losses: Float[Array, "*n"]
    """Nats lost by taking the cell for one Gaussian, times its probability."""
    axes: Int[Array, "*n"]
    """The side along which the decoder's mean changes most."""


@eqx.filter_jit
def marginal(
    decoder: Decoder, side: int = SIDE, rounds: int = ROUNDS, splits: int = SPLITS
) -> Mixture:
    """∫ N(z; 0, I) p(x | z) dz for a planar z, as a mixture of side² + rounds · splits Gaussians.

    With z = Φ⁻¹(u), coordinate by coordinate, the prior is uniform on the unit square, which is cut
    into cells. A cell is taken for one Gaussian with the mean and the covariance of the law that it
    is decoded to, both by the four nodes of Gauss's rule, u = centre ± size / √12:

        m = ¼ Σᵢ fᵢ,        S = ¼ Σᵢ [Σᵢ + (fᵢ − m)(fᵢ − m)ᵀ].

    The weights are the cells' areas, so the mixture integrates to 1 however coarse they are. What
    is lost, as a Kullback–Leibler divergence, is at most

        area · ¼ Σᵢ KL(N(fᵢ, Σᵢ) ‖ N(m, S)) = area · ½ (log det S − ¼ Σᵢ log det Σᵢ),

    and the `splits` cells where this is largest are halved, `rounds` times over: where the decoder
    leaps from mode to mode, cells become tiny. For trained models the mean log-density of 500
    points is within 2e-4 nats of that by fifty times as many cells, a single one within 0.01.
    """
    line = (jnp.arange(side, dtype=float) + 0.5) / side
    centres = jnp.stack(jnp.meshgrid(line, line), axis=-1).reshape(-1, 2)
    start = _cells(decoder, centres, jnp.full_like(centres, 1 / side))
    room = rounds * splits
    cells = jax.tree.map(lambda a: jnp.pad(a, [(0, room)] + [(0, 0)] * (a.ndim - 1)), start)

    def halve(r: Array, cells: Cells) -> Cells:
        _, worst = jax.lax.top_k(cells.losses, splits)
        empty = side**2 + r * splits + jnp.arange(splits)
        along = jax.nn.one_hot(cells.axes[worst], 2)
        centres, sizes = cells.centres[worst], cells.sizes[worst]
        offset, half = 0.25 * along * sizes, sizes * (1 - 0.5 * along)
        both = lambda one, other: jnp.concatenate([one, other])
        parts = _cells(decoder, both(centres - offset, centres + offset), both(half, half))
        where = both(worst, empty)
        return jax.tree.map(lambda old, new: old.at[where].set(new), cells, parts)

    cells = jax.lax.fori_loop(0, rounds, halve, cells)
    whiteners = jnp.linalg.inv(jnp.linalg.cholesky(cells.covariances))
    log_weights = jnp.sum(jnp.log(cells.sizes), axis=1)
    return Mixture(cells.means, whiteners, log_weights + jax.vmap(_log_det)(whiteners))


def _cells(decoder: Decoder, centres: Float[Array, "n 2"], sizes: Float[Array, "n 2"]) -> Cells:
    corners = jnp.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]]) / math.sqrt(12)

    def cell(centre: Array, size: Array) -> Cells:
        u = centre[None] + size[None] * corners
        means, whiteners = jax.vmap(decoder)(jax.scipy.special.ndtri(jnp.clip(u, EDGE, 1 - EDGE)))
        noise = jnp.linalg.inv(whiteners)
        mean = jnp.mean(means, axis=0)
        apart = means - mean[None]
        covariance = jnp.mean(noise @ noise.mT, axis=0) + apart.T @ apart / 4
        loss = 0.5 * jnp.linalg.slogdet(covariance)[1] + jnp.mean(jax.vmap(_log_det)(whiteners))
        steps = jnp.sign(corners).T @ means
        lengths = jnp.sum(steps * jnp.linalg.solve(covariance, steps.T).T, axis=1)
        # Rounding can make the loss of a tiny cell negative.
        loss = jnp.prod(size) * jnp.maximum(loss, 0.0)
        return Cells(centre, size, mean, covariance, loss, jnp.argmax(lengths))

    return jax.vmap(cell)(centres, sizes)


def _below_diagonal(entries: Float[Array, " m"], n: int) -> Float[Array, "n n"]:
    """A strictly lower triangular matrix, as a product with constants: scattering is slow."""
    rows, columns = jnp.tril_indices(n, -1)
    return jnp.eye(n)[:, rows] * entries[None] @ jnp.eye(n)[columns]


def _log_det(triangular: Float[Array, "n n"]) -> Float[Array, ""]:
    return jnp.sum(jnp.log(jnp.diag(triangular)))


class VAEState(eqx.Module):
    """Parameters, their average, and the optimiser's moments."""

    networks: Autoencoder
    averaged: Autoencoder
    optimiser: optax.OptState


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAE(Family[VAEState]):
    """Variational autoencoder: a latent, a decoder with noise, a bound tightened by k samples."""

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
    """k of the training bound; 1 is the ELBO of the original."""
    learning_rate: Positive = 3e-3
    """Peak rate of Adam; it warms up over 2 % of the steps, then decays along a cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay."""
    ema: Share = 0.1
    """Window of the parameter average that samples and scores, as a share of the steps."""
    latent: Count = 2
    """Dimension of the latent; with 2 the marginal likelihood is computed by quadrature."""
    width: Count = 64
    """Units a hidden layer, of encoder and decoder."""
    depth: Depth = 3
    """Hidden layers of each."""
    min_sd: Positive = 0.02
    """The decoder's standard deviations never fall below this, in standardised units."""

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> VAEState:
        """Fresh networks."""
        encoder_key, decoder_key = jax.random.split(key)
        dim, latent = data.shape[1], self.latent
        # Rectified units make the decoder piecewise linear: it leaps and creases where the law has
        # gaps and edges. With smooth ones the divergence from the spiral is twice as large, with
        # rectified ones in the encoder also.
        encoder = self._network(encoder_key, dim, latent, jax.nn.silu)
        decoder = self._network(decoder_key, latent, dim, jax.nn.relu)
        networks = Autoencoder(Encoder(encoder, latent), Decoder(decoder, dim, self.min_sd))
        return VAEState(networks, networks, self._optimiser().init(networks))

    def step(
        self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]
    ) -> tuple[VAEState, Info]:
        """One Adam step up the bound."""
        bound, ascent = gradient(state.networks, key, batch, self.importance_samples)
        descent = jax.tree.map(jnp.negative, ascent)
        networks, optimiser = descend(self._optimiser(), descent, state.optimiser, state.networks)
        averaged = average(state.averaged, networks, self.ema * self.steps)
        return VAEState(networks, averaged, optimiser), {"loss": -bound}

    def loss(self, key: Key[Scalar, ""], state: VAEState, batch: Float[Array, "b d"]) -> Scalar:
        """The negative bound of the averaged parameters, in nats (standardised coordinates)."""
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
        """Its outputs are a Gaussian's: a mean, and the entries of a triangular matrix.

        The means start as a random map, since a decoder that starts constant stays so and ignores
        its latent. The matrices start near a constant one: untrained laws that are narrow and far
        apart have weights beyond the range of floats.
        """
        numbers = outputs + outputs * (outputs + 1) // 2
        mlp = MLP(key, inputs, numbers, width=self.width, depth=self.depth, activation=activation)
        last = mlp.weights[-1].at[outputs:].multiply(0.1)
        return eqx.tree_at(lambda m: m.weights[-1], mlp, last)

    def _optimiser(self) -> Optimiser:
        return adam(self.learning_rate, self.steps, weight_decay=self.weight_decay)
