"""ASIF: coordinates relative to the pairs, without any fit."""

from __future__ import annotations

import numpy as np

from protclip.alignment.base import Alignment, Sets, unit
from protclip.typing import Matrix


class ASIF(Alignment):
    """Each row becomes its cosines to the paired rows of its own side, of which the largest are kept.

    Parameters
    ----------
    keep : int
        Largest cosines that are kept in each row; negative ones never are.
    exponent : float
        They are raised to this power.
    standardise, components
        See :class:`protclip.alignment.TransportAlignment`.

    References
    ----------
    Norelli et al., "ASIF: coupled data turns unimodal models to multimodal without training", NeurIPS 2023,
    arXiv 2210.01738.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(30, 8))
    >>> ASIF().fit(x, x[:, ::-1], [(i, i) for i in range(20)]).transform_left(x).shape
    (30, 20)
    """

    def __init__(
        self,
        keep: int = 800,
        exponent: float = 8.0,
        standardise: bool = True,
        components: int | None = None,
    ) -> None:
        self.keep, self.exponent = keep, exponent
        self.standardise, self.components = standardise, components

    def _learn(self, sets: Sets) -> None:
        self.anchors_ = unit(sets.x[sets.pairs[:, 0]]), unit(sets.y[sets.pairs[:, 1]])

    def _map(self, rows: Matrix, side: int) -> Matrix:
        cosines = np.maximum(unit(rows) @ self.anchors_[side].T, 0)
        if self.keep < cosines.shape[1]:
            least = np.partition(cosines, -self.keep, axis=1)[:, -self.keep, None]
            cosines = np.where(cosines >= least, cosines, 0)
        return np.asarray(cosines**self.exponent)
