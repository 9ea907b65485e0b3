"""A start without any pair: entropic Gromov-Wasserstein between samples of both sides."""

from __future__ import annotations

import numpy as np
import torch

from protclip.alignment.base import unit
from protclip.alignment.cca import LinearMaps, maps_from_cross, whitener
from protclip.alignment.sinkhorn import sinkhorn
from protclip.typing import Matrix


def gromov_plan(
    left: Matrix, right: Matrix, *, epsilon: float = 5e-3, rounds: int = 50, tol: float = 1e-6
) -> Matrix:
    """Plan P [n, m] that keeps distances: a local minimum of sum (l_ij - r_kl)^2 P_ik P_jl + epsilon KL.

    Parameters
    ----------
    left, right : float64 arrays [n, n], [m, m]
        Distances within each side.
    epsilon : float
        Entropy, in units of squared distances.
    rounds : int
        Plans in turn, each for the cost that the one before gives; fewer where P changes by less than
        ``tol`` in sum.

    References
    ----------
    Peyre, Cuturi and Solomon, "Gromov-Wasserstein averaging of kernel and distance matrices", ICML 2016.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 4.0])
    >>> far = np.abs(x[:, None] - x) / 4
    >>> gromov_plan(far, far[::-1, ::-1]).argmax(1).tolist()
    [2, 1, 0]
    """
    n, m = len(left), len(right)
    own = (left**2).mean(1)[:, None] + (right**2).mean(1)
    plan = np.full((n, m), 1 / (n * m))
    start = None
    for _ in range(rounds):
        cost = 2 * (own - 2 * left @ plan @ right)
        # The cost as 1 - <rows, unit vectors>, which is what sinkhorn takes.
        found = sinkhorn(
            torch.from_numpy(1 - cost),
            torch.eye(m, dtype=torch.float64),
            epsilon=epsilon,
            start=start,
            tol=1e-7,
            max_iter=2000,
        )
        start, before, plan = (found.f, found.g), plan, found.dense().numpy()
        if np.abs(plan - before).sum() < tol:
            break
    return plan


def gromov_start(
    x: Matrix,
    y: Matrix,
    *,
    dim: int,
    ridge: float,
    power: float,
    sample: int = 400,
    seed: int = 0,
    epsilon: float = 5e-3,
) -> LinearMaps:
    """Linear maps fitted to the soft pairs of a :func:`gromov_plan` between samples of prepared rows.

    Distances are cosine distances within a side, brought to one scale by the quantiles of all of them.
    """
    rng = np.random.default_rng(seed)
    rows = [side[rng.permutation(len(side))[:sample]] for side in (x, y)]
    plan = gromov_plan(*(_ranked(1 - unit(side) @ unit(side).T) for side in rows), epsilon=epsilon)
    (mean_x, half_x), (mean_y, half_y) = (
        whitener(side, marginal / marginal.sum(), ridge)
        for side, marginal in zip(rows, (plan.sum(1), plan.sum(0)), strict=True)
    )
    cross = ((rows[0] - mean_x) @ half_x.T).T @ plan @ ((rows[1] - mean_y) @ half_y.T)
    return maps_from_cross(cross, mean_x, half_x, mean_y, half_y, dim=dim, power=power)


def _ranked(distances: Matrix) -> Matrix:
    """Distances replaced by their quantile among all, 0 on the diagonal."""
    n = len(distances)
    upper = np.triu_indices(n, 1)
    order = np.empty(len(upper[0]))
    order[np.argsort(distances[upper])] = np.arange(1, len(order) + 1) / len(order)
    ranked = np.zeros((n, n))
    ranked[upper] = order
    return ranked + ranked.T
