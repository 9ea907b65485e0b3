"""Fmax, AUPR and accuracy: one exact definition each, carried and printed with the number.

Several definitions of each circulate, and on the same scores they differ by points.  The results here are
exact over all distinct scores; ties are never broken by the order of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protclip.errors import DataError
from protclip.tasks.average_precision import average_precision, pooled_average_precision
from protclip.typing import Bools, Floats

__all__ = ["Accuracy", "Aupr", "Fmax", "accuracy", "aupr_macro", "aupr_micro", "fmax"]


_ROWS = 128  # proteins sorted together: what fits the processor's cache


@dataclass(frozen=True)
class Fmax:
    """Protein-centric maximum F1 of a multi-label prediction.

    Attributes
    ----------
    value : float
        Largest F1 over all thresholds, 0 to 1.
    threshold : float
        The highest threshold that reaches it: classes with at least this score are predicted.
    precision, recall : float
        At that threshold.
    proteins : int
        Proteins that were scored: those with at least one label.
    left_out : int
        Proteins without any label, which are not scored.
    """

    value: float
    threshold: float
    precision: float
    recall: float
    proteins: int
    left_out: int
    definition: ClassVar[str] = (
        "protein-centric Fmax: over all distinct scores t, precision averaged over the proteins "
        "with a class >= t, recall over all proteins with a label; ties grouped"
    )

    def __str__(self) -> str:
        return (
            f"Fmax {self.value:.4f} at t = {self.threshold:.6g} over {self.proteins} proteins, "
            f"{self.left_out} without label left out ({self.definition})"
        )


@dataclass(frozen=True)
class Aupr:
    """Area under the precision-recall curve as average precision.

    Attributes
    ----------
    value : float
        0 to 1.
    chance : float
        Expectation for random scores: the share of positives.
    classes : int
        Classes that were scored.
    left_out : int
        Classes without any positive, which a macro average leaves out; 0 for micro.
    definition : str
    """

    value: float
    chance: float
    classes: int
    left_out: int
    definition: str

    def __str__(self) -> str:
        return (
            f"AUPR {self.value:.4f} (chance {self.chance:.4f}) over {self.classes} classes, "
            f"{self.left_out} without a positive left out ({self.definition})"
        )


@dataclass(frozen=True)
class Accuracy:
    """Share of the items whose best-scored class is the true one.

    Attributes
    ----------
    value : float
        0 to 1.
    majority : float
        What always naming the commonest true class gives.
    items : int
    tied : int
        Items whose best score several classes share; each such item counts one over their number where the
        true class is among them.
    """

    value: float
    majority: float
    items: int
    tied: int
    definition: ClassVar[str] = "top-1 accuracy: highest score is the true class; ties shared"

    def __str__(self) -> str:
        return (
            f"accuracy {self.value:.4f} (commonest class {self.majority:.4f}) over {self.items} items, "
            f"{self.tied} with a tie at the top ({self.definition})"
        )


def fmax(scores: ArrayLike, labels: ArrayLike) -> Fmax:
    """Protein-centric Fmax, exact over all distinct scores.

    For a threshold t, protein i has the predicted classes with score >= t.  Precision is averaged over the
    proteins with at least one predicted class, recall over all proteins; the result is the largest harmonic
    mean of the two.

    Parameters
    ----------
    scores : array_like of float, shape (n, classes)
        Any finite numbers; only their order matters.
    labels : array_like of bool or 0/1, shape (n, classes)

    Returns
    -------
    Fmax

    Raises
    ------
    DataError
        Shapes that differ, scores that are not finite, labels other than 0 and 1, or no protein with a label.

    Examples
    --------
    >>> found = fmax([[0.9, 0.2, 0.8], [0.1, 0.7, 0.3]], [[1, 0, 0], [0, 1, 0]])
    >>> found.value, found.threshold
    (0.8571428571428571, 0.7)
    """
    x, y = _multilabel(scores, labels)
    labelled = y.any(axis=1)
    left_out = int(np.count_nonzero(~labelled))
    if left_out:
        x, y = x[labelled], y[labelled]
    if len(x) == 0:
        raise DataError(
            "no protein has a label", where="labels", got=f"{left_out} without", expected="1 or more"
        )

    # Lowering t to a value that no true class has adds only false positives: recall stays, precision falls.
    # So the maximum lies at the score of a true class, and only those, far fewer than all
    # scores, are candidates.
    candidates = np.unique(x[y])
    needed = y.sum(axis=1)
    precision, covered, recall = _curves(x, y, needed, candidates)
    # Each candidate is the score of a true class, so neither mean is ever 0.
    mean_precision = precision / covered
    mean_recall = recall / len(x)
    f1 = 2 * mean_precision * mean_recall / (mean_precision + mean_recall)
    # Sums over millions of steps carry rounding: take the highest threshold of those that are equal up to it.
    best = int(np.flatnonzero(f1 >= f1.max() - 1e-12)[-1])
    threshold = candidates[best]
    predicted = x >= threshold
    hits = (predicted & y).sum(axis=1)
    named = predicted.sum(axis=1)
    exact_precision = float(np.mean(hits[named > 0] / named[named > 0]))
    exact_recall = float(np.mean(hits / needed))
    value = 2 * exact_precision * exact_recall / (exact_precision + exact_recall)
    return Fmax(value, float(threshold), exact_precision, exact_recall, len(x), left_out)


def _curves(
    x: Floats, y: Bools, needed: NDArray[np.int64], candidates: Floats
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sums over proteins at every candidate: precision, whether anything is predicted, recall.

    A protein's precision changes only where its own scores are passed, so each score carries the change, and
    the changes at and above a candidate add up to the sum there.
    """
    bins = len(candidates) + 1
    precision, covered, recall = np.zeros((3, bins))
    depth = np.arange(1, x.shape[1] + 1)
    for start in range(0, len(x), _ROWS):
        part, truth = x[start : start + _ROWS], y[start : start + _ROWS]
        order = np.argsort(part, axis=1)[:, ::-1]
        ranked = np.take_along_axis(part, order, axis=1)
        value = np.cumsum(np.take_along_axis(truth, order, axis=1), axis=1, dtype=np.int32) / depth
        # Within a protein, tied scores enter together: only the last of them carries the change.
        last = np.ones(ranked.shape, np.bool_)
        np.not_equal(ranked[:, 1:], ranked[:, :-1], out=last[:, :-1])
        steps = value[last]
        change = np.diff(steps, prepend=0.0)
        counts = last.sum(axis=1)
        first = np.cumsum(counts) - counts
        change[first] = steps[first]
        # A score counts for the candidates at or below it: file it under the highest of them.
        place = np.searchsorted(candidates, ranked[last], side="right")
        precision += np.bincount(place, weights=change, minlength=bins)
        covered += np.bincount(place[first], minlength=bins)
        found = np.searchsorted(candidates, part[truth], side="right")
        weights = 1.0 / needed[start + np.nonzero(truth)[0]]
        recall += np.bincount(found, weights=weights, minlength=bins)
    # Entry 0 holds the scores below every candidate; the sum there is the end state of every protein, unused.
    return _from_above(precision), _from_above(covered), _from_above(recall)


