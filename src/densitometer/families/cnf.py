r"""Continuous normalizing flow, by flow matching or by maximum likelihood.

A velocity field carries noise to data, and the density with it (Chen et al., 2018,
arXiv:1806.07366):

    dz/dt = v(z, t),     z(0) ~ N(0, I),     log q(z(1)) = log N(z(0)) − ∫₀¹ div v(z(t), t) dt.

*Maximum likelihood* (Chen et al., 2018; Grathwohl et al., 2019, arXiv:1810.01367) solves this
backwards from each data point and follows the gradient of log q through the solver. It optimises
what is wanted, but each of its steps solves an ODE and its adjoint.

*Flow matching* (Lipman et al., 2023, arXiv:2210.02747) joins each data point x₁ to noise
x₀ ~ N(0, I) by a line,

    x_t = t x₁ + n x₀,     n = 1 − a t,     a = 1 − σ_min,     dx_t/dt = x₁ − a x₀,

and fits v to the directions of the lines by least squares, without any solver. At the minimum,
v(z, t) = E[x₁ − a x₀ | x_t = z], the flow has the distribution of x_t at every time, so q is the
distribution of the data with noise σ_min. Likelihood can then refine what matching has found.

The textbook's network is v itself. Here it is F, beside the flow that carries N(0, I) along the
same lines to N(0, I):

    v(z, t) = (t − a n) z / r² + F(z / r, t) / r,     r² = t² + n².

F = 0 is the optimum for Gaussian data of unit variance, and the target of F, (n x₁ − t x₀) / r,
then has unit variance at all times. With tan τ = n / t this is the F of Karras et al. (2022,
arXiv:2206.00364), for σ_data = 1 and y = z / t for their noisy point: t / r = cos τ, n / r = sin τ,

    D = E[x₁ | x_t = z] = c_skip y + c_out F(c_in y; c_noise),        loss = E λ ‖D − x₁‖²,

    c_skip = cos² τ,   c_out = sin τ,   c_in = cos τ,   c_noise = s / S,   λ = 1 / n²,

so that flow matching weights ‖F − target‖² by 1 / r². Fine detail is decided last, when the noise n
is small, so both the network's input and the distribution of times are in terms of the *log-time*
s = −log n, from 0 to S = −log σ_min. Matching draws s with density ∝ S − s, where the textbook
draws t uniformly: all octaves of the noise count, but the last ones, at which a network would
memorise the points, count less.
"""

import abc
import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Scalar

from densitometer.blocks import denoising, odes
from densitometer.blocks.denoising import posterior_mean, stratified_uniforms
from densitometer.blocks.nets import FeatureMLP
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
from densitometer.estimates import Provenance
from densitometer.families.base import Family, Info
from densitometer.gaussian import log_normal
from densitometer.models import HasDensity, HasDiagnostics, HasPath, Standardiser

ODE_STEP = 0.36
"""Longest step of the ODE behind a density, in log-time: 10 steps by default. The log-densities of
a trained model are off by 5e-4 nats (rms), their mean by 2e-5."""

CURVE_STEP = 0.72
"""The same for the curves: 5 steps, at half the cost."""

SAMPLE_STEP = 0.5
"""The same for sampling: 8 steps, samples are off by 0.003 (rms, standardised units)."""


class Velocity(eqx.Module):
    """v(z, t)."""

    @abc.abstractmethod
    def __call__(self, z: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
        """v(z, t) for one point z of shape (d,), in standardised units a unit of t."""


class NetworkVelocity(Velocity):
    """v by a multilayer perceptron F on Fourier features of the point and of the log-time."""

    mlp: FeatureMLP
    sigma_min: float = eqx.field(static=True)

    def __init__(self, key: Key[Scalar, ""], dim: int, family: "CNF"):
        self.sigma_min = family.sigma_min
        self.mlp = FeatureMLP(
            key,
            dim,
            dim,
            width=family.width,
            depth=family.depth,
            count=family.fourier_count,
            scale=family.fourier_scale,
            timed=True,
            last_gain=0.1,
        )

    def __call__(self, z: Float[Array, " d"], t: Float[Array, ""]) -> Float[Array, " d"]:
        """(t − a n) z / r² + F(z / r, t) / r."""
        a = 1 - self.sigma_min
        n = 1 - a * t
        r2 = t**2 + n**2
        r = jnp.sqrt(r2)
        share = jnp.log(n) / math.log(self.sigma_min)  # s / S
        return z * ((t - a * n) / r2) + self.mlp(z / r, t=share) / r


class FlowModel(HasDensity, HasPath, HasDiagnostics):
    """The distribution of z(1)."""

    standardiser: Standardiser
    velocity: Velocity
    sigma_min: float = eqx.field(static=True)

    density_provenance: ClassVar[Provenance] = Provenance.of("ode", step=ODE_STEP)

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, " d"]:
        return self._path(key, frames=2)[-1]

    def _path(self, key: Key[Scalar, ""], frames: int) -> Float[Array, "frames d"]:
        start = jax.random.normal(key, (self.dim,))
        last, steps = self._log_time_grid(SAMPLE_STEP)
        return odes.trajectory(
            self._log_time_velocity, start, 0.0, last, frames=frames, steps=steps
        )

    def _log_prob(self, z: Float[Array, " d"]) -> Float[Array, ""]:
        return self._log_density(z, ODE_STEP)

    def _log_density(self, z: Float[Array, " d"], length: float) -> Float[Array, ""]:
        """log q(z) by steps of at most `length`."""
        last, steps = self._log_time_grid(length)
        flow = odes.flow(self._log_time_velocity, z, last, 0.0, steps=steps)
        return log_normal(flow.end) + flow.log_det

    def diagnostics(self, key: Key[Scalar, ""], n: int) -> dict[str, Float[Array, " n"]]:
        """``nfe``: the evaluations of the network for each of n samples."""
        return {"nfe": jnp.full(n, float(odes.evaluations(self._log_time_grid(SAMPLE_STEP)[1])))}

    def _log_time_velocity(self, z: Float[Array, " d"], s: Float[Array, ""]) -> Float[Array, " d"]:
        """dz/ds = v(z, t) dt/ds with s = −log n: equally smooth all along, so equal steps do."""
        a, n = 1 - self.sigma_min, jnp.exp(-s)
        return self.velocity(z, (1 - n) / a) * (n / a)

    def _log_time_grid(self, length: float) -> tuple[float, int]:
        """S, the last log-time, and the number of equal steps of at most `length` up to there."""
        last = -math.log(self.sigma_min)
        return last, math.ceil(last / length)


