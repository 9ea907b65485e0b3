"""Scores to probabilities, fitted on validation: temperature, Platt's sigmoid, isotonic regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protclip.errors import DataError
from protclip.typing import Floats

Method = Literal["none", "temperature", "platt", "isotonic"]


@dataclass(frozen=True)
class Calibrator:
    """A map from logits to probabilities that keeps the order of scores (isotonic: up to ties).

    Attributes
    ----------
    method : {"none", "temperature", "platt", "isotonic"}
        ``temperature``: softmax(logits / T). ``platt``: sigmoid(slope * logit + offset), one for all classes.
        ``isotonic``: piecewise linear through ``knots``, one for all classes. ``none``: softmax or sigmoid.
    kind : {"single", "multi"}
    slope, offset : float
        1 / T and 0 for a temperature.
    knots : tuple of float pairs
        (logit, probability), both increasing.

    Examples
    --------
    >>> Calibrator("temperature", "single", slope=0.5)(np.array([[2.0, 0.0]])).round(3).tolist()
    [[0.731, 0.269]]
    """

    method: Method
    kind: str
    slope: float = 1.0
    offset: float = 0.0
    knots: tuple[tuple[float, float], ...] = ()

    def __call__(self, logits: Floats) -> NDArray[np.float64]:
        """Probabilities [n, classes] of logits [n, classes]; rows sum to 1 for single-label tasks."""
        x = np.asarray(logits, np.float64) * self.slope + self.offset
        if self.kind == "single":
            return softmax(x)
        if self.method == "isotonic":
            where, value = np.array(self.knots).T
            return np.asarray(np.interp(np.asarray(logits, np.float64), where, value))
        return sigmoid(x)

    def config(self) -> dict[str, Any]:
        """Plain values (TOML types)."""
        return {
            "method": self.method,
            "kind": self.kind,
            "slope": self.slope,
            "offset": self.offset,
            "knots": [list(knot) for knot in self.knots],
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Calibrator:
        """Inverse of :meth:`config`."""
        knots = tuple((float(a), float(b)) for a, b in config["knots"])
        slope, offset = float(config["slope"]), float(config["offset"])
        return cls(config["method"], config["kind"], slope, offset, knots)


def fit_calibrator(logits: Floats, labels: NDArray[np.bool_], kind: str, method: str = "auto") -> Calibrator:
    """Fit on validation logits.

    Parameters
    ----------
    logits : float array [n, classes]
    labels : bool array [n, classes]
        Proteins without any label are left out of a multi-label fit.
    kind : {"single", "multi"}
    method : {"auto", "none", "temperature", "platt", "isotonic"}
        ``auto`` is a temperature for one class per protein and Platt's sigmoid for several.

    Returns
    -------
    Calibrator
        Uncalibrated where the fit does not lower the log-loss, or nothing can be fitted.

    Raises
    ------
    DataError
        If logits are not finite or the shapes differ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(200, 20))
    >>> y = rng.random((200, 20)) < 1 / (1 + np.exp(-x))
    >>> bool(abs(fit_calibrator(10 * x, y, "multi").slope - 0.1) < 0.02)
    True
    """
    x = np.asarray(logits, np.float64)
    y = np.asarray(labels, np.bool_)
    if x.shape != y.shape or x.ndim != 2:
        raise DataError("logits and labels differ in shape", got=str(x.shape), expected=str(y.shape))
    if not np.isfinite(x).all():
        raise DataError(
            "scores are not finite", where="calibration", got=f"{int((~np.isfinite(x)).sum())} of them"
        )
    if method == "auto":
        method = "temperature" if kind == "single" else "platt"
    plain = Calibrator("none", kind)
    labelled = y.any(1)
    x, y = x[labelled], y[labelled]
    if method == "none" or len(x) == 0:
        return plain
    if method == "temperature":
        fitted = Calibrator("temperature", kind, slope=_temperature(x, y))
    elif method == "platt":
        slope, offset = _platt(x.ravel(), y.ravel())
        fitted = Calibrator("platt", kind, slope, offset)
    else:
        fitted = Calibrator("isotonic", kind, knots=_isotonic(x.ravel(), y.ravel()))
    return fitted if log_loss(fitted(x), y, kind) < log_loss(plain(x), y, kind) else plain


def log_loss(probabilities: Floats, labels: NDArray[np.bool_], kind: str) -> float:
    """Mean negative log-likelihood; over protein-class pairs for multi-label tasks."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-12, 1 - 1e-12)
    if kind == "single":
        return float(-np.log(p[labels]).mean())
    return float(-np.where(labels, np.log(p), np.log1p(-p)).mean())


