"""Cross-modal retrieval and nearest-neighbour class accuracy on plain arrays.

Nothing here knows a model or a protein: the input is embeddings, and where asked for lengths, CATH codes and
cluster names.  Similarity is the cosine.  It is computed tile by tile, so that a gallery of 100,000 items
needs no more memory than a small one.

**Ties.** Two items whose cosine with the query differs by less than rounding (16 machine epsilons) are tied,
and a tie is scored by its expectation under random order: R@k counts the share of the orders that put the
partner among the first k, ranks are mid-ranks, a tied length peer counts one half.  An encoder that maps
everything to one point is therefore at chance, not at R@1 = 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.errors import DataError
from protclip.scoring.knn import CATH_LEVELS, KnnScores, knn_accuracy, score_knn, tie_slack, unit_rows
from protclip.typing import Floats, Indices

__all__ = [
    "CATH_LEVELS",
    "DirectionScores",
    "KnnScores",
    "RetrievalScores",
    "knn_accuracy",
    "retrieval_metrics",
    "score_knn",
    "score_retrieval",
]

_TILE = 2048


@dataclass(frozen=True)
class DirectionScores:
    """Ranks of the true partners in one direction.

    Attributes
    ----------
    ahead : ndarray of int64, shape (n,)
        Gallery items that are strictly nearer to the query than its partner.
    tied : ndarray of int64, shape (n,)
        Other gallery items at the partner's own distance.
    peer_share : ndarray of float64, shape (n,)
        Share of the items of like length that rank below the partner, 0 to 1; NaN for a query without peers.
    """

    ahead: Indices
    tied: Indices
    peer_share: NDArray[np.float64]

    def __repr__(self) -> str:
        return f"DirectionScores({len(self.ahead)} queries, R@1 {self.recall(1):.3f})"

    def recall(self, k: int) -> float:
        """Share of the queries whose partner is among the first `k`, ties in expectation (0 to 1)."""
        return float(np.clip((k - self.ahead) / (self.tied + 1), 0.0, 1.0).mean())

    @property
    def median_rank(self) -> float:
        """Median over the queries of the partner's mid-rank; 1 is best."""
        return float(np.median(1 + self.ahead + self.tied / 2))

    def summary(self) -> dict[str, float]:
        """R@1, R@5, R@10 (0 to 1) and the median rank."""
        return {**{f"R@{k}": self.recall(k) for k in (1, 5, 10)}, "median_rank": self.median_rank}


@dataclass(frozen=True)
class RetrievalScores:
    """Both directions of a cross-modal retrieval, with what is needed to judge it.

    Attributes
    ----------
    gallery : int
        Number of items that each query was compared with, its partner included.
    forward, backward : DirectionScores
        Left queries in the right gallery, and the other way round.
    length_matched_rank : float or None
        Percent of the gallery items within +-5 % of the query's length that rank below the true partner,
        averaged over the queries and the two directions.  Chance is 50.  None without lengths or without any
        peers.
    without_peers : int
        Queries of one direction that have no other item within +-5 % length and are left out of that average.
    left_name, right_name : str
    """

    gallery: int
    forward: DirectionScores
    backward: DirectionScores
    length_matched_rank: float | None
    without_peers: int
    left_name: str = "left"
    right_name: str = "right"

    def metrics(self) -> dict[str, Any]:
        """The ``retrieval`` object of ``metrics.json``: recalls 0 to 1, length-matched rank in percent."""
        return {
            "gallery": self.gallery,
            "chance_R@1": 1.0 / self.gallery,
            f"{self.left_name}_to_{self.right_name}": self.forward.summary(),
            f"{self.right_name}_to_{self.left_name}": self.backward.summary(),
            "length_matched_rank": self.length_matched_rank,
        }


