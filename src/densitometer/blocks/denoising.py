"""Posterior means given noisy points, and stratified noise levels.

Denoising families add noise to a data point, z = a x₀ + b n with n ~ N(0, I), and fit a network by
least squares to some y = α z + β x₀. Such a fit finds the mean of y given z, so whatever has that
mean may take the place of y. The textbooks use the x₀ that the noise was added to. But z may have
come from other points as well, with much noise from any of them, and one draw of x₀ is a noisy
estimate of its mean. `posterior_mean` is the mean itself.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

LEAST_NOISE = 1e-3
"""The least b/a at which `posterior_mean` is exact enough in float32."""


def posterior_mean(
    z: Float[Array, " d"],
    a: Float[Array, ""],
    b: Float[Array, ""],
    points: Float[Array, "n d"],
) -> Float[Array, " d"]:
    """E[x₀ | z] for z = a x₀ + b n and x₀ uniform on `points`.

        Σⱼ wⱼ xⱼ / Σⱼ wⱼ,        wⱼ = exp(−‖z − a xⱼ‖² / 2b²).

    As a regression target it has the same expectation as x₀ and a lower variance, however few the
    points, as long as x₀ was drawn from them: E[E[x₀ | z, points] | z] = E[x₀ | z]. Costs n (d + 1)
    products. Squares are expanded, so in float32 b/a should not be below `LEAST_NOISE` of the
    points' spread. Source: Xu, Tong & Jaakkola (2023, arXiv:2302.00670).
    """
    ones = jnp.ones((len(points), 1))
    squares = jnp.sum(points**2, axis=1, keepdims=True)
    # −‖z − a xⱼ‖² / 2b² without the term that is the same for all j, as one product.
    query = jnp.append(a * z, -0.5 * a**2) / b**2
    # In full precision: the half precision of an accelerator is too coarse beside b².
    logits = jnp.matmul(query, jnp.concatenate([points, squares], axis=1).T, precision="highest")
    weights = jnp.exp(logits - jnp.max(logits))
    sums = weights @ jnp.concatenate([points, ones], axis=1)
    return sums[:-1] / sums[-1]


def conflicts(posterior_points: int, batch_size: int, least: str, noise: float) -> Iterator[str]:
    """Why targets cannot be means over `posterior_points` points: sentences of `Family.conflicts`.

    `least` is the name of the field that holds `noise`, the smallest noise level.
    """
    if 0 < posterior_points < batch_size:
        least_points = f"0 or at least batch_size = {batch_size}"
        yield f"posterior_points must be {least_points}, not {posterior_points}"
    if posterior_points and noise < LEAST_NOISE:
        yield f"{least} must be at least {LEAST_NOISE} unless posterior_points is 0, not {noise}"


def stratified_uniforms(key: Key[Scalar, ""], n: int) -> Float[Array, " n"]:
    """n numbers in [0, 1), each uniform, together evenly spaced: (i/n + u) mod 1 for i = 0 … n − 1.

    Noise levels at these quantiles give a gradient of lower variance than independent ones (Kingma
    et al., 2021, arXiv:2107.00630).
    """
    return (jnp.arange(n) / n + jax.random.uniform(key)) % 1.0
