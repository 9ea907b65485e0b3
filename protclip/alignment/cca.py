"""Regularised canonical correlation analysis: the closed-form alignment of two feature sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from protclip.errors import ConfigError
from protclip.typing import Matrix


@dataclass(frozen=True)
class LinearMaps:
    """Affine maps of both sides into k shared dimensions: ``(x - mean) @ weight.T``.

    Attributes
    ----------
    left_mean, right_mean : float64 arrays [d_left], [d_right]
    left_weight, right_weight : float64 arrays [k, d_left], [k, d_right]
    correlations : float64 array [k]
        Regularised canonical correlations, largest first.
    """

    left_mean: Matrix
    left_weight: Matrix
    right_mean: Matrix
    right_weight: Matrix
    correlations: Matrix

    @property
    def affine(self) -> tuple[tuple[Matrix, Matrix], tuple[Matrix, Matrix]]:
        """Mean and weight of each side."""
        return (self.left_mean, self.left_weight), (self.right_mean, self.right_weight)

    def left(self, x: Matrix) -> Matrix:
        """Map left features [n, d_left] to [n, k]."""
        return np.asarray((x - self.left_mean) @ self.left_weight.T)

    def right(self, y: Matrix) -> Matrix:
        """Map right features [n, d_right] to [n, k]."""
        return np.asarray((y - self.right_mean) @ self.right_weight.T)


def fit_cca(x: Matrix, y: Matrix, *, dim: int, ridge: float = 3.0, power: float = 0.5) -> LinearMaps:
    """Fit CCA to n matched rows.

    Parameters
    ----------
    x, y : float arrays [n, d_left], [n, d_right]
        Matched feature rows.
    dim : int
        Shared dimensions wanted; at most min(n - 1, d_left, d_right) carry anything and are returned.
    ridge : float
        Added to each covariance, as a multiple of its mean eigenvalue.
    power : float
        Each direction is weighted by this power of its correlation, on both sides.

    Notes
    -----
    The maps are ``S_xx^-1/2 u_i rho_i^power``. With power 1/2 the inner product of two mapped rows is the
    least-squares estimate of their matching score; larger powers let the strong directions, which few pairs
    tell best, decide more of the cosine, and 0 is the textbook's CCA. Where there are fewer rows than
    features the whole computation runs in the span of the rows, at O(n^2 d).

    Raises
    ------
    ConfigError
        With fewer than two pairs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(50, 4))
    >>> maps = fit_cca(x, x @ rng.normal(size=(4, 6)), dim=4, ridge=1e-6)
    >>> bool(np.all(maps.correlations > 0.999))
    True
    """
    n = len(x)
    if n < 2 or len(y) != n:
        raise ConfigError(
            "CCA needs matched pairs", got=f"{n} left and {len(y)} right rows", expected="at least 2"
        )
    mean_x, mean_y = x.mean(0), y.mean(0)
    half_x, half_y = _whitener(x - mean_x, ridge), _whitener(y - mean_y, ridge)
    cross = ((x - mean_x) @ half_x.T).T @ ((y - mean_y) @ half_y.T) / n
    return maps_from_cross(cross, mean_x, half_x, mean_y, half_y, dim=min(dim, n - 1), power=power)


def maps_from_cross(
    cross: Matrix,
    mean_x: Matrix,
    half_x: Matrix,
    mean_y: Matrix,
    half_y: Matrix,
    *,
    dim: int,
    power: float = 0.5,
) -> LinearMaps:
    """Maps from the cross-covariance of whitened rows.

    Parameters
    ----------
    cross : float64 array [r_left, r_right]
        Mean of ``half_x (x - mean_x) (y - mean_y)' half_y'`` over the (weighted) pairs.
    mean_x, mean_y : float64 arrays [d_left], [d_right]
    half_x, half_y : float64 arrays [r_left, d_left], [r_right, d_right]
        Whitening rows, as of :func:`whitener`.
    dim : int
        Shared dimensions wanted.
    power : float
        See :func:`fit_cca`.
    """
    u, rho, vt = np.linalg.svd(cross, full_matrices=False)
    k = min(dim, len(rho))
    weight = (np.clip(rho[:k], 0.0, None) ** power)[:, None]
    return LinearMaps(mean_x, weight * (u.T[:k] @ half_x), mean_y, weight * (vt[:k] @ half_y), rho[:k])


def whitener(rows: Matrix, weights: Matrix, ridge: float) -> tuple[Matrix, Matrix]:
    """Weighted mean [d] and whitening rows [r, d] of feature rows.

    Under the weights, ``half @ (x - mean)`` is uncorrelated, with variances lambda / (lambda + ridge).

    Parameters
    ----------
    rows : float64 array [n, d]
    weights : float64 array [n]
        Not negative, sum 1.
    ridge : float
        Multiple of the covariance's mean eigenvalue.

    Examples
    --------
    >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 6.0], [2.0, 6.0]])
    >>> mean, half = whitener(x, np.full(4, 0.25), ridge=0.0)
    >>> mean.tolist(), np.cov((x - mean) @ half.T, rowvar=False, bias=True).round(12).tolist()
    ([1.0, 3.0], [[1.0, 0.0], [0.0, 1.0]])
    """
    mean = weights @ rows
    scaled = (rows - mean) * np.sqrt(weights)[:, None]
    n, d = rows.shape
    if n <= d:
        return mean, _whitener(scaled * np.sqrt(n), ridge)
    # The covariance is much smaller than the rows, and its decomposition costs nothing in their number.
    eigenvalues, vectors = np.linalg.eigh(scaled.T @ scaled)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    keep = eigenvalues > 1e-12 * max(eigenvalues[0], 1e-300)
    floor = ridge * eigenvalues.sum() / d
    return mean, np.asarray(vectors.T[keep] / np.sqrt(eigenvalues[keep] + floor)[:, None])


def _whitener(centred: Matrix, ridge: float) -> Matrix:
    """Rows that map centred features to uncorrelated coordinates of variance lambda / (lambda + ridge)."""
    n, d = centred.shape
    _, singular, vt = np.linalg.svd(centred, full_matrices=False)
    eigenvalues = singular**2 / n
    floor = ridge * eigenvalues.sum() / d
    keep = eigenvalues > 1e-12 * max(eigenvalues[0], 1e-300)
    return np.asarray(vt[keep] / np.sqrt(eigenvalues[keep] + floor)[:, None])
