"""Semantic density distribution loss: two sets should be equally dense around every row."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn

from protclip.config import Divergence, Reduction, check_choice, check_number, check_switch
from protclip.losses.pairwise import (
    as_full,
    centred,
    check_rows,
    connected_zero,
    in_full_precision,
    row_logsumexp,
)


class SDD(nn.Module):
    """Divergence of two sets' kernel densities, taken at the rows of both.

    The density of a set S at x is ``p_S(x) = c * sum_s exp(-|x - s|^2 / (4 h^2 sigma_S^2))``, with sigma_S^2
    the trace of the covariance of S; the divergence at the rows of A is ``F(A, B) = sum_a (p_A(a) -
    p_B(a)) (log p_A(a) - log p_B(a))``, no term of which is negative, and the loss is ``F(U, V) + F(V, U)``.
    A set and a permutation of it give 0 (with the self term kept).

    Parameters
    ----------
    relative_distance : bool
        Divide distances by sigma_S^2; otherwise sigma is 1.
    divergence : {"kl", "mse"}
        The formula above, or the mean of ``(p_A(a) - p_B(a))^2``, whose outer reduction is always a mean.
    self_term : bool
        Whether a row counts in its own set's density.  Without it, a set of one row has no density and
        adds nothing.
    reduce : {"mean", "sum"}
        Averages over both the density's and the divergence's rows, or plain sums.
    bandwidth : float
        The h of the density.
    constant : float
        The c of the density.
    min_variance : float
        Floor of sigma_S^2, so that collapsed sets stay finite.
    rescale : bool
        Multiply by ``1 / r_U + 1 / r_V``, r_S the squared diagonal of the box around S, with its gradient.
    rescale_max : float
        Upper limit of that factor; constant where it is reached.
    block_size : int
        Rows in memory at once; 0 chooses.

    Raises
    ------
    ConfigError
        An option is out of range.

    Examples
    --------
    >>> u = torch.eye(4)
    >>> float(SDD()(u, u.flip(0))) < 1e-12, float(SDD()(u, -u)) > 0.1
    (True, True)
    """

    def __init__(
        self,
        *,
        relative_distance: bool = True,
        divergence: Divergence = "kl",
        self_term: bool = True,
        reduce: Reduction = "mean",
        bandwidth: float = 0.5,
        constant: float = 1.0,
        min_variance: float = 1e-6,
        rescale: bool = False,
        rescale_max: float = 1e3,
        block_size: int = 0,
    ) -> None:
        super().__init__()
        for name, switch in (
            ("sdd_relative_distance", relative_distance),
            ("sdd_self_term", self_term),
            ("sdd_rescale", rescale),
        ):
            check_switch(name, switch)
        for name, number in (
            ("sdd_bandwidth", bandwidth),
            ("sdd_constant", constant),
            ("sdd_min_variance", min_variance),
            ("sdd_rescale_max", rescale_max),
        ):
            check_number(name, number, above=True)
        check_choice("sdd_divergence", divergence, get_args(Divergence))
        check_choice("sdd_reduce", reduce, get_args(Reduction))
        check_number("block_size", block_size, integer=True)
        self.relative_distance, self.divergence, self.self_term = relative_distance, divergence, self_term
        self.reduce, self.bandwidth, self.constant = reduce, bandwidth, constant
        self.min_variance, self.rescale, self.rescale_max = min_variance, rescale, rescale_max
        self.block_size = block_size

    @in_full_precision
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Loss of two sets of unit rows, [n, d] and [m, d]; 0 where one of them is empty.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        check_rows(u, v)
        if len(u) == 0 or len(v) == 0:
            return connected_zero(u, v)
        u, v = as_full(u), as_full(v)
        value = self._divergence(u, v) + self._divergence(v, u)
        return value * self._box_factor(u, v) if self.rescale else value

    def _divergence(self, a: Tensor, b: Tensor) -> Tensor:
        if len(a) == 1 and not self.self_term:
            return connected_zero(a, b)
        own, other = self._log_density(a, a, own=True), self._log_density(a, b, own=False)
        if self.divergence == "mse":
            return (own.exp() - other.exp()).square().mean()
        # (p - q)(log p - log q) = p (1 - q / p) log(p / q) with the larger density as p: never negative,
        # no difference of close numbers, no overflow.
        gap = (own - other).abs()
        terms = torch.maximum(own, other).exp() * -torch.expm1(-gap) * gap
        return terms.mean() if self.reduce == "mean" else terms.sum()

    def _log_density(self, points: Tensor, support: Tensor, *, own: bool) -> Tensor:
        scale = 1 / math.sqrt(4 * self.bandwidth**2)
        width = self._variance(support).rsqrt() * scale if self.relative_distance else scale
        x, s = centred(points, support)
        x, s = x * width, s * width
        skip = own and not self.self_term
        # -|x - s|^2 = 2 x.s - |s|^2 - |x|^2, the last of which leaves the sum over s.
        inner = row_logsumexp(2 * x, s, -s.square().sum(1), skip_self=skip, block_size=self.block_size)
        count = len(support) - skip if self.reduce == "mean" else 1
        return inner - x.square().sum(1) + math.log(self.constant / count)

    def _variance(self, rows: Tensor) -> Tensor:
        centre = rows.mean(0)
        return ((rows - centre).square().sum() / max(len(rows) - 1, 1)).clamp_min(self.min_variance)

    def _box_factor(self, u: Tensor, v: Tensor) -> Tensor:
        factor = sum(
            (
                1 / (rows.amax(0) - rows.amin(0)).square().sum().clamp_min(1 / self.rescale_max)
                for rows in (u, v)
            ),
            start=u.new_zeros(()),
        )
        return factor.clamp_max(self.rescale_max)
