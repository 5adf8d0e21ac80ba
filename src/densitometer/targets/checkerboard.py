"""A checkerboard."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Scalar

from densitometer.targets.base import Box, Target
from densitometer.targets.certificate import Certificate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkerboard(Target):
    """Uniform on the dark squares of a board centred at 0, edges excluded above and right.

    With the column i = ⌊x₁ / side⌋ and the row j = ⌊x₂ / side⌋,

        p(x) = 1 / (squares² / 2 · side²)        where −squares/2 ≤ i, j < squares/2, i + j even,

    and 0 elsewhere: 1/32 on [−4, 4)² by default. The score is 0 wherever it exists. A point is off
    the support exactly if it is on no dark square.
    """

    name: ClassVar[str] = "checkerboard"
    label: ClassVar[str] = "Checkerboard"
    in_prose: ClassVar[str] = "the checkerboard"
    dim: ClassVar[int] = 2
    smooth: ClassVar[bool] = False

    squares: int = 4
    """Squares along an edge of the board, dark and light; even."""

    side: float = 2.0
    """Length of a square's side."""

    @property
    def box(self) -> Box:
        """The board."""
        half = self.squares / 2 * self.side
        return (-half, -half), (half, half)

    @property
    def certificate(self) -> Certificate:
        """Exact, whatever the parameters."""
        return Certificate.uniform(self._area)

    @property
    def _area(self) -> float:
        return self.squares**2 / 2 * self.side**2

    def _sample(self, key: Key[Scalar, ""]) -> Float[Array, "2"]:
        u = jax.random.uniform(key, (4,))
        half = self.squares // 2
        column = jnp.floor(self.squares * u[0]) - half
        # Of each two neighbours in a column, the one whose row has the column's parity.
        row = 2 * jnp.floor(half * u[1]) - half
        row = row + (column + row) % 2
        # Float32 holds i + u exactly for −2 ≤ i < 2 and the multiples u of 2⁻²³ that `uniform`
        # draws, so no point is rounded on to the next square; on a board of more squares, or with
        # a side that is no power of two, one in some millions is.
        return self.side * (jnp.stack([column, row]) + u[2:])

    def _log_prob(self, x: Float[Array, "2"]) -> Float[Array, ""]:
        index = jnp.floor(x / self.side)
        half = self.squares // 2
        on_board = jnp.all((index >= -half) & (index < half))
        dark = on_board & (jnp.sum(index) % 2 == 0)
        return jnp.where(dark, -math.log(self._area), -jnp.inf)
