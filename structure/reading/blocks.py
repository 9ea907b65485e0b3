"""What mmCIF and BinaryCIF have in common: data blocks of tables with named columns."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Block(Protocol):
    """The tables of one data block of a file."""

    where: str

    def text(self, category: str, column: str) -> NDArray[np.str_] | None:
        """Values of a column, "" for ``.`` and ``?``; None if there is no such column."""
        ...

    def reals(self, category: str, column: str) -> NDArray[np.float64] | None:
        """Numbers of a column that is stored as numbers, NaN for missing ones; else None."""
        ...
