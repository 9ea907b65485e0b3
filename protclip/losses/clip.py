"""Supervised contrastive loss over the matched rows."""

from __future__ import annotations

from typing import get_args

from torch import Tensor

from protclip.config.checks import check_choice, check_number
from protclip.config.loss import Negatives
from protclip.losses.copies import Copies, known_matches
from protclip.losses.pairwise import (
    as_full,
    check_pairs,
    check_rows,
    connected_zero,
    in_full_precision,
    row_logsumexp,
)


@in_full_precision
def clip_loss(
    u: Tensor,
    v: Tensor,
    scale: Tensor | float,
    n_pairs: int,
    negatives: Negatives = "paired",
    *,
    block_size: int = 0,
    copies: Copies | None = None,
) -> Tensor:
    """Symmetric InfoNCE of the first `n_pairs` rows.

    Parameters
    ----------
    u, v : Tensor
        [n, d] and [m, d] unit rows; row i < `n_pairs` of u matches row i of v.
    scale : Tensor or float
        Inverse temperature, a scalar.
    n_pairs : int
        Number of matched rows.  With 0 the loss is an exact zero that is connected to the graph; one
        pair without other negatives gives zero too.
    negatives : {"paired", "all"}
        Compare with the matched rows of the other side or with all of its rows.
    block_size : int
        Rows in memory at once; 0 chooses.
    copies : Copies, optional
        Which rows are of equal items, where some are: a row is no negative of what its copies match.

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
    >>> import torch
    >>> rows = torch.eye(3)
    >>> float(clip_loss(rows, rows, 100.0, 3))
    0.0
    >>> float(clip_loss(rows, rows, 0.0, 2)) == float(torch.tensor(2.0).log())
    True
    """
    check_rows(u, v)
    check_choice("negatives", negatives, get_args(Negatives))
    check_number("block_size", block_size, integer=True)
    check_pairs("clip loss", u, v, n_pairs)
    if n_pairs == 0:
        return connected_zero(u, v, scale)
    u, v = as_full(u), as_full(v)
    u_keys, v_keys = (u, v) if negatives == "all" else (u[:n_pairs], v[:n_pairs])
    left, right = u[:n_pairs] * scale, v[:n_pairs] * scale
    matched = (left * v[:n_pairs]).sum(1)
    right_known = known_matches(copies, n_pairs, len(v_keys))
    left_known = known_matches(copies and copies.swapped(), n_pairs, len(u_keys))
    to_right = row_logsumexp(left, v_keys, leave_out=right_known, block_size=block_size)
    to_left = row_logsumexp(right, u_keys, leave_out=left_known, block_size=block_size)
    return ((to_right + to_left) / 2 - matched).mean()
