"""Embedding files of three layouts, sound and unsound."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.files.vector_file import VectorFile
from protclip.errors import DataError, ProtclipError

IDS = [f"1abc{c}0{d}" for c in "ABCDEFGHIJ" for d in range(6)]
MATRIX = np.random.default_rng(0).normal(size=(len(IDS), 7)).astype(np.float16)


def _per_id(file: h5py.File) -> None:
    for i, (id, row) in enumerate(zip(IDS, MATRIX, strict=True)):
        file[id] = row if i % 2 else row[None]


def _renamed(file: h5py.File) -> None:
    for i, (id, row) in enumerate(zip(IDS, MATRIX, strict=True)):
        file[str(i)] = row
        file[str(i)].attrs["original_id"] = id


def _ours(file: h5py.File) -> None:
    file["ids"], file["embeddings"] = IDS, MATRIX


def _shared(file: h5py.File) -> None:
    order = np.random.default_rng(1).permutation(len(IDS))
    file["id"], file["row"], file["vectors"] = IDS, np.argsort(order), MATRIX[order]


@pytest.mark.parametrize("layout", [_per_id, _renamed, _ours, _shared])
def test_every_layout_gives_the_same(tmp_path: Path, layout: Callable[[h5py.File], None]) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        layout(file)
    vectors = pickle.loads(pickle.dumps(VectorFile.open(tmp_path / "v.h5")))
    assert sorted(vectors.ids) == IDS
    assert (vectors.dim, len(vectors), IDS[3] in vectors, "x" in vectors) == (7, len(IDS), True, False)
    wanted = [5, 59, 0, 5, 31]
    found = vectors[[IDS[i] for i in wanted]]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, MATRIX[wanted].astype(np.float32))
    np.testing.assert_array_equal(vectors[IDS], MATRIX.astype(np.float32))
    assert vectors[[]].shape == (0, 7)
    with pytest.raises(DataError, match="2 of 3 proteins have no vector; got x, y, expected ids such as"):
        vectors[["x", IDS[0], "y"]]
    with pytest.raises(DataError, match="ids come in a list"):
        vectors[IDS[0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "got nothing"),
        ({"a": np.zeros((30, 7))}, "one vector per residue, not one per protein"),
        ({"a": np.zeros((1, 1, 7))}, r"got \[1, 1, 7\]"),
        ({"a": np.float32(1)}, r"got \[\]"),
        ({"a": "text"}, "expected numbers"),
        ({"group/a": np.zeros(3)}, "got a group"),
        ({"a": np.zeros(0)}, r"got \[0\]"),
        ({"ids": ["a", "b"], "embeddings": np.zeros((3, 4))}, "2 ids for 3 rows"),
        ({"ids": ["a", "a"], "embeddings": np.zeros((2, 4))}, "'a' twice"),
        ({"ids": ["a", "b"], "embeddings": np.zeros((2, 5, 4))}, r"expected numbers \[n, d\]"),
        ({"id": ["a", "b"], "row": [0, 2], "vectors": np.zeros((2, 4))}, "got 0 to 2, expected 0 to 1"),
        ({"id": ["a", "b"], "row": [0, -1], "vectors": np.zeros((2, 4))}, "got -1 to 0"),
        ({"id": ["a", "b"], "row": [0], "vectors": np.zeros((2, 4))}, "2 ids for 1 rows"),
        ({"id": [1, 2], "row": [0, 1], "vectors": np.zeros((2, 4))}, "damaged"),
        ({"ids": np.array([], "S1"), "embeddings": np.zeros((0, 4))}, "got none"),
    ],
)
def test_refused_on_opening(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        for name, value in content.items():
            file[name] = value
    with pytest.raises(DataError, match=message):
        VectorFile.open(tmp_path / "v.h5")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(3), "got 3 numbers, expected 2 like the first"),
        (np.array([1, np.nan]), "v.h5:b: vector is not finite"),
        (np.array([1, 1e300]), "v.h5:b: vector is not finite"),
        (np.ones((2, 2)), "one vector per residue"),
        ("text", "expected numbers"),
    ],
)
def test_refused_on_reading(tmp_path: Path, bad: Any, message: str) -> None:
    with h5py.File(tmp_path / "v.h5", "w") as file:
        file["a"], file["b"] = np.ones(2), bad
    vectors = VectorFile.open(tmp_path / "v.h5")
    assert vectors[["a"]].tolist() == [[1, 1]]
    with pytest.raises(DataError, match=message):
        vectors[["a", "b"]]


def test_not_hdf5(tmp_path: Path) -> None:
    (tmp_path / "v.h5").write_text("id,x,y")
    with pytest.raises(DataError, match="not a readable embedding file"):
        VectorFile.open(tmp_path / "v.h5")


@given(layout=st.sampled_from([_per_id, _ours, _shared]), data=st.data())
@settings(max_examples=60)
def test_damage_is_an_error_or_leaves_vectors(
    tmp_path_factory: pytest.TempPathFactory, layout: Callable[[h5py.File], None], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged-vectors.h5"
    with h5py.File(path, "w", libver="latest") as file:
        layout(file)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        vectors = VectorFile.open(path)
        found = vectors[vectors.ids]
    except ProtclipError:
        return
    assert found.shape == (len(vectors), vectors.dim)
    assert np.isfinite(found).all()


def test_a_file_that_announces_an_absurd_number_of_columns_is_refused(tmp_path):
    with h5py.File(tmp_path / "wide.h5", "w") as file:
        file["ids"] = ["a"]
        file.create_dataset("embeddings", (1, 10**12), np.float32, chunks=(1, 1024))
    with pytest.raises(DataError, match=r"wide\.h5: the vectors are too long; got 1000000000000"):
        VectorFile.open(tmp_path / "wide.h5")
