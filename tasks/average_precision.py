"""Average precision of many classes in one pass, exact, ties grouped."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protclip.typing import Bools, Floats


def average_precision(scores: Floats, labels: Bools) -> NDArray[np.float64]:
    """Average precision of every class, as scikit-learn defines it.

    The definition is the sum over all distinct scores t, from the top, of the step in recall times the
    precision at t. The step is the share of the positives that score t, so the sum is the mean, over the
    positives, of the precision at their own scores. Only those scores have to be looked up, and a class
    costs one sort of its column.

    Parameters
    ----------
    scores : float array [n, classes]
        Finite; only their order matters.
    labels : bool array [n, classes]

    Returns
    -------
    float64 array [classes]
        0 to 1; NaN for a class without a positive, for which nothing is defined.

    Examples
    --------
    >>> scores = np.array([[0.9, 0.2], [0.8, 0.2], [0.1, 0.7]])
    >>> average_precision(scores, np.array([[True, False], [False, False], [True, False]])).round(4)
    array([0.8333,    nan])
    """
    found = np.full(scores.shape[1], np.nan)
    # Columns side by side in memory: sorting values is several times faster than sorting places.
    columns = np.ascontiguousarray(scores.T)
    truths = np.ascontiguousarray(labels.T)
    for c in np.flatnonzero(truths.any(axis=1)):
        found[c] = _of_list(columns[c], truths[c])
    return found


def pooled_average_precision(scores: Floats, labels: Bools) -> float:
    """Average precision over all entries of two arrays taken as one list; NaN without a positive."""
    return _of_list(scores.ravel(), labels.ravel()) if labels.any() else float("nan")


def _of_list(scores: Floats, truth: Bools) -> float:
    """Average precision of one list [n] with at least one positive."""
    positives = np.sort(scores[truth])
    everything = np.sort(scores)
    # Entries with at least the score of each positive: all of them, and the positives among them.
    named = len(everything) - np.searchsorted(everything, positives, side="left")
    hits = len(positives) - np.searchsorted(positives, positives, side="left")
    return float(np.mean(hits / named))
