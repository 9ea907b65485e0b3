"""Rows of equal items in one batch: what matches one of them is no negative of the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.errors import ConfigError
from protclip.typing import Indices


class Copies(NamedTuple):
    """Which rows of a batch are of equal items.

    Parameters
    ----------
    u, v : Tensor
        int64 [n] and [m], on the processor: equal numbers where the items of two rows are equal. Of all
        processes' rows, in the order of the gathered rows.
    """

    u: Tensor
    v: Tensor

    def swapped(self) -> Copies:
        """The same, seen from the other side."""
        return Copies(self.v, self.u)


class Cells(NamedTuple):
    """Cells of a matrix of similarities that no sum may hold.

    Parameters
    ----------
    rows, columns : Tensor
        int64 [k], on the processor, in the order of the rows.
    """

    rows: Tensor
    columns: Tensor

    def leave_out(self, products: Tensor, block: slice) -> None:
        """Set those of one block of rows to minus infinity, in place."""
        bounds = torch.tensor([block.start, block.stop])
        here = slice(*torch.searchsorted(self.rows, bounds).tolist())
        rows = (self.rows[here] - block.start).to(products.device)
        products[rows, self.columns[here].to(products.device)] = -torch.inf


def known_matches(copies: Copies | None, n_pairs: int, n_columns: int) -> Cells | None:
    """Cells (i, j != i) of the matched rows of u and the first `n_columns` rows of v that match by a copy.

    Row i of u and row j of v match where a pair of the batch has an item equal to that of row i, and a
    partner equal to the item of row j. So a row's other matches are left out, of whichever side the copies
    are, and also where row j itself is not matched.

    Parameters
    ----------
    copies : Copies or None
        None where all items differ.
    n_pairs, n_columns : int
        Matched rows, and rows of v to compare with.

    Returns
    -------
    Cells or None
        None where nothing is to be left out.

    Raises
    ------
    ConfigError
        There are fewer numbers than rows.

    Examples
    --------
    >>> cells = known_matches(Copies(torch.tensor([0, 1, 2]), torch.tensor([5, 6, 5])), 3, 3)
    >>> cells.rows.tolist(), cells.columns.tolist()
    ([0, 2], [2, 0])
    """
    if copies is None:
        return None
    if len(copies.u) < n_pairs or len(copies.v) < n_columns:
        raise ConfigError(
            "not a number for every row",
            where="copies",
            got=f"{len(copies.u)} and {len(copies.v)}",
            expected=f"at least {n_pairs} and {n_columns}",
        )
    u, v = copies.u[:n_pairs].numpy(), copies.v[:n_columns].numpy()
    known = np.unique(np.stack([u, v[:n_pairs]], 1), axis=0)
    rows, pairs = _equal(u, known[:, 0])
    place, columns = _equal(known[pairs, 1], v)
    return _cells(rows[place], columns, rows[place] != columns)


def other_views(groups: Tensor | None) -> Cells | None:
    """Cells of n rows and their n views, in this order, that are of equal items but not of one row.

    Parameters
    ----------
    groups : Tensor or None
        int64 [n], on the processor: equal numbers where the items are equal.

    Examples
    --------
    >>> cells = other_views(torch.tensor([7, 7]))
    >>> list(zip(cells.rows.tolist(), cells.columns.tolist()))
    [(0, 1), (0, 3), (1, 0), (1, 2), (2, 1), (2, 3), (3, 0), (3, 2)]
    """
    if groups is None:
        return None
    twice = np.tile(groups.numpy(), 2)
    rows, columns = _equal(twice, twice)
    return _cells(rows, columns, rows % len(groups) != columns % len(groups))


def _equal(left: NDArray[Any], right: NDArray[Any]) -> tuple[Indices, Indices]:
    """All (i, j) with left[i] == right[j], in the order of i."""
    order = np.argsort(right, kind="stable")
    low, high = (np.searchsorted(right[order], left, side) for side in ("left", "right"))
    count = high - low
    i = np.repeat(np.arange(len(left)), count)
    within = np.arange(len(i)) - np.repeat(np.cumsum(count) - count, count)
    return i, order[low[i] + within]


def _cells(rows: Indices, columns: Indices, chosen: NDArray[np.bool_]) -> Cells | None:
    if not chosen.any():
        return None
    return Cells(torch.from_numpy(rows[chosen]), torch.from_numpy(columns[chosen]))
