"""Semantic density distribution loss: two sets should be equally dense around every row."""

from __future__ import annotations

import math
from typing import get_args

import torch
from torch import Tensor, nn

from protclip.config.checks import check_choice, check_number, check_switch
from protclip.config.loss import Divergence, Reduction
from protclip.losses.kernels import row_log_kernel_sums
from protclip.losses.pairwise import as_full, check_rows, connected_zero, in_full_precision
from protclip.losses.queue import RowQueue


class SDD(nn.Module):
    """Divergence of two sets' kernel densities, taken at the rows of both.

    The density of a set S at x is ``p_S(x) = c * sum_s exp(-|x - s|^2 / (4 h^2 sigma_S^2))``, with sigma_S^2
    the trace of the covariance of S; the divergence at the rows of A is ``F(A, B) = sum_a (p_A(a) -
    p_B(a)) (log p_A(a) - log p_B(a))``, no term of which is negative, and the loss is ``F(U, V) + F(V, U)``.
    A set and a permutation of it give 0 (with the self term kept).

    With a queue, a set is the batch and the latest rows of former steps, so that its density and its variance
    stand on more samples than a batch has.  The divergence is still taken at the batch's rows alone, and only
    they have gradients, as points and as samples.

    Parameters
    ----------
    relative_distance : bool
        Divide distances by sigma_S^2; otherwise sigma is 1.
    divergence : {"kl", "mse"}
        The formula above, or the mean of ``(p_A(a) - p_B(a))^2``, whose outer reduction is always a mean.
    self_term : bool
        Whether a row counts in its own set's density.  Without it, a set of one row has no density and
        adds nothing.  Former appearances of the same item in the queue count either way.
    reduce : {"mean", "sum"}
        Averages over both the density's and the divergence's rows, or plain sums.  Sums grow with the
        queue.
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
    queue : int
        Rows of former steps to remember on either side; 0 for none.  Filled in training mode only.
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
        queue: int = 0,
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
        check_number("sdd_queue", queue, integer=True)
        check_number("block_size", block_size, integer=True)
        self.relative_distance, self.divergence, self.self_term = relative_distance, divergence, self_term
        self.reduce, self.bandwidth, self.constant = reduce, bandwidth, constant
        self.min_variance, self.rescale, self.rescale_max = min_variance, rescale, rescale_max
        self.block_size = block_size
        self.left, self.right = (RowQueue(queue) if queue else None for _ in range(2))

    @in_full_precision
    def forward(self, u: Tensor, v: Tensor) -> Tensor:
        """Loss of two sets of unit rows, [n, d] and [m, d]; 0 where one of them is empty.

        In training mode the rows then go into the queues, where there are any.

        Raises
        ------
        ConfigError
            The widths differ, from each other or from the queues'.
        """
        check_rows(u, v)
        u, v = as_full(u), as_full(v)
        value = self._loss(u, v)
        if self.training and self.left is not None and self.right is not None:
            self.left.push(u)
            self.right.push(v)
        return value

    def _loss(self, u: Tensor, v: Tensor) -> Tensor:
        if len(u) == 0 or len(v) == 0:
            return connected_zero(u, v)
        # The batch goes first, so that row i of the points is row i of its own set.
        all_u = u if self.left is None else self.left(u)
        all_v = v if self.right is None else self.right(v)
        value = self._divergence(u, all_u, all_v) + self._divergence(v, all_v, all_u)
        return value * self._box_factor(all_u, all_v) if self.rescale else value

    def _divergence(self, points: Tensor, own_set: Tensor, other_set: Tensor) -> Tensor:
        if len(own_set) == 1 and not self.self_term:
            return connected_zero(points, other_set)
        own = self._log_density(points, own_set, own=True)
        other = self._log_density(points, other_set, own=False)
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
        skip = own and not self.self_term
        total = row_log_kernel_sums(points, support, width, skip_self=skip, block_size=self.block_size)
        count = len(support) - skip if self.reduce == "mean" else 1
        return total + math.log(self.constant / count)

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
