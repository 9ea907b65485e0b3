"""Precomputed vectors as one side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError
from protclip.modalities.vectors import VectorsModality

X = np.random.default_rng(0).normal(3.0, 2.0, (50, 4)).astype(np.float32)


def test_name_is_what_the_vectors_stand_for() -> None:
    assert VectorsModality(4).name == "sequence"
    assert VectorsModality(4, stands_for="text").name == "text"
    assert VectorsModality(4).frozen


def test_identity_until_fitted_then_standardised() -> None:
    side = VectorsModality(4)
    assert torch.equal(side.encoder(side.collate(list(X))), torch.from_numpy(X))
    side.fit(X)
    out = side.encoder(side.collate(list(X))).numpy()
    np.testing.assert_allclose(out.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(out.std(0), 1, atol=1e-5)


def test_constant_features_are_not_blown_up() -> None:
    side = VectorsModality(2)
    x = np.full((10, 2), [0.1, 1.0], np.float32)
    x[:, 1] = np.arange(10)
    side.fit(x)
    assert side.encoder(side.collate([np.array([0.3, 1.0], np.float32)]))[0, 0].item() == pytest.approx(0.2)


def test_saved_with_the_weights() -> None:
    side = VectorsModality(4, stands_for="sequence", dropout=0.2, source="unirep.h5")
    side.fit(X)
    again = VectorsModality.from_config(side.config())
    again.encoder.load_state_dict(side.encoder.state_dict())
    assert again.config() == side.config()
    batch = side.collate(list(X))
    assert torch.equal(again.encoder(batch), side.encoder(batch))
    assert not list(side.encoder.parameters())
    assert side.describe() == {
        "tower": "precomputed vectors",
        "source": "unirep.h5",
        "dimensions": 4,
        "parameters": 0,
    }


def test_view_is_inverted_dropout_around_the_mean() -> None:
    side = VectorsModality(4000, dropout=0.3)
    item = np.arange(1, 4001, dtype=np.float32)
    view = side.augment(item, np.random.default_rng(0))
    assert np.array_equal(view, side.augment(item, np.random.default_rng(0)))
    assert (view == 0).mean() == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(view[view != 0], item[view != 0] / 0.7, rtol=1e-5)
    views = [VectorsModality(4, dropout=0.3).augment(X[0], np.random.default_rng(i)) for i in range(4000)]
    np.testing.assert_allclose(np.mean(views, 0), X[0], rtol=0.06, atol=0.1)


def test_dropped_features_are_zero_after_standardising() -> None:
    side = VectorsModality(4, dropout=0.5)
    side.fit(X)
    view = side.encoder(side.collate([side.augment(X[0], np.random.default_rng(0))]))[0]
    plain = side.encoder(side.collate([X[0]]))[0]
    dropped = view.abs() < 1e-5
    assert 0 < dropped.sum() < 4
    torch.testing.assert_close(view[~dropped], 2 * plain[~dropped], atol=1e-4, rtol=1e-4)


def test_sources_agree(tmp_path: Path) -> None:
    side = VectorsModality(4)
    ids = [f"p{i}" for i in range(50)]
    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        for id, row in zip(ids, X, strict=True):
            file[id] = row
    sources: list[Any] = [path, str(path), VectorFile.open(path), dict(zip(ids, X, strict=True)), (ids, X)]
    for source in sources:
        read = dict(side.read(source))
        assert sorted(read) == sorted(ids)
        assert all(np.array_equal(read[id], row) for id, row in zip(ids, X, strict=True))  # type: ignore[arg-type]
    assert [id for id, _ in side.read(X)] == [str(i) for i in range(50)]


def test_bad_vectors_are_passed_on_as_errors(tmp_path: Path) -> None:
    side = VectorsModality(2)
    items = dict(side.read({"ok": [1, 2], "long": [1, 2, 3], "nan": [1, np.nan], "text": "abc"}))
    assert np.array_equal(items["ok"], np.array([1, 2], np.float32))  # type: ignore[arg-type]
    assert "long: not a vector of this model; got [3], expected [2] numbers" in str(items["long"])
    assert "nan: vector is not finite" in str(items["nan"])
    assert isinstance(items["text"], DataError)

    path = tmp_path / "v.h5"
    with h5py.File(path, "w") as file:
        file["ids"] = ["a", "b", "c"]
        file["embeddings"] = np.array([[1, 2], [np.inf, 0], [3, 4]], np.float32)
    read = dict(side.read(path))
    assert isinstance(read["b"], DataError)
    assert np.array_equal(read["c"], np.array([3, 4], np.float32))  # type: ignore[arg-type]


def test_other_sources_and_options_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be read as vectors; got int"):
        list(VectorsModality(2).read(3))
    with pytest.raises(ConfigError, match="dropout: out of range"):
        VectorsModality(2, dropout=1.0)
    with pytest.raises(ConfigError, match="dim: out of range"):
        VectorsModality(0)
    with pytest.raises(DataError, match=r"cannot standardise.*got \[2, 3\] with NaN.*\[n, 2\]"):
        VectorsModality(2).fit(np.array([[1, 2, np.nan], [1, 2, 3]]))


def test_digest_and_empty_batch() -> None:
    side = VectorsModality(4)
    assert side.digest(X[0]) == side.digest(X[0].astype(np.float64))
    assert side.digest(X[0]) != side.digest(X[1])
    assert side.encoder(side.collate([])).shape == (0, 4)
    assert len(side.collate(list(X)).to("cpu")) == 50
