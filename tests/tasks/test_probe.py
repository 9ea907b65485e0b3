"""The estimator on embeddings."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from protclip.errors import ConfigError, DataError
from protclip.tasks import Probe


def blobs(n=200, d=8, classes=4, seed=0, spread=1.0):
    rng = np.random.default_rng(seed)
    group = rng.integers(classes, size=n)
    return rng.normal(0, spread, (n, d)) + 3 * np.eye(classes, d)[group], group


def test_it_is_as_good_as_logistic_regression():
    x, y = blobs(spread=1.3)
    new, truth = blobs(seed=1, n=500, spread=1.3)
    reference = LogisticRegression(max_iter=1000).fit(x, y).score(new, truth)
    assert Probe().fit(x, y).score(new, truth) > reference - 0.03
    assert reference < 0.98  # not a trivial case


def test_names_as_classes_and_probabilities():
    x, y = blobs(80)
    names = np.array(["a.1", "b.2", "c.3", "d.4"])[y]
    probe = Probe().fit(x, names)
    assert probe.classes_.tolist() == ["a.1", "b.2", "c.3", "d.4"]
    p = probe.predict_proba(x)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (probe.classes_[p.argmax(1)] == probe.predict(x)).all()
    assert probe.score(x, names) == (probe.predict(x) == names).mean()


def test_several_classes_per_item():
    x, y = blobs()
    labels = np.eye(4, dtype=int)[y]
    labels[:, 3] |= y < 2
    probe = Probe(head="mlp", epochs=300).fit(x, labels)
    assert probe.predict(x).shape == (200, 4)
    assert probe.score(x, labels) > 0.95


def test_it_behaves_like_an_estimator():
    x, y = blobs()
    probe = Probe(seed=3)
    assert clone(probe).get_params() == probe.get_params()
    assert cross_val_score(probe, x, y, cv=3).min() > 0.8
    a, b = (clone(probe).fit(x, y).predict_proba(x) for _ in range(2))
    np.testing.assert_array_equal(a, b)


def test_an_unseen_class_counts_as_an_error():
    x, y = blobs(100)
    probe = Probe(epochs=300).fit(x[y < 3], y[y < 3])
    right = (probe.predict(x) == y).mean()
    assert probe.score(x, y) == pytest.approx(right)
    assert probe.score(x[y == 3], y[y == 3]) == 0.0


def test_wrong_input():
    x, y = blobs(20)
    with pytest.raises(DataError, match="not fitted"):
        Probe().predict(x)
    with pytest.raises(DataError, match="do not fit; got 20 and 19"):
        Probe().fit(x, y[:19])
    with pytest.raises(DataError, match="nothing to tell apart"):
        Probe().fit(x, np.zeros(20, int))
    with pytest.raises(DataError, match="nothing to tell apart"):
        Probe().fit(x, np.zeros((20, 3), int))
    bad = x.copy()
    bad[4, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in row 4"):
        Probe().fit(bad, y)
    with pytest.raises(ConfigError, match="unknown classifier"):
        Probe(head="tree").fit(x, y)
    fitted = Probe(epochs=2).fit(x, y)
    with pytest.raises(DataError, match="another number of features"):
        fitted.predict(x[:, :3])