def reliability(
    probabilities: Floats, labels: NDArray[np.bool_], kind: str, bins: int = 10
) -> dict[str, Any]:
    """How often a class predicted with probability p is right.

    For one class per protein the best-scored class of each protein counts, for several all pairs.

    Returns
    -------
    dict
        ``ece``, the expected calibration error (mean absolute difference of confidence and frequency,
        weighted by the number of predictions), and ``bins``: rows (mean probability, frequency, number).
    """
    p, y = np.asarray(probabilities, np.float64), np.asarray(labels, np.bool_)
    if kind == "single":
        best = p.argmax(1)[:, None]
        p, y = np.take_along_axis(p, best, 1), np.take_along_axis(y, best, 1)
    p, y = p.ravel(), y.ravel()
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    count = np.bincount(place, minlength=bins)
    some = count > 0
    mean = np.bincount(place, p, bins)[some] / count[some]
    frequency = np.bincount(place, y.astype(np.float64), bins)[some] / count[some]
    ece = float(np.sum(np.abs(mean - frequency) * count[some]) / max(len(p), 1))
    rows = [[float(a), float(b), int(c)] for a, b, c in zip(mean, frequency, count[some], strict=True)]
    return {"ece": ece, "bins": rows}


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 / (1 + exp(-x)), without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def _temperature(x: NDArray[np.float64], y: NDArray[np.bool_]) -> float:
    """1 / T of least log-loss, which is convex in 1 / T; targets are smoothed so that none is certain."""
    slope = 1.0
    # A share of 1 / (n + 2) of each target is spread over the other classes, as in Platt's method.
    share = 1 / (len(x) + 2)
    true = (1 - share) * x[y] + share * (x.sum(1) - x[y]) / max(x.shape[1] - 1, 1)
    for _ in range(100):
        p = softmax(slope * x)
        mean = (p * x).sum(1)
        gradient = float((mean - true).mean())
        curvature = float(((p * x**2).sum(1) - mean**2).mean())
        step = gradient / max(curvature, 1e-12)
        new = float(np.clip(slope - step, slope / 4, slope * 4))
        if abs(new - slope) < 1e-10 * slope or not 1e-4 < new < 1e4:
            break
        slope = new
    return slope


def _platt(x: NDArray[np.float64], y: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and offset of least log-loss, with Platt's smoothed targets against certainty from few labels."""
    positive = int(y.sum())
    negative = len(y) - positive
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # The starting point is centred and scaled, so that Newton's steps are well conditioned.
    centre, scale = float(x.mean()), max(float(x.std()), 1e-9)
    z = (x - centre) / scale
    a, b = scale, centre

    def loss(a: float, b: float) -> float:
        v = a * z + b
        return float(np.mean(np.logaddexp(0.0, v) - target * v))

    value = loss(a, b)
    for _ in range(100):
        p = sigmoid(a * z + b)
        g = p - target
        w = p * (1 - p)
        ga, gb = float((g * z).mean()), float(g.mean())
        haa, hab, hbb = float((w * z * z).mean()) + 1e-9, float((w * z).mean()), float(w.mean()) + 1e-9
        determinant = haa * hbb - hab * hab
        da, db = (hbb * ga - hab * gb) / determinant, (haa * gb - hab * ga) / determinant
        step = 1.0
        while step > 1e-6 and loss(a - step * da, b - step * db) > value:
            step /= 2
        if step <= 1e-6:
            break
        a, b = a - step * da, b - step * db
        new = loss(a, b)
        if value - new < 1e-12:
            break
        value = new
    if a <= 0:  # scores worse than chance: never turn their order round
        return 1.0, 0.0
    return a / scale, b - a * centre / scale


def _isotonic(x: NDArray[np.float64], y: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    from sklearn.isotonic import IsotonicRegression  # heavy

    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(x, y.astype(np.float64))
    where, value = fit.X_thresholds_, fit.y_thresholds_
    if len(where) > 512:  # a smaller table that keeps ends and shape
        keep = np.unique(np.linspace(0, len(where) - 1, 512).round().astype(int))
        where, value = where[keep], value[keep]
    return tuple((float(a), float(b)) for a, b in zip(where, value, strict=True))
