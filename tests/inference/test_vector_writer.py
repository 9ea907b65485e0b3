"""Vector files: the same layout whoever writes them, and ids that come back as they were."""

from __future__ import annotations

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError
from protclip.inference.embeddings import Embeddings
from protclip.inference.vector_writer import VectorWriter

NASTY = [
    "pdb/1abc",
    "pdb_1abc",
    "A/B",
    "A_B",
    ".",
    "..",
    "01",
    "1",
    "1.0",
    "/",
    "_",
    "x" * 3000,
    "ü λ",
    "a~2",
    "a b",
    "",
]
IDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)


def vectors(n, dim=3, seed=0):
    return np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)


def embeddings(ids, residues=True):
    kept = {id: vectors(2, 4, seed) for seed, id in enumerate(ids)} if residues else {}
    return Embeddings(list(ids), vectors(len(ids)), "sequence", kept)


def same(a, b):
    assert a.ids == b.ids
    assert a.modality == b.modality
    assert np.array_equal(a.vectors, b.vectors)
    assert list(a.residues) == list(b.residues)
    for id in a.residues:
        assert np.array_equal(a.residues[id], b.residues[id])


@settings(max_examples=30)
@given(st.lists(IDS | st.sampled_from(NASTY), unique=True, max_size=8))
def test_ids_come_back_as_they_were(tmp_path_factory, ids):
    folder = tmp_path_factory.mktemp("ids")
    found = embeddings(ids)
    found.to_hdf5(folder / "x.h5")
    same(Embeddings.load(folder / "x.h5"), found)
    same(Embeddings.from_hdf5(folder / "x.h5"), found)
    plain = embeddings(ids, residues=False)
    plain.to_parquet(folder / "x.any")
    same(Embeddings.load(folder / "x.any"), plain)


def test_nasty_ids_all_at_once(tmp_path):
    found = embeddings(NASTY)
    found.to_hdf5(tmp_path / "x.h5")
    same(Embeddings.load(tmp_path / "x.h5"), found)
    with h5py.File(tmp_path / "x.h5") as f:
        assert np.array_equal(f["residues/01"], found.residues["01"])  # a plain id is the name itself
        assert "id" not in f["residues/01"].attrs
        assert f["residues/pdb_1abc"].attrs["id"] == "pdb/1abc"
        assert f["residues/pdb_1abc~2"].attrs["id"] == "pdb_1abc"


@pytest.mark.parametrize("ending", ["h5", "hdf5", "parquet"])
def test_pieces_are_the_same_as_the_whole(tmp_path, ending):
    found = embeddings([f"p{i}" for i in range(50)], residues=ending != "parquet")
    path, whole = tmp_path / f"pieces.{ending}", tmp_path / f"whole.{ending}"
    with VectorWriter(path, 3, "sequence", {"model": "abc"}) as writer:
        for start, stop in ((0, 1), (1, 1), (1, 30), (30, 50)):
            ids = found.ids[start:stop]
            kept = {id: found.residues[id] for id in ids if id in found.residues}
            writer.append(ids, found.vectors[start:stop], kept)
        assert writer.rows == 50
        assert not path.exists()
    (found.to_parquet if ending == "parquet" else found.to_hdf5)(whole)
    same(Embeddings.load(path), found)
    same(Embeddings.load(whole), found)
    if ending == "parquet":
        assert pq.read_schema(path).metadata[b"made_by"] == b'{"model": "abc"}'
        assert pq.read_schema(path).equals(pq.read_schema(whole))
    else:
        with h5py.File(path) as f, h5py.File(whole) as g:
            assert dict(f.attrs) == {**g.attrs, "made_by": '{"model": "abc"}'}
            assert f["embeddings"].dtype == np.float32
        assert VectorFile.open(path).ids == found.ids


def test_files_of_older_versions_are_read(tmp_path):
    """Residues under the changed name alone, as they were written before."""
    with h5py.File(tmp_path / "old.h5", "w") as f:
        f.attrs["modality"] = "sequence"
        f.create_dataset("ids", data=["b", "A/B"], dtype=h5py.string_dtype())
        f["embeddings"] = vectors(2)
        f["residues/A_B"] = vectors(5, 4)
        f["residues/b"] = vectors(6, 4)
    found = Embeddings.load(tmp_path / "old.h5")
    assert found.ids == ["b", "A/B"]
    assert {id: len(rows) for id, rows in found.residues.items()} == {"b": 6, "A/B": 5}
    table = pa.table(
        {
            "id": ["01", "1"],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors(2).reshape(-1)), 3),
        }
    )
    pq.write_table(table, tmp_path / "old.parquet")
    assert Embeddings.load(tmp_path / "old.parquet").ids == ["01", "1"]


def test_an_error_leaves_nothing(tmp_path):
    for ending in ("h5", "parquet"):
        with pytest.raises(ZeroDivisionError), VectorWriter(tmp_path / f"x.{ending}", 3, "m") as writer:
            writer.append(["a"], vectors(1 // 0))
    with (
        pytest.raises(DataError, match=r"ids and vectors do not fit"),
        VectorWriter(tmp_path / "x.h5", 3, "m") as writer,
    ):
        writer.append(["a"], vectors(1, 4))
    assert list(tmp_path.iterdir()) == []


def test_refusals(tmp_path):
    with pytest.raises(ConfigError, match="unknown output format"):
        VectorWriter(tmp_path / "x.txt", 3, "m")
    with pytest.raises(DataError, match="NUL character"):
        embeddings(["a\0b"]).to_hdf5(tmp_path / "x.h5")
    embeddings(["a\0b"], residues=False).to_parquet(tmp_path / "x.parquet")
    assert Embeddings.load(tmp_path / "x.parquet").ids == ["a\0b"]
    with (
        pytest.raises(ConfigError, match="residue features go to HDF5 only"),
        VectorWriter(tmp_path / "x.parquet", 3, "m") as writer,
    ):
        writer.append(["a"], vectors(1), {"a": vectors(1)})


@pytest.mark.parametrize(
    "damage", ["text", "empty", "cut parquet", "cut hdf5", "numbers", "missing", "twice", "other parquet"]
)
def test_other_files_are_refused_by_name(tmp_path, damage):
    path = tmp_path / "x"
    found = embeddings(["a", "b"], residues=False)
    if damage == "text":
        path.write_text("hello, this is no file of vectors")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "cut parquet":
        found.to_parquet(path)
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "cut hdf5":
        found.to_hdf5(path)
        path.write_bytes(path.read_bytes()[:900])
    elif damage == "numbers":
        with h5py.File(path, "w") as f:
            f["ids"], f["embeddings"] = [1, 2], vectors(2)
    elif damage == "twice":
        embeddings(["a", "b", "a"], residues=False).to_parquet(path)
    elif damage == "other parquet":
        pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(DataError) as caught:
        Embeddings.load(path)
    assert str(path) in str(caught.value)
    if damage == "twice":
        assert "'a' in rows 0 and 2" in str(caught.value)
