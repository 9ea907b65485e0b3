"""How often an embedding's nearest neighbours share its CATH class, and the cosine arithmetic beneath it.

Plain arrays only.  Queries are scored some rows at a time, so memory does not grow with the square of their
number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.errors import DataError
from protclip.typing import Floats, Indices

__all__ = ["CATH_LEVELS", "KnnScores", "knn_accuracy", "score_knn", "tie_slack", "unit_rows"]

CATH_LEVELS = ("C", "A", "T", "H")
_SCORE_BUDGET = 1_000_000  # cosines held at once


@dataclass(frozen=True)
class KnnScores:
    """Nearest-neighbour accuracy at the four CATH levels.

    Attributes
    ----------
    accuracy : dict of str to float or None
        Share of the counted queries whose neighbours vote for their own class (0 to 1); None where `n` is 0.
    chance : dict of str to float or None
        What a randomly drawn eligible neighbour gives: the mean frequency of the query's class.
    n : dict of str to int
        Queries counted at each level: those with an eligible item of their own class.
    unlabelled : int
        Items without a code, which are neither query nor neighbour.
    """

    accuracy: dict[str, float | None]
    chance: dict[str, float | None]
    n: dict[str, int]
    unlabelled: int


def knn_accuracy(
    embeddings: ArrayLike, codes: Sequence[str], clusters: Sequence[str] | None = None, *, k: int = 1
) -> dict[str, float | None]:
    """k-nearest-neighbour accuracy at CATH class, architecture, topology and homologous superfamily.

    The arguments are those of :func:`score_knn`, which also gives the chance levels and the numbers of
    queries.

    Returns
    -------
    dict
        ``{"C": ..., "A": ..., "T": ..., "H": ...}``, each 0 to 1, or None where no query could be counted.

    Examples
    --------
    >>> knn_accuracy([[1, 0], [1, 0.1], [0, 1]], ["1.10.8.10", "1.10.8.10", "2.60.40.10"])
    {'C': 1.0, 'A': 1.0, 'T': 1.0, 'H': 1.0}
    """
    return score_knn(embeddings, codes, clusters, k=k).accuracy


def score_knn(
    embeddings: ArrayLike,
    codes: Sequence[str],
    clusters: Sequence[str] | None = None,
    *,
    k: int = 1,
    seed: int = 0,
) -> KnnScores:
    """Predict each item's CATH class from its nearest neighbours by cosine.

    The query itself and its whole sequence cluster are left out of its neighbours; a query counts at a level
    only where some remaining item shares its class there.  The vote is by majority, and the nearer class
    wins an even vote.

    Parameters
    ----------
    embeddings : array_like of float, shape (n, D)
    codes : sequence of str, length n
        ``"1.10.8.10"``; an empty code leaves the item out.
    clusters : sequence of str, length n, optional
        S35 cluster of each item; an empty name is a cluster of its own.
    k : int
        Number of neighbours that vote.  With k = 1 tied nearest neighbours share the vote; with more, those
        tied for the last places are drawn with `seed`.
    seed : int

    Returns
    -------
    KnnScores

    Raises
    ------
    DataError
        Shapes that differ, values that are not finite, a malformed code or k < 1.

    Examples
    --------
    >>> scores = score_knn([[1, 0], [1, 0.1], [0, 1]], ["1.10.8.10", "1.10.8.20", "2.60.40.10"])
    >>> scores.accuracy, scores.n
    ({'C': 1.0, 'A': 1.0, 'T': 1.0, 'H': None}, {'C': 2, 'A': 2, 'T': 2, 'H': 0})
    """
    if k < 1:
        raise DataError("at least one neighbour must vote", where="k", got=str(k), expected="1 or more")
    points = unit_rows(embeddings, "embeddings")
    for name, given in (("codes", codes), ("clusters", clusters)):
        if given is not None and len(given) != len(points):
            raise DataError(
                "one entry per embedding is needed",
                where=name,
                got=str(len(given)),
                expected=str(len(points)),
            )
    labelled = np.array([bool(code) for code in codes])
    chosen = np.flatnonzero(labelled)
    unlabelled = int(len(points) - len(chosen))
    if len(chosen) == 0:
        empty: dict[str, float | None] = dict.fromkeys(CATH_LEVELS)
        return KnnScores(empty, dict(empty), dict.fromkeys(CATH_LEVELS, 0), unlabelled)
    classes = _class_numbers([codes[int(i)] for i in chosen])
    group = _group_numbers(None if clusters is None else [clusters[int(i)] for i in chosen], len(chosen))
    eligible, mates = _eligible_counts(classes, group)
    hits = _votes(points[chosen], classes, group, k, np.random.default_rng(seed))
    accuracy: dict[str, float | None] = {}
    chance: dict[str, float | None] = {}
    counts: dict[str, int] = {}
    for column, level in enumerate(CATH_LEVELS):
        counted = mates[:, column] > 0
        counts[level] = int(counted.sum())
        accuracy[level] = float(hits[counted, column].mean()) if counted.any() else None
        chance[level] = float((mates[counted, column] / eligible[counted]).mean()) if counted.any() else None
    return KnnScores(accuracy, chance, counts, unlabelled)


def _class_numbers(codes: Sequence[str]) -> Indices:
    """Class of each item at each level as a number, shape (n, 4): equal numbers are equal code prefixes."""
    columns: list[list[str]] = [[] for _ in CATH_LEVELS]
    for code in codes:
        fields = str(code).split(".")
        if len(fields) != len(CATH_LEVELS) or not all(field.isdecimal() for field in fields):
            raise DataError(
                "malformed CATH code", where="codes", got=repr(code), expected="four numbers, as 1.10.8.10"
            )
        for level, column in enumerate(columns):
            column.append(".".join(fields[: level + 1]))
    return np.stack([np.unique(column, return_inverse=True)[1] for column in columns], axis=1).astype(
        np.int64
    )


def _group_numbers(clusters: Sequence[str] | None, n: int) -> Indices:
    if clusters is None:
        return np.arange(n)
    # A lone item without a cluster name gets a name that no cluster can have.
    named = [str(name) or f"\0{i}" for i, name in enumerate(clusters)]
    return np.unique(named, return_inverse=True)[1].astype(np.int64)


def _eligible_counts(classes: Indices, group: Indices) -> tuple[Indices, Indices]:
    """Items outside each item's own cluster: all (n,), and those of its class at each level (n, 4)."""
    n = len(group)
    eligible = n - np.bincount(group)[group]
    mates = np.empty((n, classes.shape[1]), np.int64)
    for level in range(classes.shape[1]):
        column = classes[:, level]
        pair = np.unique(column * n + group, return_inverse=True)[1]
        mates[:, level] = np.bincount(column)[column] - np.bincount(pair)[pair]
    return eligible.astype(np.int64), mates


