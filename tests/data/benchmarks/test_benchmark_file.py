"""Benchmark files: round trip, checks when they are written, damage when they are read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protclip.data.benchmarks.benchmark_file import is_benchmark, missing_path
from protclip.data.benchmarks.build_benchmark import Benchmark, SplitCount, write_benchmark
from protclip.data.benchmarks.published import PUBLISHED, recognise
from protclip.data.corpus.cath import CathLabel
from protclip.data.corpus.store import Corpus
from protclip.errors import ConfigError, DataError
from protclip.structure.protein import Protein

IDS = ["1ABC-A", "2ABC-B", "3ABC-C", "4ABC-D"]


@pytest.fixture
def parts(random_protein: Callable[..., Protein]) -> dict[str, Any]:
    return {
        "task": "ec",
        "version": "made up",
        "proteins": [random_protein(id, 5 + i, i) for i, id in enumerate(IDS)],
        "classes": ["1.1.1.-", "2.7.-.-", "3.4.21.-"],
        "class_names": ["a", "", "ü"],
        "labels": {"1ABC-A": [2, 0], "2ABC-B": [1], "3ABC-C": [], "4ABC-D": [2], "gone": [1]},
        "splits": {"train": ["2ABC-B", "1ABC-A", "gone"], "valid": ["3ABC-C"], "test": ["4ABC-D"]},
        "subsets": {"30": [], "95": ["4ABC-D"]},
        "expected": {"train": 9, "test <95%": 7},
        "missing": [("gone", "no structure\tfile\nat all")],
        "cath": {"1ABC-A": CathLabel("1.10.8.10", 3)},
        "provenance": {"from": "a test"},
    }


def test_round_trip(parts: dict[str, Any], tmp_path: Path, assert_same: Callable[..., None]) -> None:
    path = write_benchmark(tmp_path / "deep" / "b.h5", **parts)
    assert is_benchmark(path)
    with Benchmark.open(path) as b:
        assert (b.task, b.version, b.is_demonstration, b.ids) == ("ec", "made up", False, IDS)
        assert b.classes == parts["classes"]
        assert b.class_names == ["a", "", "ü"]
        assert {k: v.tolist() for k, v in b.splits.items()} == {"train": [0, 1], "valid": [2], "test": [3]}
        assert all(v.dtype == np.int64 for v in (*b.splits.values(), *b.subsets.values()))
        assert {k: v.tolist() for k, v in b.subsets.items()} == {"30": [], "95": [3]}
        dense = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 1]], bool)
        whole = b.labels()
        assert whole.dtype == np.bool_
        np.testing.assert_array_equal(whole.toarray(), dense)
        np.testing.assert_array_equal(b.labels([3, 0, 0]).toarray(), dense[[3, 0, 0]])
        assert b.counts() == [
            SplitCount("train", 2, 9),
            SplitCount("valid", 1, None),
            SplitCount("test", 1, None),
            SplitCount("test <30%", 0, None),
            SplitCount("test <95%", 1, 7),
        ]
        assert b.missing == [("gone", "no structure file at all")]
        assert b.corpus.codes.tolist() == ["1.10.8.10", "", "", ""]
        assert b.provenance["from"] == "a test"
        info = b.info()
        assert info["found/expected"]["train"] == "2/9"
        assert info["missing"] == 1
        assert "note" not in info
        for i, protein in enumerate(parts["proteins"]):
            assert_same(b.corpus[i], protein)
    assert missing_path(path).read_text() == "id\treason\ngone\tno structure file at all\n"
    Corpus.open(path).verify()


def test_pickles_and_is_reproducible(parts: dict[str, Any], tmp_path: Path) -> None:
    b = Benchmark.open(write_benchmark(tmp_path / "a.h5", **parts))
    b.labels()
    again = pickle.loads(pickle.dumps(b))
    assert again.ids == IDS
    assert again.labels().nnz == 4
    other = Benchmark.open(write_benchmark(tmp_path / "b.h5", **parts))
    assert other.fingerprint == b.fingerprint
    parts["labels"]["2ABC-B"] = [0]
    changed = Benchmark.open(write_benchmark(tmp_path / "c.h5", **parts))
    assert changed.fingerprint != b.fingerprint
    assert changed.corpus.fingerprint == b.corpus.fingerprint


def test_missing_list_goes_away_when_nothing_is_missing(parts: dict[str, Any], tmp_path: Path) -> None:
    path = write_benchmark(tmp_path / "b.h5", **parts)
    assert missing_path(path).is_file()
    write_benchmark(path, **{**parts, "missing": []})
    assert not missing_path(path).exists()
    assert Benchmark.open(path).missing == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"splits": {"train": IDS[:2], "valid": [], "test": IDS[2:]}}, "the split 'valid' is empty"),
        ({"splits": {"train": IDS[:2], "valid": IDS[2:]}}, "the split 'test' is empty"),
        (
            {"splits": {"train": ["gone"], "valid": IDS[:2], "test": IDS[2:]}},
            r"'train' is empty.*gone: no str",
        ),
        (
            {"splits": {"train": IDS[:2], "valid": IDS[1:3], "test": IDS[3:]}},
            "two splits; got 2ABC-B in train",
        ),
        ({"splits": {"train": [IDS[0]] * 2, "valid": IDS[1:3], "test": IDS[3:]}}, "twice in one split"),
        ({"splits": {"train": IDS[:1], "valid": IDS[1:2], "test": IDS[2:3]}}, "in no split; got 4ABC-D"),
        ({"labels": {"1ABC-A": [3], "2ABC-B": [], "3ABC-C": [], "4ABC-D": []}}, "no such class; got 3"),
        ({"labels": {"1ABC-A": [-1], "2ABC-B": [], "3ABC-C": [], "4ABC-D": []}}, "no such class; got -1"),
        ({"labels": {"1ABC-A": [0]}}, "a protein without labels; got 2ABC-B"),
        ({"classes": ["x", "y", "x"]}, "a class twice; got x"),
        ({"classes": [], "class_names": []}, "no classes"),
        ({"class_names": ["x"]}, "class names do not fit"),
        ({"subsets": {"30": ["1ABC-A"]}}, "beyond the test set"),
        ({"task": "reaction"}, "exactly one class"),
    ],
)
def test_refuses(change: dict[str, Any], message: str, parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        write_benchmark(tmp_path / "b.h5", **{**parts, **change})
    assert list(tmp_path.iterdir()) == []


def test_refuses_an_unknown_task_and_two_proteins_of_one_id(parts: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown task; got 'go'"):
        write_benchmark(tmp_path / "b.h5", **{**parts, "task": "go"})
    with pytest.raises(DataError, match="same id"):
        write_benchmark(tmp_path / "b.h5", **{**parts, "proteins": parts["proteins"] * 2})


def test_open_says_what_is_wrong(parts: dict[str, Any], sample_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such benchmark file.*protclip data build"):
        Benchmark.open(tmp_path / "none.h5")
    with pytest.raises(DataError, match="got a corpus without labels"):
        Benchmark.open(sample_file)
    assert not is_benchmark(sample_file)
    assert not is_benchmark(tmp_path / "none.h5")
    path = write_benchmark(tmp_path / "b.h5", **parts)
    with h5py.File(path, "r+") as file:
        file["benchmark"].attrs["format_version"] = 99
    with pytest.raises(DataError, match="newer protclip"):
        Benchmark.open(path)
    path = write_benchmark(tmp_path / "b.h5", **parts)
    with h5py.File(path, "r+") as file:
        file["benchmark/label_indices"][0] = 7
    with pytest.raises(DataError, match="labels beyond the classes"):
        Benchmark.open(path)
    path = write_benchmark(tmp_path / "b.h5", **parts)
    with h5py.File(path, "r+") as file:
        file["benchmark/split/test"][0] = 44
    with pytest.raises(DataError, match="rows of test beyond the proteins"):
        Benchmark.open(path)
    path = write_benchmark(tmp_path / "b.h5", **parts)
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match="benchmark file"):
        Benchmark.open(path)


def test_every_published_version_is_recognised_and_no_other() -> None:
    for task, versions in PUBLISHED.items():
        for published in versions:
            counts = dict(published.counts)
            assert recognise(task, counts, published.classes) == (published.version, published)
            one_less = {**counts, "train": counts["train"] - 1}
            version, found = recognise(task, one_less, published.classes)
            assert found is None
            assert version.startswith("unpublished lists")
            assert recognise(task, counts, published.classes + 1)[1] is None
    # The archive holds a few chains that torchdrug cannot read: at least its published numbers.
    packaged = {"train": 15170, "valid": 1686, "test": 1860}
    assert recognise("ec", packaged, 538, packaged=True)[0] == "torchdrug EnzymeCommission"
    assert recognise("ec", packaged, 538)[1] is None
    fewer = {**packaged, "test": 1839}
    assert recognise("ec", fewer, 538, packaged=True)[0].startswith("unpublished torchdrug archive")
