"""Self-supervised contrastive loss of one modality (NT-Xent)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from protclip.config.checks import check_number
from protclip.errors import ConfigError
from protclip.losses.copies import other_views
from protclip.losses.pairwise import as_full, check_rows, connected_zero, in_full_precision, row_logsumexp


class NTXent(nn.Module):
    """Each of the 2n views has to find its twin among the 2n - 1 others.

    Parameters
    ----------
    temperature : float
        Divisor of the cosine similarities.
    block_size : int
        Rows in memory at once; 0 chooses.

    Raises
    ------
    ConfigError
        An option is out of range.

    Examples
    --------
    >>> rows = torch.eye(4)
    >>> float(NTXent(temperature=0.01)(rows, rows))
    0.0
    """

    def __init__(self, temperature: float = 0.05, *, block_size: int = 0) -> None:
        super().__init__()
        check_number("ssl_temperature", temperature, above=True)
        check_number("block_size", block_size, integer=True)
        self.temperature, self.block_size = temperature, block_size

    @in_full_precision
    def forward(self, rows: Tensor, views: Tensor, groups: Tensor | None = None) -> Tensor:
        """Loss of [n, d] unit rows and their [n, d] augmented views; 0 for n <= 1, where no negatives exist.

        Parameters
        ----------
        rows, views : Tensor
        groups : Tensor, optional
            int64 [n], on the processor: equal numbers where the items of two rows are equal. Such rows and
            their views are no negatives of each other.

        Raises
        ------
        ConfigError
            The shapes differ.
        """
        check_rows(rows, views)
        if groups is not None and len(groups) != len(rows):
            raise ConfigError(
                "not a number for every row",
                where="self-supervised loss",
                got=f"{len(groups)} numbers",
                expected=str(len(rows)),
            )
        if len(rows) != len(views):
            raise ConfigError(
                "rows and augmented views differ in number",
                where="self-supervised loss",
                got=f"{len(rows)} and {len(views)}",
                expected="one view of every row",
            )
        if len(rows) <= 1:
            return connected_zero(rows, views)
        rows, views = as_full(rows), as_full(views)
        every = torch.cat([rows, views])
        matched = (rows * views).sum(1).mean() / self.temperature
        total = row_logsumexp(
            every / self.temperature,
            every,
            skip_self=True,
            leave_out=other_views(groups),
            block_size=self.block_size,
        )
        return total.mean() - matched
