"""Self-training on mutual nearest neighbours."""

from __future__ import annotations

import numpy as np

from protclip.alignment.base import LinearAlignment, Sets, unit
from protclip.alignment.cca import LinearMaps, fit_cca
from protclip.typing import Matrix, Pairs

ROWS = 1024


class MutualNeighbours(LinearAlignment):
    """CCA of the pairs, then in turn: rows that are each other's nearest become pairs, and CCA again.

    Nearness is the cosine less the mean cosine to the nearest rows of the other side (CSLS), so that rows
    that are near to everything are nobody's neighbour.

    Parameters
    ----------
    dim, ridge, power
        See :func:`protclip.alignment.fit_cca`.
    rounds : int
    neighbours : int
        Of the mean that CSLS subtracts.
    standardise, components
        See :class:`protclip.alignment.TransportAlignment`.

    References
    ----------
    Artetxe, Labaka and Agirre, "A robust self-learning method for fully unsupervised cross-lingual mappings
    of word embeddings", ACL 2018; Conneau et al., "Word translation without parallel data", ICLR 2018 (CSLS
    and mutual neighbours).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(80, 3))
    >>> y = z @ rng.normal(size=(3, 5))
    >>> model = MutualNeighbours(dim=3, ridge=0.1).fit(z, y, [(i, i) for i in range(8)])
    >>> model.found_ > 20
    True
    """

    def __init__(
        self,
        dim: int = 64,
        ridge: float = 3.0,
        power: float = 1.0,
        rounds: int = 5,
        neighbours: int = 10,
        standardise: bool = True,
        components: int | None = 400,
    ) -> None:
        self.dim, self.ridge, self.power = dim, ridge, power
        self.rounds, self.neighbours = rounds, neighbours
        self.standardise, self.components = standardise, components

    def _fit_maps(self, sets: Sets) -> LinearMaps:
        known = sets.x[sets.pairs[:, 0]], sets.y[sets.pairs[:, 1]]
        free = sets.x[sets.free_left], sets.y[sets.free_right]
        maps = fit_cca(*known, dim=self.dim, ridge=self.ridge, power=self.power)
        self.found_ = 0
        if not len(free[0]) or not len(free[1]):
            return maps
        for _ in range(self.rounds):
            i, j = mutual_neighbours(unit(maps.left(free[0])), unit(maps.right(free[1])), self.neighbours)
            self.found_ = len(i)
            rows = [
                np.concatenate([own, rest]) for own, rest in zip(known, (free[0][i], free[1][j]), strict=True)
            ]
            maps = fit_cca(rows[0], rows[1], dim=self.dim, ridge=self.ridge, power=self.power)
        return maps


def mutual_neighbours(left: Matrix, right: Matrix, k: int = 10) -> tuple[Pairs, Pairs]:
    """Rows i, j of unit vectors [n, d], [m, d] that are each other's nearest by CSLS.

    Examples
    --------
    >>> i, j = mutual_neighbours(np.eye(3), np.eye(3)[[2, 0, 1]], k=1)
    >>> j.tolist()
    [1, 2, 0]
    """
    crowd_left, crowd_right = _crowd(left, right, k), _crowd(right, left, k)
    to_right = _nearest(left, right, crowd_right)
    to_left = _nearest(right, left, crowd_left)
    i = np.flatnonzero(to_left[to_right] == np.arange(len(left)))
    return i, to_right[i]


def _crowd(rows: Matrix, others: Matrix, k: int) -> Matrix:
    """Mean cosine of each row to its k nearest of the other side."""
    k = min(k, len(others))
    found = [
        np.partition(rows[s : s + ROWS] @ others.T, -k, axis=1)[:, -k:].mean(1)
        for s in range(0, len(rows), ROWS)
    ]
    return np.concatenate(found)


def _nearest(rows: Matrix, others: Matrix, crowd: Matrix) -> Pairs:
    found = [(2 * rows[s : s + ROWS] @ others.T - crowd).argmax(1) for s in range(0, len(rows), ROWS)]
    return np.concatenate(found).astype(np.int64)
