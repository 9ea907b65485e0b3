"""Sums of kernel values between two sets of rows, in memory of rows x block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from protclip.losses.pairwise import blocks, centred, row_logsumexp


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """[n, m] squared distances through inner products; centre the rows first.

    Rounding can leave values just under zero, which the kernels do not mind and no clamp has to remember.
    """
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1)[:, None])


def polynomial(products: Tensor, degree: int, slope: float, offset: float) -> Tensor:
    """``((slope x.y + offset) / (slope + offset))^degree`` of inner products."""
    return ((slope * products + offset) / (slope + offset)).pow(degree)


def row_log_kernel_sums(
    points: Tensor,
    rows: Tensor,
    width: Tensor | float,
    *,
    skip_self: bool = False,
    block_size: int = 0,
) -> Tensor:
    """``log sum_j exp(-|width (points_i - rows_j)|^2)`` for every point i.

    Parameters
    ----------
    points, rows : Tensor
        [n, d] and [m, d].
    width : Tensor or float
        Inverse width of the Gaussian kernel, a scalar.
    skip_self : bool
        Leave j = i out of the sum.
    block_size : int
        Rows in one block; 0 chooses.

    Returns
    -------
    Tensor
        [n]; minus infinity where nothing is summed.

    Examples
    --------
    >>> rows = torch.eye(2)
    >>> row_log_kernel_sums(rows, rows, 10.0).tolist()
    [0.0, 0.0]
    """
    x, s = centred(points, rows)
    x, s = x * width, s * width
    # -|x - s|^2 = 2 x.s - |s|^2 - |x|^2, the last of which leaves the sum over s.
    inner = row_logsumexp(2 * x, s, -s.square().sum(1), skip_self=skip_self, block_size=block_size)
    return inner - x.square().sum(1)


def row_kernel_means(
    a: Tensor,
    b: Tensor,
    widths: Tensor,
    degrees: Sequence[int] = (),
    *,
    slope: float = 1.0,
    offset: float = 1.0,
    block_size: int = 0,
) -> Tensor:
    """Mean of every kernel between each row of `a` and all rows of `b`.

    Backward forms the blocks again; no kernel matrix is kept.

    Parameters
    ----------
    a, b : Tensor
        [n, d] and [m, d], m > 0.
    widths : Tensor
        [r] widths b of the Gaussian kernels ``exp(-d^2 / b)``; constant in the gradient.
    degrees : sequence of int
        Exponents of the polynomial kernels.
    slope, offset : float
        Their constants, see :func:`polynomial`.
    block_size : int
        Rows in one block; 0 chooses.

    Returns
    -------
    Tensor
        [r + len(degrees), n].

    Examples
    --------
    >>> rows = torch.eye(2)
    >>> row_kernel_means(rows, rows, torch.tensor([]), [2]).tolist()
    [[0.625, 0.625]]
    """
    means: Tensor = _RowKernelMeans.apply(a, b, widths, tuple(degrees), slope, offset, block_size)  # type: ignore[no-untyped-call]
    return means


class _RowKernelMeans(torch.autograd.Function):
    # Products follow from distances by |x|^2 + |y|^2 - d^2 = 2 x.y, so that one matrix product per block
    # serves all kernels and one pair of them the gradients.

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        a: Tensor,
        b: Tensor,
        widths: Tensor,
        degrees: tuple[int, ...],
        slope: float,
        offset: float,
        block_size: int,
    ) -> Tensor:
        near_a, near_b = centred(a, b)
        norms_a, norms_b = a.square().sum(1)[:, None], b.square().sum(1)
        rates = -1 / widths
        means = a.new_empty(len(widths) + len(degrees), len(a))
        for block in blocks(len(a), len(b), block_size, a.device):
            distances = squared_distances(near_a[block], near_b)
            space = torch.empty_like(distances)
            for kernel in range(len(widths)):
                torch.mul(distances, rates[kernel], out=space)
                torch.mean(space.exp_(), 1, out=means[kernel, block])
            for kernel, degree in enumerate(degrees, len(widths)):
                products = (norms_a[block] + norms_b).sub_(distances).mul_(0.5)
                torch.mean(polynomial(products, degree, slope, offset), 1, out=means[kernel, block])
        ctx.save_for_backward(a, b, near_a, near_b, rates)
        ctx.options = degrees, slope, offset, block_size  # type: ignore[attr-defined]
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b, near_a, near_b, rates = ctx.saved_tensors
        degrees, slope, offset, block_size = ctx.options
        norms_a, norms_b = a.square().sum(1)[:, None], b.square().sum(1)
        grad = grad / len(b)
        grad_a, grad_b = torch.empty_like(a), torch.zeros_like(b)
        columns, norm_columns = norms_b.new_zeros(len(b)), norms_b.new_zeros(len(b))
        for block in blocks(len(a), len(b), block_size, a.device):
            distances = squared_distances(near_a[block], near_b)
            space, pull = torch.empty_like(distances), torch.zeros_like(distances)
            # `pull` collects the derivative by the squared distance.
            for kernel, rate in enumerate(rates):
                torch.mul(distances, rate, out=space)
                pull.addcmul_(space.exp_(), (grad[kernel, block] * rate)[:, None])
            norm_rows = norms_a.new_zeros(len(distances))
            if degrees:
                base = (
                    (norms_a[block] + norms_b)
                    .sub_(distances)
                    .mul_(0.5 * slope)
                    .add_(offset)
                    .div_(slope + offset)
                )
                turn = torch.zeros_like(distances)
                for kernel, degree in enumerate(degrees, len(rates)):
                    factor = grad[kernel, block] * (degree * slope / (slope + offset))
                    turn.addcmul_(base.pow(degree - 1), factor[:, None])
                # The derivative by the inner product: minus half of it by the squared distance, and
                # half of it by either squared norm.
                pull.sub_(turn, alpha=0.5)
                norm_rows += turn.sum(1)
                norm_columns += turn.sum(0)
            pulled = near_a[block] * pull.sum(1)[:, None] - pull @ near_b
            grad_a[block] = 2 * pulled + a[block] * norm_rows[:, None]
            grad_b.addmm_(pull.T, near_a[block], alpha=-2)
            columns += pull.sum(0)
        grad_b += 2 * near_b * columns[:, None] + b * norm_columns[:, None]
        return grad_a, grad_b, None, None, None, None, None
