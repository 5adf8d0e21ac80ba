"""What families share that learn to take noise away: noise levels, and what hides behind the noise.

They blur a data point, z = a x₀ + b n with n ~ N(0, I), and fit a network by least squares to some
y = α z + β x₀. All that such a fit can find is the mean of y at each z, so whatever has that mean
may stand for y. The textbooks take the x₀ that was blurred. But z may have come from other points
as well, and where there is much noise from all of them: what one draw says of the mean is mostly
chance. `posterior_mean` is the mean itself.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

LEAST_NOISE = 1e-3
"""The least b/a at which `posterior_mean` is a mean over points, and not over their rounding."""


def posterior_mean(
    z: Float[Array, " d"],
    a: Float[Array, ""],
    b: Float[Array, ""],
    points: Float[Array, "n d"],
) -> Float[Array, " d"]:
    """E[x₀ | z] for z = a x₀ + b n, if x₀ is one of `points`, each as likely as any other.

        Σⱼ wⱼ xⱼ / Σⱼ wⱼ,        wⱼ = exp(−‖z − a xⱼ‖² / 2b²).

    In the place of x₀ in a regression on z it changes nothing in the mean, however few the points,
    as long as x₀ was drawn from them: E[E[x₀ | z, points] | z] = E[x₀ | z]. What it takes away is
    chance. Source: Xu, Tong & Jaakkola (2023). Costs n (d + 1) products. Squares are expanded, so
    in float32 b/a should not be below `LEAST_NOISE` of the points' spread.
    """
    ones = jnp.ones((len(points), 1))
    squares = jnp.sum(points**2, axis=1, keepdims=True)
    # −‖z − a xⱼ‖² / 2b² but for what is the same for all j, as one product.
    query = jnp.append(a * z, -0.5 * a**2) / b**2
    # In full precision: an accelerator's halves would spoil what is divided by b².
    logits = jnp.matmul(query, jnp.concatenate([points, squares], axis=1).T, precision="highest")
    weights = jnp.exp(logits - jnp.max(logits))
    sums = weights @ jnp.concatenate([points, ones], axis=1)
    return sums[:-1] / sums[-1]


def conflicts(posterior_points: int, batch_size: int, least: str, noise: float) -> Iterator[str]:
    """What makes no sense in a fit to means over `posterior_points` points: see `Family.conflicts`.

    `least` is the name of the field that holds `noise`, the least noise there is.
    """
    if 0 < posterior_points < batch_size:
        least_points = f"0 or at least batch_size = {batch_size}"
        yield f"posterior_points must be {least_points}, not {posterior_points}"
    if posterior_points and noise < LEAST_NOISE:
        yield f"{least} must be at least {LEAST_NOISE} unless posterior_points is 0, not {noise}"


def stratified_uniforms(key: Key[Scalar, ""], n: int) -> Float[Array, " n"]:
    """n numbers in [0, 1), each of them uniform, together evenly spaced: (i/n + u) mod 1.

    Noise levels at such quantiles make a steadier gradient than independent ones (Kingma et al.,
    2021).
    """
    return (jnp.arange(n) / n + jax.random.uniform(key)) % 1.0
