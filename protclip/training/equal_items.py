"""Which training items are equal, whatever their numbers."""

from __future__ import annotations

import numpy as np

from protclip.modalities.items import take
from protclip.relations.pairs import Side
from protclip.typing import Indices

READ_AT_ONCE = 1024


def equal_groups(side: Side, index: Indices) -> Indices | None:
    """Group of every item of a side: equal where two of the items at `index` are, by their digests.

    Parameters
    ----------
    side : Side
    index : int64 array
        Items to compare, each of which is read once; all others are groups of their own.

    Returns
    -------
    int64 array [items of the side] or None
        The number of the first equal item; None where all differ, or the modality cannot tell.
    """
    groups = np.arange(len(side.items))
    first: dict[bytes, int] = {}
    distinct = np.unique(index)
    for start in range(0, len(distinct), READ_AT_ONCE):
        part = distinct[start : start + READ_AT_ONCE]
        for i, item in zip(part.tolist(), take(side.items, part), strict=True):
            try:
                groups[i] = first.setdefault(side.modality.digest(item), i)
            except NotImplementedError:
                # An adapter of someone else's objects need not say what determines them.
                return None
    return None if len(first) == len(distinct) else groups
