"""CCA against scikit-learn and against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cross_decomposition import CCA

from protclip.alignment.cca import fit_cca
from protclip.errors import ConfigError


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(300, 3))
    x = latent @ rng.normal(size=(3, 8)) + 0.5 * rng.normal(size=(300, 8)) + 4
    y = latent @ rng.normal(size=(3, 6)) + 0.5 * rng.normal(size=(300, 6)) - 2
    return x, y


def test_equals_scikit_learn_without_ridge(data: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = data
    maps = fit_cca(x, y, dim=3, ridge=0.0)
    theirs = CCA(3, max_iter=5000, tol=1e-12).fit(x, y)
    a, b = theirs.transform(x, y)
    expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(3)]
    np.testing.assert_allclose(maps.correlations, expected, rtol=1e-6)
    for k in range(3):
        assert abs(np.corrcoef(maps.left(x)[:, k], a[:, k])[0, 1]) > 1 - 1e-6


def test_ridge_solves_the_regularised_eigenproblem(data: tuple[np.ndarray, np.ndarray]) -> None:
    """S_xy (S_yy + r)^-1 S_yx w = rho^2 (S_xx + r) w, written out."""
    x, y = data[0] - data[0].mean(0), data[1] - data[1].mean(0)
    n = len(x)
    sxx, syy, sxy = x.T @ x / n, y.T @ y / n, x.T @ y / n
    sxx += 0.7 * np.trace(sxx) / len(sxx) * np.eye(len(sxx))
    syy += 0.7 * np.trace(syy) / len(syy) * np.eye(len(syy))
    maps = fit_cca(*data, dim=4, ridge=0.7)
    for w, rho in zip(maps.left_weight, maps.correlations, strict=True):
        np.testing.assert_allclose(sxy @ np.linalg.solve(syy, sxy.T @ w), rho**2 * sxx @ w, atol=1e-9)


def test_more_features_than_rows_gives_the_same_as_the_full_covariance() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(12, 40)), rng.normal(size=(12, 30))
    maps = fit_cca(x, y, dim=5, ridge=1.0)
    xc, yc = x - x.mean(0), y - y.mean(0)

    def inverse_root(c: np.ndarray) -> np.ndarray:
        s = c.T @ c / 12
        values, vectors = np.linalg.eigh(s + np.trace(s) / len(s) * np.eye(len(s)))
        return vectors @ np.diag(values**-0.5) @ vectors.T

    rho = np.linalg.svd(inverse_root(xc) @ (xc.T @ yc / 12) @ inverse_root(yc), compute_uv=False)
    np.testing.assert_allclose(maps.correlations, rho[:5], rtol=1e-8)


@pytest.mark.parametrize("n", [0, 1])
def test_needs_two_pairs(n: int) -> None:
    with pytest.raises(ConfigError, match="CCA needs matched pairs"):
        fit_cca(np.zeros((n, 3)), np.zeros((n, 3)), dim=2)


def test_constant_features_do_not_divide_by_zero() -> None:
    maps = fit_cca(np.ones((5, 3)), np.ones((5, 3)), dim=2)
    assert np.isfinite(maps.left(np.ones((5, 3)))).all()
