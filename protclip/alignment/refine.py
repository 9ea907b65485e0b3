"""OT-EM: a transport plan between the unpaired items and a CCA fit to its soft pairs, in turn."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from protclip.alignment.cca import LinearMaps, fit_cca, maps_from_cross, whitener
from protclip.alignment.sinkhorn import PlanMoments, sinkhorn
from protclip.typing import Matrix

MOST_CERTAIN = 0.98
"""Largest correlation that a plan believes in; at 1 a single direction would decide everything."""


@dataclass(frozen=True)
class RefineOptions:
    """Settings of :func:`refine`; they are explained in :class:`protclip.alignment.TransportAlignment`."""

    dim: int = 64
    ridge: float = 3.0
    epsilon: float = 0.1
    weight: float = 1.0
    rounds: int = 8
    unbalanced: float | None = None
    power: float = 0.5
    plan: str = "cosine"
    tol: float = 1e-4
    max_iter: int = 1000
    max_items: int = 20_000
    seed: int = 0
    block: int | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class Refined:
    """Result of :func:`refine`.

    Attributes
    ----------
    maps : LinearMaps
    history : list of dict
        One entry per round: ``round``, ``iterations``, ``error`` and ``converged`` of the plan, its ``mass``
        and mean ``confidence``, the sum of the ``correlations``, and the relative ``change`` of the
        cross-moment.
    confidence_left, confidence_right : float64 arrays [n], [m]
        Of the unpaired rows, from the last plan; NaN for rows outside its sample.
    """

    maps: LinearMaps
    history: list[dict[str, float]]
    confidence_left: Matrix
    confidence_right: Matrix


def refine(
    pairs: tuple[Matrix, Matrix],
    free: tuple[Matrix, Matrix],
    options: RefineOptions,
    *,
    start: LinearMaps | None = None,
    prior: tuple[Matrix, Matrix] | None = None,
) -> Refined:
    """Start from CCA of the pairs and alternate plan and fit.

    Parameters
    ----------
    pairs : pair of float64 arrays [p, d_left], [p, d_right]
        Matched rows, at least two; none where there is a ``start``.
    free : pair of float64 arrays [n, d_left], [m, d_right]
        Unpaired rows, at least one on each side.
    options : RefineOptions
    start : LinearMaps, optional
        Maps for the first plan instead of CCA of the pairs.
    prior : pair of float64 arrays [n, q], [m, q], optional
        Side information of the unpaired rows, each quantity divided by the width of agreement: a plan entry
        is multiplied by exp(-|s_i - t_j|^2 / 2).

    Notes
    -----
    With ``plan="cosine"`` the cost of a pair is 1 - cos in the present shared space. With ``"likelihood"`` it
    is minus the log likelihood ratio of matched to unmatched under the Gaussian that the canonical
    correlations describe (Bach and Jordan 2005), so that ``epsilon`` 1 makes the plan the posterior of a
    matching, up to Sinkhorn's marginals: directions that are known better count more, outliers count more
    than average items, and nothing needs a temperature.

    The fit sees the pairs, of total mass 1, and the plan's soft pairs, of total mass ``weight`` (less where
    the plan is unbalanced and leaves mass out). Only the plan's cross-moment and marginals enter it. A
    balanced plan has fixed marginals, so the features are whitened once.

    Of pools larger than ``max_items`` each round's plan sees another random sample: its cross-moment is an
    unbiased estimate over the sample, and the whitening is that of the whole pools.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> z = rng.normal(size=(60, 2))
    >>> found = refine((z[:9], z[:9]), (z[9:], z[9:]), RefineOptions(dim=2, rounds=2))
    >>> len(found.history), found.maps.left_weight.shape
    (2, (2, 2))
    """
    x, y = (np.concatenate([known, rest]) for known, rest in zip(pairs, free, strict=True))
    p = len(pairs[0])
    if start is None:
        start = fit_cca(*pairs, dim=options.dim, ridge=options.ridge, power=options.power)
    maps = start
    marginals = np.full(len(free[0]), 1 / len(free[0])), np.full(len(free[1]), 1 / len(free[1]))
    sides = _Side(x, p, options), _Side(y, p, options)
    for side, marginal in zip(sides, marginals, strict=True):
        side.whiten(marginal)
    history: list[dict[str, float]] = []
    potentials, before, moments = None, None, None
    rng = np.random.default_rng(options.seed)
    sampled = any(len(rows) > options.max_items for rows in free)
    for number in range(1, options.rounds + 1):
        chosen = [_sample(len(rows), options.max_items, rng) for rows in free]
        parts = free[0][chosen[0]], free[1][chosen[1]]
        beside = None if prior is None else (prior[0][chosen[0]], prior[1][chosen[1]])
        plan = sinkhorn(
            *_plan_rows(maps, parts, options, beside),
            epsilon=options.epsilon,
            unbalanced=options.unbalanced,
            start=potentials,
            tol=options.tol,
            max_iter=options.max_iter,
            block=options.block,
        )
        potentials = None if sampled else (plan.f, plan.g)
        moments = plan.moments(sides[0].features[chosen[0]], sides[1].features[chosen[1]])
        if options.unbalanced is not None:
            for side, index, mass in zip(sides, chosen, (moments.row_mass, moments.column_mass), strict=True):
                side.whiten(_spread_out(_numpy(mass), index, len(side.features)))
        mixed = _cross(sides, chosen, moments, options.weight)
        maps = maps_from_cross(
            mixed,
            sides[0].mean,
            sides[0].half,
            sides[1].mean,
            sides[1].half,
            dim=options.dim,
            power=options.power,
        )
        raw = _numpy(moments.cross)
        change = np.inf if before is None else _norm(raw - before) / max(_norm(raw), 1e-300)
        before = raw
        history.append(
            {
                "round": number,
                "iterations": plan.iterations,
                "error": plan.error,
                "converged": plan.converged,
                "mass": float(moments.row_mass.sum()),
                "confidence": float(moments.row_confidence.mean()),
                "correlations": float(maps.correlations.sum()),
                "change": change,
            }
        )
    assert moments is not None  # rounds is at least 1
    confidence = [
        _spread_out(_numpy(values), index, len(rows), np.nan)
        for values, index, rows in zip(
            (moments.row_confidence, moments.column_confidence), chosen, free, strict=True
        )
    ]
    return Refined(maps, history, *confidence)


def _sample(size: int, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """All rows, or ``most`` of them."""
    return np.arange(size) if size <= most else np.sort(rng.choice(size, most, replace=False))


def _spread_out(values: Matrix, index: NDArray[np.int64], size: int, empty: float = 0.0) -> Matrix:
    """``values`` [k] at the places ``index`` of ``size``, ``empty`` elsewhere."""
    found = np.full(size, empty)
    found[index] = values
    return found


class _Side:
    """Rows of one side, the pairs first, and their whitening under the present marginal of the plan."""

    def __init__(self, rows: Matrix, pairs: int, options: RefineOptions) -> None:
        self.rows, self.pairs, self.options = rows, pairs, options
        # Centred once for the sake of float32 sums; the exact mean is taken off in _cross.
        self.centre = rows.mean(0)
        self.features = torch.from_numpy(rows[pairs:] - self.centre).to(options.device, options.dtype)
        self.mean, self.half = np.empty(0), np.empty((0, 0))

    def whiten(self, marginal: Matrix) -> None:
        known = np.full(self.pairs, 1 / max(self.pairs, 1))
        weights = np.concatenate([known, self.options.weight * marginal])
        self.mean, self.half = whitener(self.rows, weights / weights.sum(), self.options.ridge)
        self.marginal = marginal


def _cross(
    sides: tuple[_Side, _Side], chosen: list[NDArray[np.int64]], moments: PlanMoments, weight: float
) -> Matrix:
    """Whitened cross-covariance of pairs and soft pairs about the mean of both."""
    known = [(side.rows[: side.pairs] - side.mean) @ side.half.T for side in sides]
    certain = min(1, len(known[0]))  # mass of all pairs together
    cross = known[0].T @ known[1] / max(1, len(known[0]))
    shift = [side.centre - side.mean for side in sides]
    row, column = _numpy(moments.row_mass), _numpy(moments.column_mass)
    first, second = (
        mass @ (side.rows[side.pairs + index] - side.centre)
        for mass, side, index in zip((row, column), sides, chosen, strict=True)
    )
    soft = _numpy(moments.cross) + np.outer(first, shift[1]) + np.outer(shift[0], second)
    soft += row.sum() * np.outer(shift[0], shift[1])
    cross = cross + weight * sides[0].half @ soft @ sides[1].half.T
    return np.asarray(cross / (certain + weight * row.sum()))


def _norm(matrix: Matrix) -> float:
    return float(np.linalg.norm(matrix))


def _plan_rows(
    maps: LinearMaps,
    free: tuple[Matrix, Matrix],
    options: RefineOptions,
    prior: tuple[Matrix, Matrix] | None,
) -> list[torch.Tensor]:
    """Rows whose inner product says how well two items fit."""
    rows = [maps.left(free[0]), maps.right(free[1])]
    if options.plan == "cosine":
        rows = [_unit(side) for side in rows]
    else:
        rho = np.clip(maps.correlations[: rows[0].shape[1]], 0.0, MOST_CERTAIN)
        rows = [(side - side.mean(0)) / _spread(side) for side in rows]
        # What depends on one side alone moves nothing between fixed marginals: the potentials take it up. For
        # open marginals it is chosen so that the cost is a squared distance, 0 where two items agree.
        alone = [0.5 - (side**2 @ (rho / (2 * (1 - rho**2))))[:, None] for side in rows]
        rows = [side * np.sqrt(rho / (1 - rho**2)) for side in rows]
        if options.unbalanced is not None:
            ones = [np.ones_like(side) for side in alone]
            rows = [np.hstack([rows[0], alone[0], ones[0]]), np.hstack([rows[1], ones[1], alone[1]])]
    if prior is not None:
        # exp(-|s - t|^2 / 2) without its one-sided parts, whatever epsilon is
        centre = prior[0].mean(0)
        rows = [
            np.hstack([side, np.sqrt(options.epsilon) * (extra - centre)])
            for side, extra in zip(rows, prior, strict=True)
        ]
    return [torch.from_numpy(side).to(options.device, options.dtype) for side in rows]


def _unit(rows: Matrix) -> Matrix:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8))


def _spread(rows: Matrix) -> Matrix:
    spread = rows.std(0)
    return np.asarray(np.where(spread > 1e-12, spread, 1.0))


def _numpy(tensor: torch.Tensor) -> NDArray[np.float64]:
    array: NDArray[np.float64] = tensor.double().cpu().numpy()
    return array
