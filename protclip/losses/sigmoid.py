"""Supervised contrastive loss of single pairs: match or no match, without a softmax over the batch."""

from __future__ import annotations

import math
from typing import Any, get_args

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.functional import logsigmoid

from protclip.config.checks import check_choice, check_number
from protclip.config.loss import Negatives
from protclip.losses.copies import Cells, Copies, known_matches
from protclip.losses.pairwise import (
    as_full,
    blocks,
    check_pairs,
    check_rows,
    connected_zero,
    in_full_precision,
    products_of_block,
)


@in_full_precision
def sigmoid_loss(
    u: Tensor,
    v: Tensor,
    scale: Tensor | float,
    n_pairs: int,
    negatives: Negatives = "paired",
    *,
    block_size: int = 0,
    copies: Copies | None = None,
) -> Tensor:
    """Logistic loss of every cell of the similarity matrix in the rows of the first `n_pairs` items.

    With the logits ``l_ij = scale u_i . v_j + b`` and n columns, a matched row i adds ``log(1 + exp(-l_ii)) +
    sum_{j != i} log(1 + exp(l_ij))`` (Zhai et al., ICCV 2023, arXiv 2303.15343).  The value is the mean over
    the matched rows of both directions; where only matched rows are compared, both are one matrix, and this
    is the published sum over all cells divided by the number of rows.

    Two things are not as published.  The bias is not learnt: it is the prior log odds of a match,
    ``b = -log(n - 1)``, with which the best ``scale u . v`` is the pointwise mutual information at any batch
    size, and rows that say nothing cost about ``log(n) + 1``, close to the softmax's ``log(n)``.  The scale
    starts and is trained as for the softmax.

    Parameters
    ----------
    u, v : Tensor
        [n, d] and [m, d] unit rows; row i < `n_pairs` of u matches row i of v.
    scale : Tensor or float
        Inverse temperature, a scalar.
    n_pairs : int
        Number of matched rows.  With 0 the loss is an exact zero that is connected to the graph; so it is for
        one pair without other columns, whose match is certain beforehand.
    negatives : {"paired", "all"}
        Compare with the matched rows of the other side or with all of its rows.
    block_size : int
        Rows in memory at once; 0 chooses.
    copies : Copies, optional
        Which rows are of equal items, where some are: a row is no negative of what its copies match.
        The prior counts all columns all the same.

    Returns
    -------
    Tensor
        Scalar, averaged over pairs and both directions.

    Raises
    ------
    ConfigError
        The shapes do not fit, `n_pairs` exceeds the rows, `negatives` is unknown, or copies are not given for
        every row.

    Examples
    --------
    >>> rows = torch.eye(3)
    >>> round(float(sigmoid_loss(rows, rows, 0.0, 2)), 4) == round(2 * math.log(2), 4)
    True
    >>> float(sigmoid_loss(rows, rows, 50.0, 3)) < float(sigmoid_loss(rows, rows.flip(0), 50.0, 3))
    True
    """
    check_rows(u, v)
    check_choice("negatives", negatives, get_args(Negatives))
    check_number("block_size", block_size, integer=True)
    check_pairs("sigmoid loss", u, v, n_pairs)
    total = connected_zero(u, v, scale)
    if n_pairs == 0:
        return total
    u, v = as_full(u), as_full(v)
    u_keys, v_keys = (u, v) if negatives == "all" else (u[:n_pairs], v[:n_pairs])
    left, right = u[:n_pairs] * scale, v[:n_pairs] * scale
    matched = (left * v[:n_pairs]).sum(1)
    for queries, keys, same in ((left, v_keys, copies), (right, u_keys, copies and copies.swapped())):
        if len(keys) == 1:
            continue
        bias = -math.log(len(keys) - 1)
        known = known_matches(same, n_pairs, len(keys))
        wrong = row_softplus(queries, keys, bias, leave_out=known, block_size=block_size)
        total = total + (wrong - logsigmoid(matched + bias)).mean() / 2
    return total


def row_softplus(
    queries: Tensor, keys: Tensor, bias: float, *, leave_out: Cells | None = None, block_size: int = 0
) -> Tensor:
    """``sum_{j != i} log(1 + exp(queries_i . keys_j + bias))`` for every row i.

    Only one block of the matrix exists at any time; backward forms the blocks again.

    Parameters
    ----------
    queries, keys : Tensor
        [n, d] and [m, d].
    bias : float
        Added to every product; constant in the gradient.
    leave_out : Cells, optional
        Further cells to leave out.
    block_size : int
        Rows in one block; 0 chooses.

    Returns
    -------
    Tensor
        [n].

    Examples
    --------
    >>> row_softplus(torch.zeros(2, 3), torch.ones(3, 3), 0.0).exp().round().tolist()
    [4.0, 4.0]
    """
    result: Tensor = _RowSoftplus.apply(queries, keys, bias, leave_out, block_size)  # type: ignore[no-untyped-call]
    return result


class _RowSoftplus(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        queries: Tensor,
        keys: Tensor,
        bias: float,
        leave_out: Cells | None,
        block_size: int,
    ) -> Tensor:
        result = queries.new_empty(len(queries))
        shift = queries.new_full((len(keys),), bias)
        for block in blocks(len(queries), len(keys), block_size, queries.device):
            products = products_of_block(queries, keys, shift, block, True, leave_out)
            # log(1 + exp(x)) without overflow, and without the threshold of torch's softplus.
            result[block] = -logsigmoid(products.neg_()).sum(1)
        ctx.save_for_backward(queries, keys, shift)
        ctx.leave_out, ctx.block_size = leave_out, block_size  # type: ignore[attr-defined]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, shift = ctx.saved_tensors
        need_queries, need_keys = ctx.needs_input_grad[:2]
        grad_queries = torch.empty_like(queries) if need_queries else None
        grad_keys = torch.zeros_like(keys) if need_keys else None
        for block in blocks(len(queries), len(keys), ctx.block_size, queries.device):
            share = products_of_block(queries, keys, shift, block, True, ctx.leave_out)
            share.sigmoid_().mul_(grad[block][:, None])
            if grad_queries is not None:
                torch.mm(share, keys, out=grad_queries[block])
            if grad_keys is not None:
                grad_keys.addmm_(share.T, queries[block])
        return grad_queries, grad_keys, None, None, None
