"""Calibration: known miscalibrations are undone, order is kept, losses and weights follow their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar

from protclip.errors import DataError
from protclip.tasks.calibration import Calibrator, fit_calibrator, log_loss, reliability, sigmoid, softmax
from protclip.tasks.task_loss import TaskLoss, class_weights


def multi_case(n=400, classes=6, seed=0):
    """Labels drawn from sigmoid(logits); scores that are three times too sure and shifted."""
    rng = np.random.default_rng(seed)
    true = rng.normal(-1, 1.5, (n, classes))
    labels = rng.random((n, classes)) < 1 / (1 + np.exp(-true))
    labels[~labels.any(1), 0] = True
    return 3 * true + 2, labels


def single_case(n=1500, classes=7, seed=0):
    rng = np.random.default_rng(seed)
    true = rng.normal(0, 1.5, (n, classes))
    labels = np.eye(classes, dtype=bool)[[rng.choice(classes, p=p) for p in softmax(true)]]
    return 4 * true, labels


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_multi_label_scores_get_better_on_new_proteins(method):
    logits, labels = multi_case()
    new, truth = multi_case(seed=1)
    fitted = fit_calibrator(logits, labels, "multi", method)
    assert fitted.method == method
    plain = Calibrator("none", "multi")
    assert log_loss(fitted(new), truth, "multi") < log_loss(plain(new), truth, "multi") - 0.2
    assert (
        reliability(fitted(new), truth, "multi")["ece"]
        < 0.05
        < reliability(plain(new), truth, "multi")["ece"]
    )


def test_platt_finds_the_minimum():
    logits, labels = multi_case()
    x, y = logits.ravel(), labels.ravel()
    positive, negative = y.sum(), (~y).sum()
    target = np.where(y, (positive + 1) / (positive + 2), 1 / (negative + 2))
    best = minimize(
        lambda p: np.mean(np.logaddexp(0, p[0] * x + p[1]) - target * (p[0] * x + p[1])), [1.0, 0.0]
    )
    found = fit_calibrator(logits, labels, "multi")
    assert (found.slope, found.offset) == pytest.approx(tuple(best.x), abs=1e-3)


def test_the_temperature_is_found():
    logits, labels = single_case()
    fitted = fit_calibrator(logits, labels, "single")
    best = minimize_scalar(
        lambda s: log_loss(softmax(s * logits), labels, "single"), bounds=(0.01, 5), method="bounded"
    )
    assert fitted.slope == pytest.approx(best.x, rel=0.02)
    assert 1 / fitted.slope == pytest.approx(4, rel=0.1)
    new, truth = single_case(seed=1)
    plain = Calibrator("none", "single")
    assert log_loss(fitted(new), truth, "single") < log_loss(plain(new), truth, "single") - 0.3
    np.testing.assert_allclose(fitted(new).sum(1), 1)


def test_order_is_kept():
    logits, labels = multi_case()
    grid = np.sort(logits.ravel())[:, None]
    assert (np.diff(fit_calibrator(logits, labels, "multi", "platt")(grid).ravel()) > 0).mean() > 0.99
    assert (np.diff(fit_calibrator(logits, labels, "multi", "isotonic")(grid).ravel()) >= 0).all()
    backwards = fit_calibrator(-logits, labels, "multi", "platt")
    assert backwards.slope > 0


def test_perfectly_separable_validation_is_not_made_certain():
    labels = np.eye(4, dtype=bool)[np.arange(16) % 4]
    fitted = fit_calibrator(np.where(labels, 5.0, -5.0), labels, "single")
    assert 0.9 < fitted(np.where(labels, 5.0, -5.0)).max() < 0.99999


def test_calibrators_survive_their_folder():
    logits, labels = multi_case(100)
    for method in ("platt", "isotonic", "none"):
        fitted = fit_calibrator(logits, labels, "multi", method)
        np.testing.assert_array_equal(Calibrator.from_config(fitted.config())(logits), fitted(logits))


def test_calibration_refuses_nan_and_unequal_shapes():
    logits, labels = multi_case(10)
    with pytest.raises(DataError, match="not finite"):
        fit_calibrator(np.where(labels, np.nan, logits), labels, "multi")
    with pytest.raises(DataError, match="differ in shape"):
        fit_calibrator(logits[:5], labels, "multi")
    assert fit_calibrator(logits, np.zeros_like(labels), "multi").method == "none"


def test_reliability_counts():
    p = np.array([[0.05, 0.15], [0.95, 0.15]])
    y = np.array([[False, True], [True, False]])
    found = reliability(p, y, "multi")
    assert found["bins"] == [[0.05, 0.0, 1], [0.15, 0.5, 2], [0.95, 1.0, 1]]
    assert found["ece"] == pytest.approx((0.05 + 2 * 0.35 + 0.05) / 4)


def test_sigmoid_does_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        assert sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist() == [0.0, 0.5, 1.0]


def test_losses_are_their_formulas():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 3)).astype(np.float32)
    y = np.eye(3, dtype=bool)[[0, 1, 2, 0, 0, 1]]
    weights = np.array([0.5, 2.0, 3.0], np.float32)
    p = softmax(logits.astype(float))
    expected = np.mean([-weights[c] * np.log(p[i, c]) for i, c in enumerate(y.argmax(1))])
    found = TaskLoss("single", weights)(torch.from_numpy(logits), torch.from_numpy(y.argmax(1)))
    assert float(found) == pytest.approx(expected, rel=1e-5)
    q = 1 / (1 + np.exp(-logits.astype(float)))
    expected = np.mean(-weights * (y * np.log(q) + (~y) * np.log(1 - q)))
    found = TaskLoss("multi", weights)(torch.from_numpy(logits), torch.from_numpy(y))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_class_weights_balance_the_classes():
    labels = np.zeros((60, 4), bool)
    labels[:30, 0] = labels[30:50, 1] = labels[50:, 2] = True
    weights = class_weights(labels, "single")
    assert (weights[:3] * [30, 20, 10]).tolist() == pytest.approx([20, 20, 20])
    assert weights[3] == 1
    multi = class_weights(labels, "multi")
    assert multi[:3].mean() == pytest.approx(1)
    assert multi[0] < multi[1] < multi[2]
    with pytest.raises(DataError, match="no class has a positive"):
        class_weights(np.zeros((3, 2), bool), "multi")
