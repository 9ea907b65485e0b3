"""Losses of the two kinds of task, and class weights from training labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from protclip.errors import DataError

LARGEST_WEIGHT = 10.0
"""Relative to the mean weight: one protein of a rare class must not rule a batch."""


def class_weights(labels: NDArray[np.bool_], kind: str) -> NDArray[np.float32]:
    """Weight of every class, from the labels of training proteins alone.

    A class with n_c of n proteins weighs n / n_c where proteins have one class, and log(1 + n / n_c) where
    they have several. Weights are divided by the mean over the training labels (one class) or over the
    classes (several) and cut off at :data:`LARGEST_WEIGHT`. Classes without a protein weigh 1.

    Parameters
    ----------
    labels : bool array [n, classes]
    kind : {"single", "multi"}

    Returns
    -------
    float32 array [classes]

    Raises
    ------
    DataError
        If there is no label at all.

    Examples
    --------
    >>> labels = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1, 0]], bool)
    >>> class_weights(labels, "single").astype(float).round(2).tolist()
    [0.67, 2.0, 1.0]
    """
    count = labels.sum(0).astype(np.float64)
    present = count > 0
    if not present.any():
        raise DataError("no class has a positive, so classes cannot be weighed", where="class weights")
    weights = np.ones(len(count))
    ratio = len(labels) / count[present]
    if kind == "single":
        # Mean over the labels: each class contributes count x weight = n.
        weights[present] = ratio * count.sum() / (len(labels) * present.sum())
    else:
        weights[present] = np.log1p(ratio) / np.log1p(ratio).mean()
    return np.minimum(weights, LARGEST_WEIGHT).astype(np.float32)


class TaskLoss(nn.Module):
    """Cross-entropy (one class per protein) or the mean binary cross-entropy over all classes.

    Parameters
    ----------
    kind : {"single", "multi"}
    weights : float array [classes], optional
        See :func:`class_weights`.
    """

    weights: Tensor | None

    def __init__(self, kind: str, weights: NDArray[np.float32] | None = None) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("weights", None if weights is None else torch.from_numpy(weights))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the rows of logits [n, classes]; targets are int64 [n] or 0/1 [n, classes]."""
        if self.kind == "single":
            each = cross_entropy(logits, targets, reduction="none")
            # A plain mean, so that several processes with equal shares average to the one-process value.
            return (each if self.weights is None else each * self.weights[targets]).mean()
        each = binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none")
        return (each if self.weights is None else each * self.weights).mean()
