"""What the alignments have in common: checks, preparation of the features, unit rows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from protclip.alignment.cca import LinearMaps
from protclip.alignment.prepare import Preparation
from protclip.alignment.validation import check_pairs, check_rows
from protclip.errors import ConfigError
from protclip.typing import Matrix, Pairs


class Sets(NamedTuple):
    """Prepared rows of a fit.

    Attributes
    ----------
    x, y : float64 arrays [n, c_left], [m, c_right]
        All rows.
    pairs : int64 array [p, 2]
    free_left, free_right : int64 arrays
        Rows that are in no pair.
    """

    x: Matrix
    y: Matrix
    pairs: Pairs
    free_left: Pairs
    free_right: Pairs


class Alignment(BaseEstimator):  # type: ignore[misc]
    """An alignment of two sets of embeddings; a subclass says in :meth:`_learn` what it does.

    Every subclass has the parameters ``standardise`` and ``components`` of
    :class:`protclip.alignment.TransportAlignment`.
    """

    standardise: bool = True
    components: int | None = 400

    def fit(self, X: ArrayLike, Y: ArrayLike, pairs: ArrayLike) -> Alignment:
        """Learn from all rows X [n, d_left], Y [m, d_right] and ``pairs``, int [p, 2] rows that match.

        Raises
        ------
        ConfigError
            With fewer than two pairs, or an option out of range.
        DataError
            If shapes do not fit, a value is not finite, or a pair names a row that is not there or taken.
        """
        self._check()
        x, y = check_rows(X, "X"), check_rows(Y, "Y")
        index = check_pairs(pairs, len(x), len(y))
        self.sides_ = [
            Preparation.of(rows, standardise=self.standardise, components=self.components) for rows in (x, y)
        ]
        free = np.delete(np.arange(len(x)), index[:, 0]), np.delete(np.arange(len(y)), index[:, 1])
        self._learn(Sets(self.sides_[0](x), self.sides_[1](y), index, *free))
        return self

    def transform_left(self, X: ArrayLike) -> NDArray[np.float32]:
        """Unit rows [n, k] in the shared space of left rows [n, d_left]."""
        return self._transform(X, "X", 0)

    def transform_right(self, Y: ArrayLike) -> NDArray[np.float32]:
        """Unit rows [m, k] in the shared space of right rows [m, d_right]."""
        return self._transform(Y, "Y", 1)

    def _transform(self, rows: ArrayLike, name: str, side: int) -> NDArray[np.float32]:
        if not hasattr(self, "sides_"):
            raise ConfigError("not fitted yet", where=type(self).__name__, hint="Call fit(X, Y, pairs) first")
        ready = self.sides_[side](check_rows(rows, name, len(self.sides_[side].mean)))
        return unit(self._map(ready, side)).astype(np.float32)

    def _check(self) -> None:
        """Raise :class:`ConfigError` for options out of range."""
        for name, value in self.get_params().items():
            counted = isinstance(value, (int, float)) and not isinstance(value, bool)
            if counted and not (
                0 < value < float("inf") or (name in ("ridge", "power", "seed") and value == 0)
            ):
                raise ConfigError("out of range", where=name, got=repr(value), expected="above 0")

    @abstractmethod
    def _learn(self, sets: Sets) -> None:
        """Learn from prepared rows."""

    @abstractmethod
    def _map(self, rows: Matrix, side: int) -> Matrix:
        """Prepared rows of side 0 or 1 in the shared space."""


class LinearAlignment(Alignment):
    """An alignment whose maps are linear; :meth:`_fit_maps` finds those of the prepared rows."""

    def _learn(self, sets: Sets) -> None:
        self.prepared_maps_ = self._fit_maps(sets)
        maps = self.prepared_maps_
        self.maps_ = LinearMaps(
            *self.sides_[0].unfold(maps.left_mean, maps.left_weight),
            *self.sides_[1].unfold(maps.right_mean, maps.right_weight),
            maps.correlations,
        )
        self.left_mean_, self.left_scale_ = self.sides_[0].mean, self.sides_[0].scale
        self.right_mean_, self.right_scale_ = self.sides_[1].mean, self.sides_[1].scale

    def _map(self, rows: Matrix, side: int) -> Matrix:
        return self.prepared_maps_.right(rows) if side else self.prepared_maps_.left(rows)

    @abstractmethod
    def _fit_maps(self, sets: Sets) -> LinearMaps:
        """Maps of prepared rows."""


def unit(rows: Matrix) -> Matrix:
    """Rows scaled to unit length; rows of zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8))


def median_distance(rows: Matrix, seed: int, sample: int = 500) -> float:
    """Median Euclidean distance between a sample of rows."""
    chosen = rows[np.random.default_rng(seed).permutation(len(rows))[:sample]]
    squares: Any = (chosen**2).sum(1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares - 2 * chosen @ chosen.T, 0))
    return float(np.median(distances[np.triu_indices(len(chosen), 1)])) or 1.0
