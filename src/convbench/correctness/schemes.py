r"""Schemes that save multiplications, and how far their results may lie from the definition.

A backend names its scheme in :attr:`convbench.backends.base.Run.scheme`. What is known here of a
scheme is made from its interpolation points alone, and shares nothing with an implementation.

Winograd's F(m x m, r x r) computes a tile of m x m outputs from n x n inputs d, n = m + r - 1, as

.. math:: Y = A^T M A, \quad M = \sum_c U_c \odot V_c, \quad U_c = G g_c G^T, \quad V_c = B^T d_c B.

Each rounding multiplies an intermediate by 1 + delta, abs(delta) <= u, and adds to an output
delta times its share, which is as large as the intermediate times what it is multiplied by on the
way to that output. With independent deltas of mean zero Hoeffding's inequality gives, as for direct
methods (see :mod:`convbench.correctness.accuracy`),

.. math:: |error| \le \lambda u \sqrt{V}, \quad V \ge \sum_{roundings} share^2.

Let a be the factors with which the points of M enter an output, abs(A^T) x abs(A); |U| and |V| what
the transforms give on absolute values, with absolute matrices; and t the most entries in a row of a
matrix. A transform is one product of t^2 terms, or two passes of t terms each: at most t^2
roundings on any way through it. Then

.. math:: V = \sum_{points} a^2 \Big[C \big(\sum_c |U_c| |V_c|\big)^2
              + t_A (t_B^2 + t_G^2 + 1) \sum_c |U_c|^2 |V_c|^2\Big]
              + t_A^2 \Big(\sum_{points} a |M|\Big)^2

for, in this order,

- C products and additions over the channels, in any order: no partial sum is larger;
- the transforms before them, and 1 for constants like 1/6: what is rounded in the first of two
  passes is seen by a row of points, of which t_A enter an output, and by no other channel. By
  Cauchy's inequality the squares of such sums are t_A times the sums of the squares at most;
- the transform of the sums, whose partial sums are no larger than those of abs(M).

Factors that are rounded before they are multiplied, with u_in, add 2 (u_in / u)^2 to the second
bracket. Worst cases instead of independent errors would give n u times the transforms of |U| |V|:
B. Barabasz, A. Anderson, K. Soodhalter and D. Gregg, "Error Analysis and Improving the Accuracy of
Winograd Convolution for Deep Neural Networks", ACM Trans. Math. Softw. 46(4), 2020, theorem 2. A
row of a matrix that is scaled, and back in another, changes nothing in V: it belongs to the points.

The output is cut into tiles from its first row and column on, and what lies outside of the padded
input is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

from convbench.correctness import oracle
from convbench.correctness.oracle import Float64
from convbench.correctness.sample import Positions
from convbench.errors import ArrayError
from convbench.stimulus.inputs import Inputs
from convbench.stimulus.spec import PipelineSpec, present


@dataclass(frozen=True)
class Winograd:
    """F(m x m, r x r), for dense r x r convolutions without stride and dilation.

    Attributes
    ----------
    m, r : int
    points : tuple of int
        At which the polynomials are evaluated, m + r - 2 of them; the last one is infinity.
    """

    m: int
    r: int
    points: tuple[int, ...]

    def __str__(self) -> str:
        return f"winograd F({self.m}x{self.m},{self.r}x{self.r})"

    @property
    def saves(self) -> float:
        """How many times fewer multiplications a product over the points takes."""
        return (self.m * self.r / (self.m + self.r - 1)) ** 2

    def applies(self, pipeline: PipelineSpec) -> bool:
        """Whether a pipeline can be computed so."""
        conv = pipeline.conv
        ways = ((self.r, self.r), (1, 1), (1, 1), 1)
        return conv is not None and ways == (conv.window, conv.stride, conv.dilation, conv.groups)

    @cached_property
    def transforms(self) -> tuple[Float64, Float64, Float64]:
        """B^T, G and A^T, by Toom and Cook: (n, n), (n, r) and (m, n)."""
        points = np.array(self.points, np.float64)
        roots = [np.delete(points, i) for i in range(len(points))]
        of_input = [polynomial.polyfromroots(others) for others in (*roots, points)]
        inputs = np.array([np.pad(row, (0, len(points) + 1 - len(row))) for row in of_input])
        scales = np.array([np.prod(p - others) for p, others in zip(points, roots, strict=True)])
        powers = polynomial.polyvander(points, self.r - 1) / scales[:, np.newaxis]
        filters = np.vstack([powers, np.eye(self.r)[-1]])
        outputs = np.vstack([polynomial.polyvander(points, self.m - 1), np.eye(self.m)[-1]]).T
        return inputs, filters, outputs

    def is_exact(self, pipeline: PipelineSpec, magnitude: int, digits: int) -> bool:
        """Whether integers of a magnitude leave nothing to round in sums of so many bits.

        The transformed filters have to be multiples of a power of two, in whose units all partial
        sums are integers.
        """
        inputs, filters, outputs = map(np.abs, self.transforms)
        least = filters[filters > 0].min()
        if math.frexp(least)[0] != 0.5 or (filters % least).any():
            return False
        growth = float(np.max(outputs @ (inputs.sum(axis=1) * filters.sum(axis=1)))) ** 2
        largest = growth * pipeline.c * magnitude**2 + magnitude
        return bool(largest <= least**2 * 2**digits)

    def deviations(
        self,
        pipeline: PipelineSpec,
        inputs: Inputs,
        positions: Positions | None,
        least: float,
        coarser: float,
    ) -> Float64:
        """The root of V for each output of the convolution, in the shape that the oracle has.

        Parameters
        ----------
        inputs : Inputs
            In float64.
        least : float
            What u is multiplied by to be the error of a result that underflows.
        coarser : float
            How many times u is the unit roundoff of the factors; 0 if they are not rounded.
        """
        n, p, q, k = pipeline.conv_shape
        m, high, wide = self.m, -(-p // self.m), -(-q // self.m)
        if positions is None:
            tiles = self._tiles(pipeline, inputs, np.arange(n * high * wide), least, coarser)
            whole = tiles.reshape(n, high, wide, m, m, k).swapaxes(2, 3)
            return whole.reshape(n, high * m, wide * m, k)[:, :p, :q]
        rows, columns = oracle.conv_positions(pipeline, positions)
        image = positions[0][:, np.newaxis, np.newaxis]
        row, column = rows.clip(0, p - 1)[:, :, np.newaxis], columns.clip(0, q - 1)[:, np.newaxis]
        numbers = np.ravel_multi_index((image, row // m, column // m), (n, high, wide))
        chosen, which = np.unique(numbers, return_inverse=True)
        tiles = self._tiles(pipeline, inputs, chosen, least, coarser)
        some: Float64 = tiles[which.reshape(numbers.shape), row % m, column % m]
        return some

    def _tiles(
        self,
        pipeline: PipelineSpec,
        inputs: Inputs,
        numbers: NDArray[np.intp],
        least: float,
        coarser: float,
    ) -> Float64:
        """Those of the tiles with these numbers, as (tiles, m, m, K)."""
        (_, p, q, k), c, side = pipeline.conv_shape, pipeline.c, self.m + self.r - 1
        t_b, t_g, t_a = (np.count_nonzero(each, axis=1).max() for each in self.transforms)
        before = t_a * (t_b**2 + t_g**2 + 1) + 2 * coarser**2
        of_input, of_filters, of_output = (np.kron(each, each) for each in self.transforms)
        # So that what is squared neither underflows nor overflows, whatever is near it.
        filters = present(inputs.weights.filters)
        of_x, of_w = _scale(inputs.x), _scale(filters)
        filters = of_w * filters.reshape(self.r**2, c * k)
        u = (of_filters @ filters).reshape(-1, c, k)
        largest_u = (abs(of_filters) @ abs(filters)).reshape(-1, c, k) + of_w * least
        out = np.empty((len(numbers), self.m**2, k))
        step = max(1, _MOST_ELEMENTS // (side**2 * (c + k)))
        for start in range(0, len(numbers), step):
            some = slice(start, start + step)
            images, *corner = np.unravel_index(
                numbers[some], (pipeline.n, -(-p // self.m), -(-q // self.m))
            )
            corners = [
                index * self.m - window.before
                for index, window in zip(corner, pipeline.conv_windows, strict=True)
            ]
            d = oracle.patches(inputs.x, images, corners, [side, side])
            d = of_x * d.reshape(-1, side**2, c).transpose(1, 2, 0).reshape(side**2, -1)
            v, largest_v = (
                each.reshape(side**2, c, -1).swapaxes(1, 2)
                for each in (of_input @ d, abs(of_input) @ abs(d) + of_x * least)
            )
            sums = largest_v @ largest_u + of_x * least * of_w
            squares = largest_v**2 @ largest_u**2
            variance = np.tensordot(of_output**2, c * sums**2 + before * squares, 1)
            variance += (t_a * np.tensordot(abs(of_output), abs(v @ u), 1)) ** 2
            out[some] = (np.sqrt(variance) / of_x / of_w).swapaxes(0, 1)
        return out.reshape(-1, self.m, self.m, k)


def _scale(values: Float64) -> float:
    """A power of two that brings the largest number near to 1, and whose square is finite."""
    largest = np.max(abs(values), where=np.isfinite(values), initial=0.0)
    return 2.0 ** -min(max(math.frexp(largest)[1], -500), 1000)


_MOST_ELEMENTS = 1 << 22
"""Of the points of tiles that are computed at once."""

SCHEMES = {str(s): s for s in (Winograd(2, 3, (0, 1, -1)), Winograd(4, 3, (0, 1, -1, 2, -2)))}
"""Those whose bounds are known, by the names that a backend declares."""


def scheme_of(name: str, pipeline: PipelineSpec) -> Winograd:
    """Look a scheme up.

    Raises
    ------
    ArrayError
        If there is none of that name, or it does not compute such a pipeline.
    """
    if name not in SCHEMES:
        raise ArrayError(
            f"run: the scheme is {name!r:.80}; expected one of {', '.join(SCHEMES)}. Leave it out"
            " for a direct method."
        )
    if not (scheme := SCHEMES[name]).applies(pipeline):
        raise ArrayError(
            f"run: the scheme is {name}; expected none for {pipeline}, which cannot be computed so."
            " Leave it out."
        )
    return scheme
