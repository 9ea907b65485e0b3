"""Reading items of a sequence, many in one call where the sequence can do that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, cast

import numpy as np
from torch import Tensor

from protclip.typing import Indices

Item = TypeVar("Item")


def take(items: Sequence[Item], index: Sequence[int] | Indices) -> list[Item]:
    """Items at some places, in the order asked for.

    A sequence that reads from disk offers ``take``, which gets the places as an int64 array and reads them in
    one call; others are asked item by item.

    Examples
    --------
    >>> take(["a", "b", "c"], [2, 0, 2])
    ['c', 'a', 'c']
    """
    together = None if isinstance(cast(object, items), (np.ndarray, Tensor)) else getattr(items, "take", None)
    if together is not None:
        return list(together(np.asarray(index, np.int64)))
    return [items[int(i)] for i in index]


class Chosen(Sequence[Any]):
    """Some items of a sequence, read when asked for.

    Examples
    --------
    >>> few = Chosen(["a", "b", "c"], [2, 0])
    >>> len(few), few[0], take(few, [1, 0])
    (2, 'c', ['a', 'c'])
    """

    def __init__(self, items: Sequence[Any], places: Sequence[int] | Indices) -> None:
        self.items, self.places = items, np.asarray(places, np.int64)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, place: Any) -> Any:
        return self.items[int(self.places[place])]

    def take(self, index: Indices) -> list[Any]:
        """Several items, read in one call."""
        return take(self.items, self.places[index])
