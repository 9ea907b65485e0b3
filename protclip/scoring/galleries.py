"""Score matched vectors on a gallery: retrieval in both directions and nearest-neighbour class accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.scoring.html_table import html_table
from protclip.scoring.retrieval import DirectionScores, RetrievalScores, knn_accuracy, score_retrieval
from protclip.typing import Indices, Vectors


@dataclass(frozen=True)
class Gallery:
    """Matched items for retrieval from one side to the other.

    Attributes
    ----------
    ids : list of str
    rows : int64 array [n, 2]
        Numbers of the matched items among the items of the first and of the second side.
    sizes : int64 array [n] or None
        Size of each item (residues), for the length-matched rank.
    labels : list of str or None
        Hierarchical class of each item, levels joined by ``.`` (C.A.T.H), for k-nearest-neighbour accuracy.
    clusters : list of str or None
        Near-duplicate group of each item, left out of its own neighbours.
    scheme : str
        Name of the classification that ``labels`` are from; ``<scheme>_knn`` in metrics.
    """

    ids: list[str]
    rows: Indices
    sizes: Indices | None = None
    labels: list[str] | None = None
    clusters: list[str] | None = None
    scheme: str = "class"

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        return f"Gallery({len(self)} pairs{'' if self.labels is None else f', with {self.scheme} labels'})"


@dataclass(frozen=True)
class Evaluation:
    """Scores of one gallery and the vectors behind them.

    Attributes
    ----------
    metrics : dict
        The object of ``metrics.json``: ``retrieval`` and, with class labels, ``<scheme>_knn`` of both sides.
    vectors : two float32 arrays [n, dim]
        Of the two sides.
    directions : two of DirectionScores
        Ranks of the partners behind the metrics, queries of the first side first; in the order of the
        gallery.
    """

    metrics: dict[str, Any]
    vectors: Sequence[Vectors]
    directions: tuple[DirectionScores, DirectionScores]

    def __repr__(self) -> str:
        found = self.metrics["retrieval"]
        parts = [f"{name} R@1 {row['R@1']:.3f}" for name, row in self._rows().items()]
        return f"Evaluation({', '.join(parts)}; chance {found['chance_R@1']:.3f}, gallery {found['gallery']})"

    def _repr_html_(self) -> str:
        found = self.metrics["retrieval"]
        names = ["R@1", "R@5", "R@10", "median_rank"]
        rows = [[name, *(row[key] for key in names)] for name, row in self._rows().items()]
        rows.append(["chance", found["chance_R@1"], "", "", ""])
        return html_table(f"retrieval in a gallery of {found['gallery']}", ["", *names], rows)

    def _rows(self) -> dict[str, dict[str, float]]:
        return {name: row for name, row in self.metrics["retrieval"].items() if isinstance(row, dict)}


def score(
    vectors: Sequence[Vectors], gallery: Gallery, names: tuple[str, str], block: int | None = None
) -> Evaluation:
    """Metrics of matched vectors, two arrays [n, dim]; ``block`` scores within blocks of that many items."""
    scores = _retrieval(vectors, gallery, names, block)
    metrics: dict[str, Any] = {"retrieval": scores.metrics()}
    if gallery.labels is not None and any(gallery.labels):
        known = np.array([bool(label) for label in gallery.labels])
        labels = [label for label in gallery.labels if label]
        clusters = (
            None
            if gallery.clusters is None
            else [c for c, k in zip(gallery.clusters, known, strict=True) if k]
        )
        for suffix, rows in zip(("", f"_{names[1]}"), vectors, strict=True):
            metrics[f"{gallery.scheme}_knn{suffix}"] = dict(knn_accuracy(rows[known], labels, clusters))
    return Evaluation(metrics, vectors, (scores.forward, scores.backward))


def validation_scores(
    vectors: Sequence[Vectors], gallery: Gallery, names: tuple[str, str]
) -> dict[str, float]:
    """Numbers for the log. ``score``, the mean reciprocal rank, picks the epoch: it is smoother than R@k."""
    scores = _retrieval(vectors, gallery, names, None)
    both = (scores.forward, scores.backward)
    mrr = float(_reciprocal(scores).mean())
    return {
        "score": mrr,
        "valid_R@1": float(np.mean([d.recall(1) for d in both])),
        "valid_R@10": float(np.mean([d.recall(10) for d in both])),
        "valid_mrr": mrr,
    }


def reciprocal_ranks(
    vectors: Sequence[Vectors], gallery: Gallery, names: tuple[str, str]
) -> NDArray[np.float64]:
    """Reciprocal rank of each item's partner, averaged over both directions, float64 [n]."""
    return _reciprocal(_retrieval(vectors, gallery, names, None))


def _reciprocal(scores: RetrievalScores) -> NDArray[np.float64]:
    both = (scores.forward, scores.backward)
    return np.asarray(np.mean([1 / (1 + d.ahead + d.tied / 2) for d in both], 0))


def _retrieval(
    vectors: Sequence[Vectors], gallery: Gallery, names: tuple[str, str], block: int | None
) -> RetrievalScores:
    return score_retrieval(
        *vectors, left_name=names[0], right_name=names[1], lengths=gallery.sizes, block=block
    )
