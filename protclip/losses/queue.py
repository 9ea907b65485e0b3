"""Rows of former steps, first in, first out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from protclip.checks import check_number
from protclip.losses.pairwise import check_rows


class RowQueue(nn.Module):
    """The latest rows of one modality, without gradients.

    The rows are in the state dictionary, in the order of their arrival, and their number is that of the rows
    held so far: a resumed run goes on exactly.  In several processes, push the gathered rows, and all
    hold the same.  Where a batch does not fit whole, its first rows leave first.

    Parameters
    ----------
    length : int
        Rows to remember at most.

    Raises
    ------
    ConfigError
        The length is no positive whole number.

    Examples
    --------
    >>> queue = RowQueue(3)
    >>> for row in range(5):
    ...     queue.push(torch.tensor([[float(row)]]))
    >>> queue.rows.tolist(), queue(torch.tensor([[9.0]])).tolist()
    ([[2.0], [3.0], [4.0]], [[9.0], [2.0], [3.0], [4.0]])
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        check_number("length of a queue", length, low=1, integer=True)
        self.length = length
        # The width is that of the first rows to come.
        self.register_buffer("rows", torch.zeros(0, 0))
        self.rows: Tensor

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
        """Remember rows [n, d], and forget what has become too old.

        Raises
        ------
        ConfigError
            The widths differ.
        """
        kept = rows.detach()
        if len(self.rows):
            check_rows(kept, self.rows)
            kept = torch.cat([self.rows.to(kept), kept])
        # A copy of its own: a slice would keep the whole batch in memory and in every checkpoint.
        self.rows = kept[-self.length :].clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        saved = state_dict.get(f"{prefix}rows")
        if isinstance(saved, Tensor) and saved.ndim == 2 and len(saved) <= self.length:
            # torch copies into buffers of equal shape; this one has the shape of what was saved.
            self.rows = torch.empty_like(saved, device=self.rows.device)
        super()._load_from_state_dict(state_dict, prefix, *args)