def _from_above(filed: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(filed[::-1])[::-1][1:], dtype=np.float64)


def aupr_micro(scores: ArrayLike, labels: ArrayLike) -> Aupr:
    """Average precision over all protein-class pairs taken as one list, as scikit-learn defines it.

    Proteins without a label stay in, as negatives throughout.

    Parameters
    ----------
    scores : array_like of float, shape (n, classes)
    labels : array_like of bool or 0/1, shape (n, classes)

    Returns
    -------
    Aupr

    Raises
    ------
    DataError
        As :func:`fmax`.

    Examples
    --------
    >>> round(aupr_micro([[0.9, 0.2], [0.1, 0.7]], [[1, 0], [1, 1]]).value, 4)
    0.9167
    """
    x, y = _multilabel(scores, labels)
    if not y.any():
        raise DataError("no class has a positive", where="labels", got="0 positives", expected="1 or more")
    return Aupr(
        value=pooled_average_precision(x, y),
        chance=float(y.mean()),
        classes=y.shape[1],
        left_out=0,
        definition="micro AUPR: average precision over all protein-class pairs, unlabelled proteins too",
    )


def aupr_macro(scores: ArrayLike, labels: ArrayLike) -> Aupr:
    """Mean over the classes with a positive of each class's average precision.

    Parameters
    ----------
    scores : array_like of float, shape (n, classes)
    labels : array_like of bool or 0/1, shape (n, classes)

    Returns
    -------
    Aupr
        ``left_out`` counts the classes without a positive.

    Raises
    ------
    DataError
        As :func:`fmax`.

    Examples
    --------
    >>> found = aupr_macro([[0.9, 0.2, 0.5], [0.1, 0.7, 0.5]], [[1, 0, 0], [1, 1, 0]])
    >>> found.value, found.classes, found.left_out
    (1.0, 2, 1)
    """
    x, y = _multilabel(scores, labels)
    present = y.any(axis=0)
    if not present.any():
        raise DataError("no class has a positive", where="labels", got="0 positives", expected="1 or more")
    return Aupr(
        value=float(average_precision(x, y)[present].mean()),
        chance=float(y[:, present].mean()),
        classes=int(np.count_nonzero(present)),
        left_out=int(np.count_nonzero(~present)),
        definition="macro AUPR: average precision per class, averaged over the classes with a positive",
    )


