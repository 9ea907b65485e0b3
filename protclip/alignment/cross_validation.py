"""Scores of an alignment on pairs that it has not seen, and the choice of its settings by them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone

from protclip.errors import ConfigError
from protclip.typing import Matrix, Pairs

GRID: dict[str, tuple[float, ...]] = {
    "ridge": (1.0, 3.0, 10.0),
    "dim": (32, 64, 128),
    "weight": (0.3, 1.0, 3.0),
}
"""Settings that ``select=True`` tries; ``weight`` only where there is a plan."""

SELECTION_ROUNDS = 3
"""Rounds of each trial fit: the order of the settings shows early."""

LEAST_PAIRS = 4
"""Fewer pairs cannot be cut into training and held-out pairs of at least two and one."""

DISTRACTORS = 4096
"""Unpaired rows that stand in the gallery beside the held-out partners, at most."""


@dataclass(frozen=True)
class PairScores:
    """Ranks of partners among gallery rows, over both directions.

    Attributes
    ----------
    ranks : float64 array [queries]
        Rank of each partner, 1 is best, ties in the middle.
    gallery : float64 array [queries]
        Size of the gallery of each query, the partner included.
    """

    ranks: Matrix
    gallery: Matrix

    def summary(self) -> dict[str, float]:
        """R@1, R@10 and the median rank, each with its chance, and the mean gallery size."""
        found: dict[str, float] = {"queries": len(self.ranks), "gallery": float(self.gallery.mean())}
        for k in (1, 10):
            found[f"R@{k}"] = float((self.ranks <= k).mean())
            found[f"chance_R@{k}"] = float(np.minimum(1.0, k / self.gallery).mean())
        found["median_rank"] = float(np.median(self.ranks))
        found["chance_median_rank"] = float((self.gallery.mean() + 1) / 2)
        return found

    @property
    def score(self) -> float:
        """Minus the mean log rank relative to the gallery: 0 is a partner always last, more is better."""
        return float(-np.log(self.ranks / self.gallery).mean())


def rank_pairs(left: Matrix, right: Matrix, queries: Pairs, gallery: tuple[Pairs, Pairs]) -> PairScores:
    """Rank the partner of each query pair among the rows ``gallery`` of the other side, both ways.

    Parameters
    ----------
    left, right : float arrays [n, k], [m, k]
        Unit rows.
    queries : int array [p, 2]
    gallery : pair of int arrays
        Left and right rows beside the partners of the queries.

    Examples
    --------
    >>> eye = np.eye(3)
    >>> rank_pairs(eye, eye, np.array([[0, 0], [1, 2]]), (np.array([2]), np.array([1]))).ranks.tolist()
    [1.0, 2.5, 1.0, 2.5]
    """
    ranks, sizes = [], []
    for a, b, mine, other in ((left, right, 0, 1), (right, left, 1, 0)):
        shelf = np.concatenate([queries[:, other], gallery[other]]).astype(np.int64)
        cosines = a[queries[:, mine]] @ b[shelf].T
        own = cosines[np.arange(len(queries)), np.arange(len(queries))][:, None]
        ahead = (cosines > own + 1e-6).sum(1)
        tied = (np.abs(cosines - own) <= 1e-6).sum(1) - 1
        ranks.append(1 + ahead + tied / 2)
        sizes.append(np.full(len(queries), float(len(shelf))))
    return PairScores(np.concatenate(ranks), np.concatenate(sizes))


def cross_validate(
    model: Any,
    x: Matrix,
    y: Matrix,
    pairs: Pairs,
    *,
    count: int | None = None,
    prior: tuple[Matrix, Matrix] | None = None,
) -> PairScores:
    """Ranks of held-out pairs, each fold by a clone of ``model`` that saw neither of their rows.

    The gallery holds the fold's partners and the unpaired rows of that side (every k-th, 4,096 at most).
    ``count`` folds, by default the model's own; ``prior`` as in its ``fit``.

    Raises
    ------
    ConfigError
        With fewer than four pairs.
    """
    found = []
    options = model.get_params()
    count = options.get("folds", 5) if count is None else count
    for train, held in folds(len(pairs), count, options.get("seed", 0)):
        rows = [np.delete(np.arange(len(a)), pairs[held, side]) for side, a in enumerate((x, y))]
        kept = np.stack([np.searchsorted(rows[side], pairs[train, side]) for side in (0, 1)], 1)
        part = clone(model)
        if "select" in options:
            part.set_params(select=False)
        beside = {} if prior is None else {"prior": (prior[0][rows[0]], prior[1][rows[1]])}
        part.fit(x[rows[0]], y[rows[1]], kept, **beside)
        found.append(_score(part, x, y, pairs[held], pairs))
    return PairScores(np.concatenate([f.ranks for f in found]), np.concatenate([f.gallery for f in found]))


def training_scores(model: Any, x: Matrix, y: Matrix, pairs: Pairs) -> PairScores:
    """Ranks of the pairs that a fitted ``model`` was fitted to: flattering, but all there is for three."""
    return _score(model, x, y, pairs, pairs)


def choose(model: Any, x: Matrix, y: Matrix, pairs: Pairs) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Best settings of :data:`GRID` for ``model`` by :func:`cross_validate`, and the score of each.

    Ties go to the setting named first.

    Raises
    ------
    ConfigError
        With fewer than four pairs.
    """
    widest = min(x.shape[1], y.shape[1])
    dims = sorted({min(int(dim), widest) for dim in GRID["dim"]})
    weights = GRID["weight"] if model.method == "transport" else (model.weight,)
    results: list[dict[str, Any]] = []
    for ridge, dim, weight in itertools.product(GRID["ridge"], dims, weights):
        params = {"ridge": ridge, "dim": dim, "weight": weight}
        trial = clone(model).set_params(**params, rounds=min(model.rounds, SELECTION_ROUNDS))
        results.append({**params, "score": cross_validate(trial, x, y, pairs).score})
    best = max(results, key=lambda result: result["score"])
    return {key: best[key] for key in ("ridge", "dim", "weight")}, results


def folds(n: int, k: int, seed: int) -> Iterator[tuple[Pairs, Pairs]]:
    """Training and held-out indices of min(k, n // 2) folds of n pairs."""
    if n < LEAST_PAIRS:
        raise ConfigError(
            "too few pairs to hold some out",
            where="cross-validation",
            got=f"{n} pairs",
            expected=f"{LEAST_PAIRS} or more",
            hint="Leave the settings as they are",
        )
    parts = np.array_split(np.random.default_rng(seed).permutation(n), min(k, n // 2))
    for part in parts:
        yield np.setdiff1d(np.arange(n), part), np.sort(part)


def _score(model: Any, x: Matrix, y: Matrix, queries: Pairs, pairs: Pairs) -> PairScores:
    shelves = []
    for side, rows in enumerate((x, y)):
        free = np.delete(np.arange(len(rows)), pairs[:, side])
        shelves.append(free[:: max(1, -(-len(free) // DISTRACTORS))])
    needed = [np.unique(np.concatenate([queries[:, side], shelves[side]])) for side in (0, 1)]
    left, right = model.transform_left(x[needed[0]]), model.transform_right(y[needed[1]])
    local = np.stack([np.searchsorted(needed[side], queries[:, side]) for side in (0, 1)], 1)
    gallery = np.searchsorted(needed[0], shelves[0]), np.searchsorted(needed[1], shelves[1])
    return rank_pairs(left, right, local, gallery)