def negative_log_likelihood(
    velocity: Velocity, points: Float[Array, "n d"], rtol: float
) -> Float[Array, ""]:
    """The mean of −log q, nats, of points that are solved together to the tolerance `rtol`."""
    flow = odes.flow_together(velocity, points, 1.0, 0.0, rtol=rtol)
    return -jnp.mean(jax.vmap(log_normal)(flow.end) + flow.log_det)


class CNFState(eqx.Module):
    """What the next step needs."""

    network: NetworkVelocity
    """The network that flow matching trains."""
    averaged: NetworkVelocity
    """The moving average of its parameters, of which the model is made; likelihood trains it."""
    matching: optax.OptState
    likelihood: optax.OptState
    count: Int[Array, ""]
    """Steps so far."""


class CNFInfo(Info):
    """What a step reports."""

    loss: Float[Array, ""]
    """The objective of the step: mean square error of the velocity, or −log q in nats."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CNF(Family[CNFState]):
    """Continuous normalizing flow: a velocity field carries noise to data, and density with it."""

    name: ClassVar[str] = "cnf"
    label: ClassVar[str] = "CNF"
    colour: ClassVar[int | None] = 5
    papers: ClassVar[tuple[str, ...]] = ("chen2018", "lipman2023", "xu2023")
    path_caption: ClassVar[str] = (
        "The flow’s ODE from t = 0, noise, to t = 1, in equal steps of the logarithm of the noise "
        "that is left."
    )
    loss_draws: ClassVar[int] = 1

    steps: Steps = 2_000
    """Gradient steps at the standard budget."""
    batch_size: Count = 256
    """Points a step of flow matching; each has its own noise and time."""
    posterior_points: CountOrZero = 2048
    """Training points behind a regression target, which is the posterior mean direction of the
    lines to them. 0 for the direction of a single line, as in the textbooks."""
    objective: Literal["matching", "likelihood", "both"] = "matching"
    """Flow matching, maximum likelihood, or matching first and likelihood in the last steps."""
    learning_rate: Positive = 1e-2
    """Peak rate of Adam in matching; it warms up over 2 % of its steps, then decays along a
    cosine."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay, for either objective."""
    ema: Share = 0.1
    """Window of the parameter average, of which the model is made, as a share of the steps."""
    likelihood_share: Share = 0.01
    """Share of the steps, the last ones, in which `both` maximises the likelihood."""
    likelihood_rate: Positive = 1e-4
    """Peak rate of Adam in likelihood steps, which have a schedule of their own."""
    likelihood_batch: Count = 128
    """Points a likelihood step, which costs forty times a step of matching."""
    tolerance: Annotated[float, Range(above=0, below=1)] = 0.03
    """Relative and absolute tolerance of the solver in likelihood steps."""
    width: Count = 128
    """Units of a hidden layer."""
    depth: Depth = 3
    """Hidden layers."""
    fourier_count: Features = 16
    """Random Fourier features of the point; 0 for none."""
    fourier_scale: Positive = 0.1
    """Standard deviation of the features' frequencies, in cycles per standardised unit: a larger
    one gives finer detail and overfits earlier."""
    sigma_min: Annotated[float, Range(at_least=1e-5, below=1)] = 0.03
    """Noise left at the end of matching's lines, in standardised units."""

    def conflicts(self) -> Iterator[str]:
        """Too few points for a mean over them or for a likelihood, or too little noise."""
        points, least = self.posterior_points, self.sigma_min
        yield from denoising.conflicts(points, self.batch_size, "sigma_min", least)
        if self.objective != "matching" and self.likelihood_batch > self.points_per_step:
            most = f"the points of a step, {self.points_per_step}"
            yield f"likelihood_batch must be at most {most}, not {self.likelihood_batch}"

    @property
    def points_per_step(self) -> int:
        """The larger of `batch_size` and `posterior_points`, over which targets are means."""
        return max(self.batch_size, self.posterior_points)

    def init(self, key: Key[Scalar, ""], data: Float[Array, "n d"]) -> CNFState:
        """A network with initial parameters, near the flow of N(0, I) to itself."""
        network = NetworkVelocity(key, data.shape[1], self)
        matching, likelihood = (optimiser.init(network) for optimiser in self._optimisers())
        return CNFState(network, network, matching, likelihood, jnp.zeros((), int))

    def step(
        self, key: Key[Scalar, ""], state: CNFState, batch: Float[Array, "b d"]
    ) -> tuple[CNFState, CNFInfo]:
        """One Adam step on the objective that this step has."""
        if self.objective == "matching":
            return self._matching_step(key, state, batch)
        if self.objective == "likelihood":
            return self._likelihood_step(key, state, batch)
        first, _ = self._phases()
        return jax.lax.cond(
            state.count < first, self._matching_step, self._likelihood_step, key, state, batch
        )

    def loss(self, key: Key[Scalar, ""], state: CNFState, batch: Float[Array, "b d"]) -> Scalar:
        """−log q of the averaged parameters, nats: one curve for all objectives, not random."""
        model = self.model(state)
        return -jnp.mean(jax.vmap(lambda z: model._log_density(z, CURVE_STEP))(batch))

    def model(self, state: CNFState) -> FlowModel:
        """The flow of the averaged parameters."""
        dim = state.averaged.mlp.biases[-1].shape[0]
        return FlowModel(Standardiser.identity(dim), state.averaged, self.sigma_min)

    def _matching_step(
        self, key: Key[Scalar, ""], state: CNFState, batch: Any
    ) -> tuple[CNFState, CNFInfo]:
        loss, gradient = jax.value_and_grad(self._matching_loss)(
            state.network, key, batch[: self.batch_size], batch if self.posterior_points else None
        )
        optimiser, _ = self._optimisers()
        network, matching = descend(optimiser, gradient, state.matching, state.network)
        averaged = average(state.averaged, network, self.ema * self.steps)
        new = CNFState(network, averaged, matching, state.likelihood, state.count + 1)
        return new, CNFInfo(loss)

    def _likelihood_step(
        self, key: Key[Scalar, ""], state: CNFState, batch: Any
    ) -> tuple[CNFState, CNFInfo]:
        points = batch[: self.likelihood_batch]
        loss, gradient = jax.value_and_grad(negative_log_likelihood)(
            state.averaged, points, self.tolerance
        )
        _, optimiser = self._optimisers()
        averaged, likelihood = descend(optimiser, gradient, state.likelihood, state.averaged)
        new = CNFState(state.network, averaged, state.matching, likelihood, state.count + 1)
        return new, CNFInfo(loss)

    def _matching_loss(
        self,
        velocity: Velocity,
        key: Key[Scalar, ""],
        x1: Float[Array, "b d"],
        points: Float[Array, "n d"] | None = None,
    ) -> Scalar:
        """E ‖v(x_t, t) − (x₁ − a x₀)‖² / d over times with density ∝ S − s.

        With `points`, the posterior mean of the directions through x_t, over the lines to all of
        them, takes the place of one direction (`posterior_mean`). The loss is then lower by the
        posterior variance of the target, and its gradient has the same expectation.
        """
        time_key, noise_key = jax.random.split(key)
        a = 1 - self.sigma_min
        n = self.sigma_min ** (1 - jnp.sqrt(stratified_uniforms(time_key, len(x1))))
        t = (1 - n) / a
        x = t[:, None] * x1 + n[:, None] * jax.random.normal(noise_key, x1.shape)
        if points is not None:
            x1 = jax.vmap(posterior_mean, (0, 0, 0, None))(x, t, n, points)
        x0 = (x - t[:, None] * x1) / n[:, None]
        return jnp.mean((jax.vmap(velocity)(x, t) - (x1 - a * x0)) ** 2)

    def _phases(self) -> tuple[int, int]:
        """The numbers of steps of matching and of likelihood."""
        share = {"matching": 0.0, "likelihood": 1.0, "both": self.likelihood_share}[self.objective]
        last = math.ceil(share * self.steps)
        return self.steps - last, last

    def _optimisers(self) -> tuple[Optimiser, Optimiser]:
        """For matching and for likelihood, each with its own schedule."""
        rates = (self.learning_rate, self.likelihood_rate)
        matching, likelihood = (
            adam(rate, steps, weight_decay=self.weight_decay)
            for rate, steps in zip(rates, self._phases(), strict=True)
        )
        return matching, likelihood
