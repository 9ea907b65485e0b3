"""Kernel CCA of the pairs."""

from __future__ import annotations

import numpy as np

from protclip.alignment.base import Alignment, Sets, median_distance
from protclip.alignment.cca import fit_cca
from protclip.typing import Matrix


class KernelCCA(Alignment):
    """Regularised CCA in the feature spaces of two Gaussian kernels, spanned by the pairs.

    Parameters
    ----------
    dim, ridge, power
        See :func:`protclip.alignment.fit_cca`.
    width : float
        Of each kernel exp(-d^2 / 2 w^2), in median distances between rows of that side.
    seed : int
        Of the rows from which that median is taken.
    standardise, components
        See :class:`protclip.alignment.TransportAlignment`.

    References
    ----------
    Bach and Jordan, "Kernel independent component analysis", JMLR 3, 2002; Hardoon, Szedmak and
    Shawe-Taylor, Neural Computation 16, 2004.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(40, 3))
    >>> KernelCCA(dim=2).fit(x, x**2, [(i, i) for i in range(30)]).transform_right(x**2).shape
    (40, 2)
    """

    def __init__(
        self,
        dim: int = 64,
        ridge: float = 3.0,
        power: float = 1.0,
        width: float = 1.0,
        seed: int = 0,
        standardise: bool = True,
        components: int | None = 400,
    ) -> None:
        self.dim, self.ridge, self.power, self.width, self.seed = dim, ridge, power, width, seed
        self.standardise, self.components = standardise, components

    def _learn(self, sets: Sets) -> None:
        self.anchors_ = sets.x[sets.pairs[:, 0]], sets.y[sets.pairs[:, 1]]
        self.widths_ = [self.width * median_distance(rows, self.seed) for rows in (sets.x, sets.y)]
        self.roots_ = [self._root(side) for side in (0, 1)]
        spans = [self._span(self.anchors_[side], side) for side in (0, 1)]
        self.maps_in_span_ = fit_cca(*spans, dim=self.dim, ridge=self.ridge, power=self.power)

    def _kernel(self, rows: Matrix, side: int) -> Matrix:
        anchors = self.anchors_[side]
        squares = (rows**2).sum(1)[:, None] + (anchors**2).sum(1) - 2 * rows @ anchors.T
        return np.asarray(np.exp(-np.maximum(squares, 0) / (2 * self.widths_[side] ** 2)))

    def _root(self, side: int) -> Matrix:
        values, vectors = np.linalg.eigh(self._kernel(self.anchors_[side], side))
        keep = values > 1e-10 * values[-1]
        return np.asarray(vectors[:, keep] / np.sqrt(values[keep]))

    def _span(self, rows: Matrix, side: int) -> Matrix:
        """Coordinates of rows in the span of the anchors: their inner products are those of the kernel."""
        return np.asarray(self._kernel(rows, side) @ self.roots_[side])

    def _map(self, rows: Matrix, side: int) -> Matrix:
        span = self._span(rows, side)
        return self.maps_in_span_.right(span) if side else self.maps_in_span_.left(span)
