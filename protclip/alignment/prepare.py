"""Features made ready for a linear fit: centred, scaled, and cut to their leading principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protclip.typing import Matrix


@dataclass(frozen=True)
class Preparation:
    """``((x - mean) / scale) @ axes``, learnt from rows.

    Attributes
    ----------
    mean, scale : float64 arrays [d]
    axes : float64 array [d, c] or None
        Orthonormal columns; None leaves the scaled features as they are.
    """

    mean: Matrix
    scale: Matrix
    axes: Matrix | None

    @classmethod
    def of(cls, rows: Matrix, *, standardise: bool = True, components: int | None = None) -> Preparation:
        """Learn from rows [n, d].

        Parameters
        ----------
        standardise : bool
            Scale features to unit variance; constant ones are only centred.
        components : int, optional
            Keep at most so many principal components of the scaled features, all where None.

        Examples
        --------
        >>> rows = np.array([[0.0, 1.0, 7.0], [2.0, 3.0, 7.0], [4.0, 5.0, 7.0]])
        >>> Preparation.of(rows, components=1)(rows).round(3).ravel().tolist() in (
        ...     [-1.732, 0.0, 1.732], [1.732, 0.0, -1.732])
        True
        """
        mean = rows.mean(0)
        spread = rows.std(0) if standardise else np.ones_like(mean)
        # Rounding leaves a tiny spread in a constant column, which must not be blown up to unit size.
        spread[spread <= 1e-6 * np.maximum(np.abs(mean), spread.max(initial=0.0))] = 1.0
        spread[spread == 0] = 1.0
        n, d = rows.shape
        if components is None or components >= d:
            return cls(mean, spread, None)
        scaled = (rows - mean) / spread
        if n > d:
            axes = np.linalg.eigh(scaled.T @ scaled)[1][:, ::-1]
        else:
            axes = np.linalg.svd(scaled, full_matrices=False)[2].T
        return cls(mean, spread, np.ascontiguousarray(axes[:, :components]))

    def __call__(self, rows: Matrix) -> Matrix:
        """Prepared rows [n, c]."""
        scaled = (rows - self.mean) / self.scale
        return np.asarray(scaled if self.axes is None else scaled @ self.axes)

    def unfold(self, mean: Matrix, weight: Matrix) -> tuple[Matrix, Matrix]:
        """An affine map of prepared rows, ``(z - mean) @ weight.T``, as one of the scaled features.

        Returns
        -------
        mean, weight : float64 arrays [d], [k, d]
        """
        if self.axes is None:
            return mean, weight
        return self.axes @ mean, weight @ self.axes.T
