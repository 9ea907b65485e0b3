"""A classifier on embeddings that are already there, in the manner of scikit-learn."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator

from protclip.errors import ConfigError, DataError
from protclip.tasks.calibration import sigmoid, softmax
from protclip.tasks.classifier import Classifier, train_classifier
from protclip.tasks.metrics import accuracy, fmax
from protclip.tasks.task_loss import TaskLoss, class_weights
from protclip.training.running import seed_step


class Probe(BaseEstimator):  # type: ignore[misc]
    """Linear or one-layer classifier on embeddings, for one class per item or several.

    Parameters
    ----------
    head : {"linear", "mlp"}
    epochs : int, optional
        Passes over the data; by default 30, or as many more as make 600 steps.
    batch_size : int
        All rows at once where there are fewer.
    lr, weight_decay : float
        Of AdamW, with warm-up and a cosine.
    dropout : float
    class_weights : bool
        Weigh classes by their rarity in the labels given to :meth:`fit`.
    seed : int
        The same seed gives the same classifier.

    Attributes
    ----------
    classes_ : array
        Sorted class names of one-class labels; column numbers of a matrix of labels.
    n_features_in_ : int
    kind_ : {"single", "multi"}

    Examples
    --------
    >>> x = np.array([[0.0, 1.0], [0.1, 0.9], [1.0, 0.0], [0.9, 0.2]])
    >>> probe = Probe(epochs=100).fit(x, ["alpha", "alpha", "beta", "beta"])
    >>> probe.predict([[0.0, 1.1]]).tolist(), probe.score(x, ["alpha", "alpha", "beta", "beta"])
    (['alpha'], 1.0)
    """

    def __init__(
        self,
        *,
        head: Literal["linear", "mlp"] = "linear",
        epochs: int | None = None,
        batch_size: int = 256,
        lr: float = 1e-2,
        weight_decay: float = 1e-2,
        dropout: float = 0.0,
        class_weights: bool = False,
        seed: int = 0,
    ) -> None:
        # scikit-learn wants constructors that only store.
        self.head = head
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.dropout = dropout
        self.class_weights = class_weights
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> Probe:
        """Train on embeddings.

        Parameters
        ----------
        X : float array [n, d]
        y : array [n] of classes, or bool / 0-1 array [n, classes]

        Raises
        ------
        DataError
            If the shapes do not fit, a value is not finite, or there is but one class.
        ConfigError
            If an option is out of range.
        """
        x = _matrix(X)
        truth = np.asarray(y)
        if len(truth) != len(x) or len(x) < 2:
            raise DataError(
                "X and y do not fit", got=f"{len(x)} and {len(truth)} rows", expected="2 or more each"
            )
        if (self.epochs is not None and self.epochs < 1) or self.batch_size < 2 or not self.lr > 0:
            raise ConfigError(
                "out of range",
                where="Probe",
                got=f"epochs {self.epochs}, batch {self.batch_size}, lr {self.lr}",
            )
        labels = self._learn_classes(truth)
        if not labels.any(0).sum() > (1 if self.kind_ == "single" else 0):
            raise DataError("nothing to tell apart", where="y", got=f"{int(labels.any(0).sum())} classes")
        self.n_features_in_ = x.shape[1]
        seed_step(self.seed, 0)
        network = Classifier(x.shape[1], len(self.classes_), kind=self.head, dropout=self.dropout)
        target = torch.from_numpy(labels.argmax(1) if self.kind_ == "single" else labels)
        weights = class_weights(labels, self.kind_) if self.class_weights else None
        train_classifier(
            network,
            torch.from_numpy(x),
            target,
            TaskLoss(self.kind_, weights),
            seed=self.seed,
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            weight_decay=self.weight_decay,
        )
        self.network_ = network
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Probabilities [n, classes]; rows sum to 1 for one class per item."""
        logits = self.decision_function(X).astype(np.float64)
        return softmax(logits) if self.kind_ == "single" else sigmoid(logits)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """The likeliest class of each row, or for several classes bool [n, classes] of those above 1/2."""
        logits = self.decision_function(X)
        if self.kind_ == "multi":
            return logits > 0
        found: NDArray[Any] = self.classes_[logits.argmax(1)]
        return found

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Accuracy, or Fmax for several classes per item.

        A class that was not seen in training is never predicted, and so counts as an error.
        """
        logits = self.decision_function(X)
        truth = np.asarray(y)
        if self.kind_ == "multi":
            return fmax(logits, truth).value
        place = {value: i for i, value in enumerate(self.classes_.tolist())}
        known = np.array([value in place for value in truth.tolist()], np.bool_)
        if not known.any():
            return 0.0
        index = np.array([place[value] for value in truth[known].tolist()])
        return accuracy(logits[known], index).value * float(known.mean())

    @torch.inference_mode()
    def decision_function(self, X: ArrayLike) -> NDArray[np.float32]:
        """Logits [n, classes].

        Raises
        ------
        DataError
            Before :meth:`fit`, or if X has another width or values that are not finite.
        """
        if not hasattr(self, "network_"):
            raise DataError("not fitted", where="Probe", hint="Call fit first")
        x = _matrix(X)
        if x.shape[1] != self.n_features_in_:
            raise DataError(
                "another number of features than in training",
                where="X",
                got=str(x.shape[1]),
                expected=str(self.n_features_in_),
            )
        logits: NDArray[np.float32] = self.network_(torch.from_numpy(x)).numpy()
        return logits

    def _learn_classes(self, truth: NDArray[Any]) -> NDArray[np.bool_]:
        self.classes_: NDArray[Any]
        if truth.ndim == 1:
            self.kind_ = "single"
            self.classes_, index = np.unique(truth, return_inverse=True)
            return np.asarray(np.eye(len(self.classes_), dtype=np.bool_)[index])
        if truth.ndim != 2 or not np.isin(truth, (0, 1)).all():
            raise DataError("labels are neither classes nor 0 and 1", where="y", got=f"shape {truth.shape}")
        self.kind_ = "multi"
        self.classes_ = np.arange(truth.shape[1])
        return truth.astype(np.bool_)


def _matrix(values: ArrayLike) -> NDArray[np.float32]:
    x = np.asarray(values, np.float32)
    if x.ndim != 2 or not len(x):
        raise DataError("embeddings have the wrong shape", where="X", got=str(x.shape), expected="(n, d)")
    if not np.isfinite(x).all():
        row = int(np.flatnonzero(~np.isfinite(x).all(1))[0])
        raise DataError("embeddings are not finite", where="X", got=f"NaN or infinity in row {row}")
    return x
