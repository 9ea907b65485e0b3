"""Names for the types that stand in many signatures, and what a command shows while it works.

Shapes are in square brackets; `n` counts items, `d` the numbers of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Indices: TypeAlias = NDArray[np.int64]
"""Places in a sequence of items [n], or whole numbers in general."""

Pairs: TypeAlias = NDArray[np.int64]
"""Matches [n, 2]: the number of an item of the first side, and of its partner of the second."""

Vectors: TypeAlias = NDArray[np.float32]
"""One vector an item [n, d]."""

Matrix: TypeAlias = NDArray[np.float64]
"""Vectors in double precision [n, d]."""

Doubles: TypeAlias = NDArray[np.float64]
"""Numbers in double precision, of any shape."""

Floats: TypeAlias = NDArray[np.floating[Any]]
"""Numbers of any precision and shape."""

Bools: TypeAlias = NDArray[np.bool_]
"""Yes or no, of any shape."""

Pixels: TypeAlias = NDArray[np.uint8]
"""A picture [height, width, 3]: red, green and blue from 0 to 255."""

Say: TypeAlias = Callable[[str], None]
"""Takes one sentence for the user."""

Done: TypeAlias = Callable[[int], None]
"""Takes the number of items that were just finished."""

OnStep: TypeAlias = Callable[[int, dict[str, float]], None]
"""Takes the number of a training step and its losses by name."""


class Display(Protocol):
    """What a command shows while it works."""

    def say(self, text: str) -> None:
        """One sentence for the user."""
        ...

    def begin(self, label: str, total: int) -> None:
        """A piece of long work starts."""
        ...

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        """``done`` of the total is finished."""
        ...

    def end(self) -> None:
        """The piece of work is over."""
        ...


class Silent:
    """A display that shows nothing.

    Examples
    --------
    >>> Silent().say("nobody sees this")
    """

    def say(self, text: str) -> None:
        """Say nothing."""

    def begin(self, label: str, total: int) -> None:
        """Show nothing."""

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""