def accuracy(scores: ArrayLike, labels: ArrayLike) -> Accuracy:
    """Top-1 accuracy of a single-label prediction.

    Parameters
    ----------
    scores : array_like of float, shape (n, classes)
    labels : array_like of int, shape (n,)
        Index of the true class.

    Returns
    -------
    Accuracy

    Raises
    ------
    DataError
        Shapes that do not fit, scores that are not finite, or labels outside 0 .. classes - 1.

    Examples
    --------
    >>> found = accuracy([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], [1, 1, 0])
    >>> found.value, found.tied
    (0.5, 1)
    """
    x = _scores(scores)
    truth = np.asarray(labels)
    if truth.shape != x.shape[:1]:
        raise DataError(
            "one label per item is needed", where="labels", got=str(truth.shape), expected=f"({len(x)},)"
        )
    if truth.dtype.kind not in "iu" or truth.min() < 0 or truth.max() >= x.shape[1]:
        raise DataError(
            "labels must be indices of classes",
            where="labels",
            got=f"{truth.dtype} from {truth.min()} to {truth.max()}",
            expected=f"whole numbers from 0 to {x.shape[1] - 1}",
        )
    top = x == x.max(axis=1, keepdims=True)
    sharing = top.sum(axis=1)
    right = top[np.arange(len(x)), truth] / sharing
    return Accuracy(
        value=float(right.mean()),
        majority=float(np.bincount(truth.astype(np.int64)).max() / len(x)),
        items=len(x),
        tied=int(np.count_nonzero(sharing > 1)),
    )


def _scores(values: ArrayLike) -> Floats:
    try:
        x = np.asarray(values)
        if x.dtype.kind not in "fiub":
            raise TypeError(f"an array of {x.dtype}")
        # Half precision is widened, which keeps its order and its ties; whole numbers fit float64 up to 2^53.
        x = (
            x
            if x.dtype in (np.float32, np.float64)
            else x.astype(np.float32 if x.itemsize < 4 else np.float64)
        )
    except (TypeError, ValueError) as error:
        raise DataError("scores are no array of numbers", where="scores", got=str(error)) from error
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] == 0:
        raise DataError(
            "scores have the wrong shape", where="scores", got=str(x.shape), expected="(n, classes)"
        )
    if not np.isfinite(x).all():
        bad = np.argwhere(~np.isfinite(x))
        raise DataError(
            "scores are not finite",
            where="scores",
            got=f"{len(bad)} such values, the first in row {bad[0][0]}, column {bad[0][1]}",
            expected="finite numbers",
        )
    return x


def _multilabel(scores: ArrayLike, labels: ArrayLike) -> tuple[Floats, Bools]:
    x = _scores(scores)
    y = np.asarray(labels)
    if y.shape != x.shape:
        raise DataError(
            "labels and scores must have one shape", where="labels", got=str(y.shape), expected=str(x.shape)
        )
    if y.dtype != np.bool_:
        if y.dtype.kind not in "iuf" or not np.isin(y, (0, 1)).all():
            raise DataError("labels must be 0 or 1", where="labels", got=f"other values of {y.dtype}")
        y = y.astype(np.bool_)
    return x, y
