"""How many samples stand for a distribution, as far as its kernel density tells.

The semantic density loss sees two distributions through the rows of one batch. Its density is a Parzen
window, ``p_S(x) = mean_s exp(-|x - s|^2 / (4 h^2 sigma_S^2))`` with sigma_S^2 the trace of the covariance of
S, and so wide (4 h^2 = 1) that few samples already give it: here is measured how few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.errors import DataError
from protclip.typing import Doubles

BANDWIDTH = 0.5
TOLERANCE = 0.01
"""Divergence that is small: a density that is right within about a tenth of its value."""

MOST_ITEMS = 2048
"""Rows that are looked at; larger sets are sampled."""

MOST_PLACES = 512
"""Rows at which densities are compared."""


@dataclass(frozen=True)
class SizeCurve:
    """Divergence of samples from the whole set, by their size.

    Attributes
    ----------
    sizes : int64 array [k]
        Ascending; the last is at most the whole set.
    divergence, spread : float64 arrays [k]
        Mean and standard deviation over the samples drawn.
    whole : int
        Rows of the whole set.
    """

    sizes: NDArray[np.int64]
    divergence: Doubles
    spread: Doubles
    whole: int

    def smallest(self, tolerance: float = TOLERANCE) -> int:
        """Least size whose mean divergence, and that of every larger one, is within ``tolerance``.

        The size of the whole set where none is: nothing smaller stands for it.
        """
        good = self.divergence <= tolerance
        beyond = np.flatnonzero(~good)
        place = int(beyond[-1]) + 1 if len(beyond) else 0
        return int(self.sizes[place]) if place < len(self.sizes) else self.whole

    def unlimited(self, tolerance: float = TOLERANCE) -> float:
        """Rows that would be needed of a set without end, of which this one is a sample.

        The divergence of n of N rows is about ``c (1/n - 1/N)``: sampling from a small set looks better than
        it is. The median of c over the sizes, divided by the tolerance.
        """
        below = self.sizes < self.whole
        if not below.any():
            return float(self.whole)
        c = self.divergence[below] / (1 / self.sizes[below] - 1 / self.whole)
        return float(np.median(c) / tolerance)


def log_density(
    places: ArrayLike,
    support: ArrayLike,
    *,
    bandwidth: float = BANDWIDTH,
    relative_distance: bool = True,
) -> Doubles:
    """Logarithm of the mean kernel of ``support`` at each of ``places``.

    Parameters
    ----------
    places : array_like of float, shape (m, d)
    support : array_like of float, shape (n, d)
        Two rows at least.
    bandwidth : float
        The h of the density.
    relative_distance : bool
        Divide by the support's variance; otherwise sigma is 1.

    Returns
    -------
    float64 array [m]

    Raises
    ------
    DataError
        Too few rows, or all rows equal under ``relative_distance``.

    Examples
    --------
    >>> np.exp(log_density([[0.0]], [[-1.0], [1.0]], relative_distance=False)).round(3)
    array([0.368])
    """
    x, s = np.asarray(places, np.float64), np.asarray(support, np.float64)
    if len(s) < 2:
        raise DataError("a density needs two rows", got=str(len(s)))
    return _log_mean_kernel(_squared_distances(x, s), _width(s, bandwidth, relative_distance))


def divergence(p_log: Doubles, q_log: Doubles) -> float:
    """Two-way divergence of two densities at the same places, per unit of the second's mean density.

    ``mean((p - q) (log p - log q)) / mean(q)``: never negative, 0 for equal densities, free of their scale.
    For small differences it is the mean squared relative error, so that 0.01 is an error of a tenth.

    Examples
    --------
    >>> round(divergence(np.log([1.1, 0.9]), np.log([1.0, 1.0])), 3)
    0.01
    """
    top = float(q_log.max())
    p, q = np.exp(p_log - top), np.exp(q_log - top)
    return float(((p - q) * (p_log - q_log)).mean() / q.mean())


def size_curve(
    rows: ArrayLike,
    *,
    sizes: Sequence[int] | None = None,
    repeats: int = 16,
    bandwidth: float = BANDWIDTH,
    relative_distance: bool = True,
    seed: int = 0,
) -> SizeCurve:
    """Compare the density of samples of growing size with that of the whole set.

    A quarter of the rows (at most :data:`MOST_PLACES`) are the places at which densities are compared; the
    others are the whole set, from which samples are drawn without replacement. No row is at a place of its
    own, where its kernel would be 1.

    Parameters
    ----------
    rows : array_like of float, shape (n, d)
        Vectors of one modality, as the loss sees them; 16 at least.
    sizes : sequence of int, optional
        Powers of two from 8 to the whole set by default.
    repeats : int
        Samples of each size.
    bandwidth, relative_distance
        See :func:`log_density`; each sample has its own variance.
    seed : int

    Raises
    ------
    DataError
        Too few rows, rows that are not finite or all equal, or sizes that do not fit.
    """
    x = np.asarray(rows, np.float64)
    if x.ndim != 2 or len(x) < 16 or not np.isfinite(x).all():
        raise DataError("16 finite rows are needed", where="sampling size", got=f"shape {x.shape}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(x))[:MOST_ITEMS]
    held = min(MOST_PLACES, len(order) // 4)
    places, support = x[order[:held]], x[order[held:]]
    whole = len(support)
    if sizes is None:
        chosen = [2**k for k in range(3, int(math.log2(whole)) + 1)]
    else:
        chosen = sorted({int(size) for size in sizes})
    if not chosen or chosen[0] < 2 or chosen[-1] > whole:
        raise DataError("sizes do not fit", where="sampling size", got=str(chosen), expected=f"2 to {whole}")
    squares = _squared_distances(places, support)
    reference = _log_mean_kernel(squares, _width(support, bandwidth, relative_distance))
    found = np.empty((len(chosen), repeats))
    for row, size in enumerate(chosen):
        for column in range(repeats):
            index = rng.choice(whole, size, replace=False)
            width = _width(support[index], bandwidth, relative_distance)
            found[row, column] = divergence(_log_mean_kernel(squares[:, index], width), reference)
    spread = found.std(1, ddof=1) if repeats > 1 else np.zeros(len(chosen))
    return SizeCurve(np.array(chosen, np.int64), found.mean(1), spread, whole)


def _width(support: Doubles, bandwidth: float, relative_distance: bool) -> float:
    if not relative_distance:
        return 4 * bandwidth**2
    variance = float(np.square(support - support.mean(0)).sum() / (len(support) - 1))
    if not variance > 0:
        raise DataError("all rows are equal, so that they have no density", where="sampling size")
    return 4 * bandwidth**2 * variance


def _squared_distances(x: Doubles, s: Doubles) -> Doubles:
    centre = s.mean(0)  # small numbers lose fewer digits
    x, s = x - centre, s - centre
    squares: Doubles = np.square(x).sum(1)[:, None] + np.square(s).sum(1) - 2 * x @ s.T
    return np.maximum(squares, 0.0)


def _log_mean_kernel(squares: Doubles, width: float) -> Doubles:
    exponents = -squares / width
    top = exponents.max(1)
    total: Doubles = top + np.log(np.exp(exponents - top[:, None]).mean(1))
    return total