def retrieval_metrics(
    left: ArrayLike,
    right: ArrayLike,
    *,
    left_name: str = "left",
    right_name: str = "right",
    lengths: ArrayLike | None = None,
    block: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Cross-modal retrieval in both directions, in the form of ``metrics.json``.

    Parameters are those of :func:`score_retrieval`, which also gives the ranks behind the numbers.

    Returns
    -------
    dict
        ``gallery``, ``chance_R@1``, one object per direction with ``R@1``, ``R@5``, ``R@10`` (fractions) and
        ``median_rank``, and ``length_matched_rank`` (percent, chance 50; None without `lengths`).

    Raises
    ------
    DataError
        See :func:`score_retrieval`.

    Examples
    --------
    >>> import numpy as np
    >>> found = retrieval_metrics(np.eye(4), np.eye(4)[[1, 0, 2, 3]])
    >>> found["left_to_right"]["R@1"], found["chance_R@1"]
    (0.5, 0.25)

    Everything on one point is chance, not perfection:

    >>> retrieval_metrics(np.ones((4, 2)), np.ones((4, 2)))["left_to_right"]
    {'R@1': 0.25, 'R@5': 1.0, 'R@10': 1.0, 'median_rank': 2.5}
    """
    return score_retrieval(
        left, right, left_name=left_name, right_name=right_name, lengths=lengths, block=block, seed=seed
    ).metrics()


def score_retrieval(
    left: ArrayLike,
    right: ArrayLike,
    *,
    left_name: str = "left",
    right_name: str = "right",
    lengths: ArrayLike | None = None,
    block: int | None = None,
    seed: int = 0,
) -> RetrievalScores:
    """Rank the true partner of every item among all items of the other modality.

    Parameters
    ----------
    left, right : array_like of float, shape (n, D)
        Embeddings; row i of one is the partner of row i of the other.  Rows need not have unit length; a row
        of zeros has cosine 0 with everything.
    left_name, right_name : str
        Names of the modalities, used in the keys of the result.
    lengths : array_like of int, shape (n,), optional
        Residues per item, for the length-matched rank.
    block : int, optional
        Score each query only against a random block of that many items, as published code does with 50 or
        100. For comparison only: the smaller the gallery, the better every number looks.  The last block is
        filled up with items of the others, so that every gallery has `block` items and every item is a query
        once.
    seed : int
        Order of the items before they are cut into blocks; unused without `block`.

    Returns
    -------
    RetrievalScores

    Raises
    ------
    DataError
        No items, shapes that differ, values that are not finite, lengths that are not positive whole
        numbers, a block smaller than 2, or two modalities of one name.

    Examples
    --------
    >>> import numpy as np
    >>> scores = score_retrieval(np.eye(3), np.eye(3), lengths=[100, 104, 300])
    >>> scores.forward.median_rank, scores.length_matched_rank, scores.without_peers
    (1.0, 100.0, 1)
    """
    if left_name == right_name:
        raise DataError(
            "the two directions need different names", where="retrieval", got=f"{left_name!r} twice"
        )
    u, v = unit_rows(left, left_name), unit_rows(right, right_name)
    if u.shape != v.shape:
        raise DataError(
            "partners must be rows of equally shaped arrays",
            where="retrieval",
            got=f"{left_name} {u.shape} and {right_name} {v.shape}",
            expected="one shape (n, D)",
        )
    n = len(u)
    sizes = None if lengths is None else _lengths(lengths, n)
    if block is not None and block < 2:
        raise DataError(
            "a block needs at least two items", where="gallery", got=str(block), expected="2 or more"
        )
    if block is None or block >= n:
        forward, backward = _rank_partners(u, v, sizes)
        gallery = n
    else:
        forward, backward = _rank_in_blocks(u, v, sizes, block, np.random.default_rng(seed))
        gallery = block
    share = np.concatenate([forward.peer_share, backward.peer_share])
    without = int(np.isnan(forward.peer_share).sum()) if sizes is not None else 0
    matched = None if np.isnan(share).all() else float(100.0 * np.nanmean(share))
    return RetrievalScores(gallery, forward, backward, matched, without, left_name, right_name)


def _rank_in_blocks(
    u: Floats, v: Floats, sizes: Indices | None, block: int, rng: np.random.Generator
) -> tuple[DirectionScores, DirectionScores]:
    order = rng.permutation(len(u))
    parts: tuple[list[DirectionScores], list[DirectionScores]] = ([], [])
    for start in range(0, len(order), block):
        # The last block reaches back for distractors; only its new items are counted as queries.
        members = order[max(0, min(start, len(order) - block)) :][:block]
        new = slice(block - (len(order) - start) if start + block > len(order) else 0, None)
        chosen = None if sizes is None else sizes[members]
        for found, kept in zip(_rank_partners(u[members], v[members], chosen), parts, strict=True):
            kept.append(DirectionScores(found.ahead[new], found.tied[new], found.peer_share[new]))
    back = np.argsort(order)
    forward, backward = (
        DirectionScores(
            np.concatenate([p.ahead for p in side])[back],
            np.concatenate([p.tied for p in side])[back],
            np.concatenate([p.peer_share for p in side])[back],
        )
        for side in parts
    )
    return forward, backward


def _rank_partners(u: Floats, v: Floats, sizes: Indices | None) -> tuple[DirectionScores, DirectionScores]:
    """Count, for each row of u and of v, the other side's items ahead of and level with the partner."""
    n = len(u)
    # In the order of length, the peers of an item are neighbours: most tiles have none and skip that work.
    order = np.arange(n) if sizes is None else np.argsort(sizes, kind="stable")
    u, v = u[order], v[order]
    low, high = _peer_window(None if sizes is None else sizes[order], n)
    own = np.einsum("nd,nd->n", u, v)
    slack = tie_slack(u)
    above, reach = own + slack, own - slack
    ahead, level = np.zeros((2, n), np.int64), np.zeros((2, n), np.int64)
    peer_ahead, peer_level = np.zeros((2, n), np.int64), np.zeros((2, n), np.int64)
    for rows, columns in _tiles(n):
        tile = u[rows] @ v[columns].T
        if rows == columns:
            np.fill_diagonal(tile, own[rows])  # two ways to add up one cosine can differ in the last bits
        for side, (mine, theirs, scores) in enumerate(((rows, columns, tile), (columns, rows, tile.T))):
            nearer = scores > above[mine, None]
            near = scores >= reach[mine, None]  # nearer or tied
            ahead[side, mine] += np.count_nonzero(nearer, axis=1)
            level[side, mine] += np.count_nonzero(near, axis=1)
            if low[mine].min() < theirs.stop and high[mine].max() > theirs.start:
                place = np.arange(theirs.start, theirs.stop)
                peer = (place >= low[mine, None]) & (place < high[mine, None])
                peer_ahead[side, mine] += np.count_nonzero(nearer & peer, axis=1)
                peer_level[side, mine] += np.count_nonzero(near & peer, axis=1)
    peers = np.maximum(high - low - 1, 0)  # without the item itself
    back = np.argsort(order)
    sides = []
    for side in range(2):
        # `level` counts what is not behind the partner, the partner included.
        tied = level[side] - ahead[side] - 1
        peer_tied = peer_level[side] - peer_ahead[side] - 1
        below = peers - peer_ahead[side] - peer_tied / 2
        share = np.divide(below, peers, out=np.full(n, np.nan), where=peers > 0)
        sides.append(DirectionScores(ahead[side][back], tied[back], share[back]))
    return sides[0], sides[1]


def _peer_window(sizes: Indices | None, n: int) -> tuple[Indices, Indices]:
    """Half-open range of the items within +-5 % of each length; `sizes` ascend.  Empty without sizes."""
    if sizes is None:
        return np.zeros(n, np.int64), np.zeros(n, np.int64)
    # Whole numbers: |other - own| * 20 <= own, with no rounding at the edge of the window.
    margin = sizes // 20
    return (
        np.searchsorted(sizes, sizes - margin, side="left").astype(np.int64),
        np.searchsorted(sizes, sizes + margin, side="right").astype(np.int64),
    )


def _tiles(n: int) -> Iterator[tuple[slice, slice]]:
    for top in range(0, n, _TILE):
        for start in range(0, n, _TILE):
            yield slice(top, min(n, top + _TILE)), slice(start, min(n, start + _TILE))


def _lengths(values: ArrayLike, n: int) -> Indices:
    sizes = np.asarray(values)
    if sizes.shape != (n,):
        raise DataError(
            "one length per item is needed", where="lengths", got=str(sizes.shape), expected=f"({n},)"
        )
    if sizes.dtype.kind not in "iu" or sizes.min() < 1:
        raise DataError(
            "lengths must be positive whole numbers",
            where="lengths",
            got=f"{sizes.dtype} from {sizes.min()}",
            expected="residues per item, 1 or more",
        )
    return sizes.astype(np.int64)
