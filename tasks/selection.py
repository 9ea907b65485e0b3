"""Which classes of a protein are reported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protclip.tasks.ontology import Hierarchy


@dataclass(frozen=True)
class Selection:
    """Which classes of a protein are reported.

    Attributes
    ----------
    classes, names : list of str
    top_k : int
        At most so many per protein.
    least : float
        Least probability.
    hierarchy : Hierarchy or None
        Applied to the probabilities first.
    """

    classes: list[str]
    names: list[str]
    top_k: int
    least: float
    hierarchy: Hierarchy | None

    def rows(
        self, ids: Sequence[str], probabilities: NDArray[np.float64]
    ) -> list[tuple[str, int, str, str, float]]:
        """(id, rank, class, name, score), best first; equal scores in the order of the classes."""
        if self.hierarchy is not None and len(ids):
            probabilities = np.asarray(self.hierarchy.propagate(probabilities))
        found = []
        for id, row in zip(ids, probabilities, strict=True):
            order = np.argsort(-row, kind="stable")[: self.top_k]
            kept = [int(c) for c in order if row[c] >= self.least]
            found += [
                (id, rank, self.classes[c], self.names[c], float(row[c])) for rank, c in enumerate(kept, 1)
            ]
        return found
