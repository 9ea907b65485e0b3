"""Rows of former steps, first in, first out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from protclip.config.checks import check_number
from protclip.losses.pairwise import check_rows


class RowQueue(nn.Module):
    """The latest rows of one modality, without gradients.

    The rows are in the state dictionary, in the order of their arrival, and their number is that of the rows
    held so far: a resumed run goes on exactly.  A batch leaves whole, once it does not fit whole any more:
    push the gathered rows, and any number of processes remembers the same, whatever order they gather in.

    Parameters
    ----------
    length : int
        Rows to remember at most.  Of a batch that is larger, the last ones are remembered.

    Raises
    ------
    ConfigError
        The length is no positive whole number.

    Examples
    --------
    >>> queue = RowQueue(5)
    >>> for row in range(4):
    ...     queue.push(torch.tensor([[row], [row + 0.5]]))
    >>> queue.rows.T.tolist(), queue(torch.tensor([[9.0]])).T.tolist()
    ([[2.0, 2.5, 3.0, 3.5]], [[9.0, 2.0, 2.5, 3.0, 3.5]])
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        check_number("length of a queue", length, low=1, integer=True)
        self.length = length
        # The width is that of the first rows to come.
        self.register_buffer("rows", torch.zeros(0, 0))
        self.register_buffer("sizes", torch.zeros(0, dtype=torch.long))
        self.rows: Tensor
        self.sizes: Tensor

    def forward(self, rows: Tensor) -> Tensor:
        """[n + k, d]: the rows given, and the k <= `length` rows remembered.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        if len(self.rows) == 0:
            return rows
        check_rows(rows, self.rows)
        return torch.cat([rows, self.rows.to(rows)])

    @torch.no_grad()
    def push(self, rows: Tensor) -> None:
        """Remember rows [n, d] of one batch, and forget the batches that have become too old.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        kept = rows.detach()
        if len(self.rows):
            check_rows(kept, self.rows)
            kept = torch.cat([self.rows.to(kept), kept])
        sizes = [n for n in (*self.sizes.tolist(), min(len(rows), self.length)) if n]
        while sum(sizes) > self.length:
            sizes.pop(0)
        self.sizes = torch.tensor(sizes, device=self.sizes.device)
        # A copy of its own: a slice would keep what has left in memory and in every checkpoint.
        self.rows = kept[len(kept) - sum(sizes) :].clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        rows, sizes = (state_dict.get(f"{prefix}{name}") for name in ("rows", "sizes"))
        if isinstance(rows, Tensor) and rows.ndim == 2 and len(rows) <= self.length:
            # torch copies into buffers of equal shape; these have the shapes of what was saved.
            self.rows = torch.empty_like(rows, device=self.rows.device)
        if isinstance(sizes, Tensor) and sizes.ndim == 1:
            self.sizes = torch.empty_like(sizes, device=self.sizes.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