def _votes(
    points: Floats, classes: Indices, group: Indices, k: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Whether the neighbours vote for the query's own class, shape (n, 4); a share where nearest ones tie."""
    n = len(points)
    hits = np.zeros((n, classes.shape[1]))
    slack = tie_slack(points)
    step = max(1, _SCORE_BUDGET // n)
    for start in range(0, n, step):
        rows = slice(start, min(n, start + step))
        scores = points[rows] @ points.T
        scores[group[rows, None] == group[None, :]] = -np.inf
        if k == 1:
            nearest = scores >= scores.max(axis=1, keepdims=True) - slack
            query, neighbour = np.nonzero(nearest & np.isfinite(scores))
            same = classes[start + query] == classes[neighbour]
            np.add.at(
                hits, start + query, same / np.bincount(query, minlength=rows.stop - start)[query, None]
            )
            continue
        for row, line in enumerate(scores):
            voters = _nearest(line, k, slack, rng)
            for level in range(classes.shape[1]):
                hits[start + row, level] = len(voters) > 0 and (
                    _majority(classes[voters, level]) == classes[start + row, level]
                )
    return hits


def _nearest(scores: Floats, k: int, slack: Any, rng: np.random.Generator) -> Indices:
    """Indices of the k largest finite scores, best first; those tied for the last places are drawn."""
    finite = np.flatnonzero(np.isfinite(scores))
    if len(finite) > k:
        last = np.partition(scores[finite], len(finite) - k)[len(finite) - k]
        sure = finite[scores[finite] > last + slack]
        border = finite[np.abs(scores[finite] - last) <= slack]
        finite = np.concatenate([sure, rng.permutation(border)[: k - len(sure)]])
    return finite[np.argsort(-scores[finite], kind="stable")]


def _majority(votes: Indices) -> int:
    """The commonest value; of several, the one that comes first."""
    values, first, count = np.unique(votes, return_index=True, return_counts=True)
    return int(values[np.lexsort((first, -count))[0]])


def tie_slack(points: Floats) -> Any:
    """Difference of cosines of `points` (n, D) up to which two are a tie: a bound on what rounding does.

    Examples
    --------
    >>> float(tie_slack(np.ones((1, 4), np.float32))) < 2e-6
    True
    """
    epsilons = max(16.0, float(np.sqrt(points.shape[1])))
    return points.dtype.type(epsilons * np.finfo(points.dtype).eps)


def unit_rows(values: ArrayLike, name: str) -> Floats:
    """Rows of `values` scaled to unit length; rows of zeros stay zeros.

    Parameters
    ----------
    values : array_like of float, shape (n, D)
    name : str
        What to call the array in an error.

    Returns
    -------
    ndarray of float64 for float64 input, else of float32, shape (n, D)
        A new array.

    Raises
    ------
    DataError
        No array of real numbers, another shape, no rows, or values that are not finite.

    Examples
    --------
    >>> unit_rows([[3.0, 4.0], [0.0, 0.0]], "vectors").tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"an array of {array.dtype}")
        array = array if array.dtype == np.float64 else array.astype(np.float32)
    except (TypeError, ValueError) as error:
        raise DataError("embeddings are no array of numbers", where=name, got=str(error)) from error
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            "embeddings have the wrong shape", where=name, got=str(array.shape), expected="(n, D) with D > 0"
        )
    if len(array) == 0:
        raise DataError("there is nothing to compare", where=name, got="0 items", expected="1 or more")
    finite = np.isfinite(array).all(axis=1)
    if not finite.all():
        raise DataError(
            "embeddings hold values that are not finite",
            where=name,
            got=f"{np.count_nonzero(~finite)} such rows, the first is row {int(np.argmin(finite))}",
            expected="finite numbers",
        )
    # Scaling by the largest entry first keeps the squares of huge and of tiny rows in range.
    largest = np.abs(array).max(axis=1, keepdims=True)
    array = np.divide(array, largest, out=np.zeros_like(array), where=largest > 0)
    norm = np.sqrt(np.einsum("nd,nd->n", array, array))[:, None]
    return np.asarray(np.divide(array, norm, out=array, where=norm > 0))
