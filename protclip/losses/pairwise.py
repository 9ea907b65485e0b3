"""What every loss shares: row-wise log-sum-exp of inner products, full precision and shape checks.

Squared distances enter the losses only through inner products of centred rows, so that nothing of
size rows x rows x dimensions is ever formed.  Distances do not change when both sets are shifted; taking
the joint mean away first keeps the digits that ``|x|^2 + |y|^2 - 2 x.y`` would lose on close points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from protclip.errors import ConfigError
from protclip.losses.copies import Cells

P = ParamSpec("P")
R = TypeVar("R")

CPU_BLOCK_ELEMENTS = 1 << 20
GPU_BLOCK_ELEMENTS = 1 << 26


def in_full_precision(forward: Callable[P, R]) -> Callable[P, R]:
    """Run a loss outside autocast: half-precision inner products of unit rows lose the small distances."""

    @wraps(forward)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        device = tensors[0].device.type if tensors else "cpu"
        with torch.autocast(device_type=device, enabled=False):
            return forward(*args, **kwargs)

    return wrapper


def as_full(rows: Tensor) -> Tensor:
    """float32, or float64 where the rows have it already."""
    return rows if rows.dtype == torch.float64 else rows.float()


def check_rows(u: Tensor, v: Tensor) -> None:
    """Refuse anything but two matrices of equal width.

    Raises
    ------
    ConfigError
        One of them is not two-dimensional, or their widths differ.
    """
    if u.ndim != 2 or v.ndim != 2 or u.shape[1] != v.shape[1]:
        raise ConfigError(
            "the two sides do not fit together",
            where="loss",
            got=f"shapes {tuple(u.shape)} and {tuple(v.shape)}",
            expected="[n, d] and [m, d]",
        )


def check_pairs(where: str, u: Tensor, v: Tensor, n_pairs: int) -> None:
    """Refuse more matched rows than either side has.

    Raises
    ------
    ConfigError
        `n_pairs` is negative or exceeds the rows of the smaller side.
    """
    if not 0 <= n_pairs <= min(len(u), len(v)):
        raise ConfigError(
            "number of pairs out of range",
            where=where,
            got=str(n_pairs),
            expected=f"0 to {min(len(u), len(v))}, the rows of the smaller side",
        )


def connected_zero(*values: Tensor | float) -> Tensor:
    """Exact zero that still hangs on the graph of its tensors, so that backward reaches them with zeros."""
    parts = [as_full(v).reshape(-1)[:1].sum() * 0 for v in values if isinstance(v, Tensor)]
    return torch.stack(parts).sum()


def centred(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets minus their joint mean, which is constant in the gradient."""
    with torch.no_grad():
        shift = (u.sum(0) + v.sum(0)) / max(len(u) + len(v), 1)
    return u - shift, v - shift


def blocks(rows: int, columns: int, block_size: int, device: torch.device) -> Iterator[slice]:
    """Slices of the rows; `block_size` 0 fits one block to the processor's cache or the GPU's memory."""
    if block_size <= 0:
        limit = CPU_BLOCK_ELEMENTS if device.type == "cpu" else GPU_BLOCK_ELEMENTS
        block_size = max(1, limit // max(columns, 1))
    for start in range(0, rows, block_size):
        yield slice(start, min(start + block_size, rows))


def row_logsumexp(
    queries: Tensor,
    keys: Tensor,
    bias: Tensor | None = None,
    *,
    skip_self: bool = False,
    leave_out: Cells | None = None,
    block_size: int = 0,
) -> Tensor:
    """``log sum_j exp(queries_i . keys_j + bias_j)`` for every row i.

    Only one block of the matrix exists at any time; backward forms the blocks again, so that memory is
    rows x block in both directions.

    Parameters
    ----------
    queries : Tensor
        [n, d].
    keys : Tensor
        [m, d].
    bias : Tensor, optional
        [m], added to every row of products.
    skip_self : bool
        Leave j = i out of the sum.
    leave_out : Cells, optional
        Further cells to leave out.
    block_size : int
        Rows in one block; 0 chooses.

    Returns
    -------
    Tensor
        [n]; minus infinity where nothing is summed.

    Examples
    --------
    >>> row_logsumexp(torch.zeros(2, 3), torch.ones(4, 3)).exp().round().tolist()
    [4.0, 4.0]
    """
    if bias is None:
        bias = queries.new_zeros(len(keys))
    result: Tensor = _RowLogSumExp.apply(  # type: ignore[no-untyped-call]
        queries, keys, bias, skip_self, leave_out, block_size
    )
    return result


def products_of_block(
    queries: Tensor,
    keys: Tensor,
    bias: Tensor,
    block: slice,
    skip_self: bool,
    leave_out: Cells | None = None,
) -> Tensor:
    """``queries_i . keys_j + bias_j`` for the rows i of one block.

    Minus infinity at j = i if `skip_self`, and in the cells to leave out.
    """
    products = torch.addmm(bias, queries[block], keys.T)
    if skip_self:
        # A block of rows holds a shifted diagonal of the whole matrix.
        products.diagonal(block.start).fill_(-torch.inf)
    if leave_out is not None:
        leave_out.leave_out(products, block)
    return products


class _RowLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        bias: Tensor,
        skip_self: bool,
        leave_out: Cells | None,
        block_size: int,
    ) -> Tensor:
        result = queries.new_empty(len(queries))
        for block in blocks(len(queries), len(keys), block_size, queries.device):
            products = products_of_block(queries, keys, bias, block, skip_self, leave_out)
            highest = products.amax(1) if len(keys) else products.new_full((len(products),), -torch.inf)
            anchor = torch.where(highest.isinf(), 0.0, highest)
            result[block] = products.sub_(anchor[:, None]).exp_().sum(1).log_().add_(anchor)
        ctx.save_for_backward(queries, keys, bias, result)
        ctx.skip_self, ctx.leave_out, ctx.block_size = skip_self, leave_out, block_size  # type: ignore[attr-defined]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, bias, result = ctx.saved_tensors
        need_queries, need_keys, need_bias = ctx.needs_input_grad[:3]
        grad_queries = torch.empty_like(queries) if need_queries else None
        grad_keys = torch.zeros_like(keys) if need_keys else None
        grad_bias = torch.zeros_like(bias) if need_bias else None
        # A row without anything to sum has no gradient.
        level = torch.where(result.isinf(), 0.0, result)
        for block in blocks(len(queries), len(keys), ctx.block_size, queries.device):
            share = products_of_block(queries, keys, bias, block, ctx.skip_self, ctx.leave_out)
            share.sub_(level[block][:, None]).exp_().mul_(grad[block][:, None])
            if grad_queries is not None:
                torch.mm(share, keys, out=grad_queries[block])
            if grad_keys is not None:
                grad_keys.addmm_(share.T, queries[block])
            if grad_bias is not None:
                grad_bias += share.sum(0)
        return grad_queries, grad_keys, grad_bias, None, None, None
