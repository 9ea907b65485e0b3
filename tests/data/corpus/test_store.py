"""The corpus file: nothing is lost, nothing half is read, any process may read."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import protclip.data.corpus.writer as writer_module
from protclip.data.corpus.cath import CathLabel, read_domain_list
from protclip.data.corpus.layout import FORMAT_VERSION
from protclip.data.corpus.store import Corpus, CorpusWriter, write_corpus
from protclip.errors import DataError, ProtclipError
from protclip.structure.protein import Protein
from protclip.structure.reading.read import read_structure

Make = Callable[..., Protein]
Same = Callable[[Protein, Protein], None]


def test_round_trip_keeps_every_bit(tmp_path: Path, random_protein: Make, assert_same: Same) -> None:
    proteins = [
        random_protein(f"p{i}", 1 + 7 * i, i, plddt=i % 3 == 0, ca_only=i % 4 == 1) for i in range(20)
    ]
    labels = {"p3": CathLabel("1.10.8.10", 4, 3, 2, 1, 22, 1.5), "other": CathLabel("9.9.9.9")}
    assert write_corpus(tmp_path / "c.h5", proteins, labels, {"source": "test"}) == 20
    corpus = Corpus.open(tmp_path / "c.h5")
    assert len(corpus) == 20
    assert corpus.ids == [p.id for p in proteins]
    assert corpus.lengths.tolist() == [len(p) for p in proteins]
    for i, protein in enumerate(proteins):
        assert_same(corpus[i], protein)
        assert corpus.sequence(i) == protein.sequence
    for read, protein in zip(corpus, proteins, strict=True):
        assert_same(read, protein)
    assert corpus.codes[3] == "1.10.8.10"
    assert corpus.clusters[3] == "1.10.8.10.4"
    assert set(corpus.codes[[0, 1, 2]]) == {""}
    assert set(corpus.clusters[[0, 1, 2]]) == {""}
    assert corpus.provenance == {"source": "test"}
    total: dict[str, int] = {}
    for protein in proteins:
        for kind, count in protein.dropped.items():
            total[kind] = total.get(kind, 0) + count
    assert corpus.dropped() == total
    corpus.verify()


def test_real_coordinates_are_exact(cath_dir: Path, sample_file: Path, assert_same: Same) -> None:
    corpus = Corpus.open(sample_file)
    labels = read_domain_list(cath_dir / "cath-domain-list.txt")
    for i in range(0, len(corpus), 8):
        assert_same(corpus[i], read_structure(cath_dir / "dompdb" / corpus.ids[i]))
        assert corpus.codes[i] == labels[corpus.ids[i]].code


@given(st.lists(st.integers(-20, 19), max_size=30))
@settings(max_examples=30)
def test_many_at_once_come_in_the_order_asked_for(sample_file: Path, indices: list[int]) -> None:
    corpus = Corpus.open(sample_file)
    assert [p.id for p in corpus.proteins(indices)] == [corpus.ids[i] for i in indices]
    assert corpus.sequences(indices) == [corpus.sequence(i) for i in indices]


def test_reading_in_small_blocks_gives_the_same(
    sample_file: Path, assert_same: Same, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(Corpus.open(sample_file))
    monkeypatch.setattr("protclip.data.corpus.store.READ_BLOCK", 300)
    for a, b in zip(Corpus.open(sample_file), whole, strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("index", [2, -3, 10**9])
def test_index_out_of_range(tmp_path: Path, random_protein: Make, index: int) -> None:
    write_corpus(tmp_path / "c.h5", [random_protein("a"), random_protein("b")])
    with pytest.raises(DataError, match=r"no such protein.*expected 0 to 1"):
        Corpus.open(tmp_path / "c.h5")[index]


def test_fingerprint_speaks_of_content_only(
    tmp_path: Path, random_protein: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    proteins = [random_protein(f"p{i}", 50, i) for i in range(5)]

    def fingerprint(proteins: list[Protein], **extra: object) -> str:
        write_corpus(tmp_path / "c.h5", proteins, **extra)  # type: ignore[arg-type]
        corpus = Corpus.open(tmp_path / "c.h5")
        corpus.verify()
        return corpus.fingerprint

    first = fingerprint(proteins)
    monkeypatch.setattr(writer_module, "BLOCK", 60)
    assert fingerprint(proteins, provenance={"other": 1}) == first
    assert fingerprint(proteins[::-1]) != first
    assert fingerprint(proteins, labels={"p1": CathLabel("1.1.1.1")}) != first
    proteins[2].coords[3, 1, 0] += 0.001
    assert fingerprint(proteins) != first


def test_the_file_does_not_depend_on_the_clock(tmp_path: Path, random_protein: Make) -> None:
    for name in ("a.h5", "b.h5"):
        write_corpus(tmp_path / name, [random_protein("p", 40)])
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_absent_atoms_cost_no_space(tmp_path: Path, random_protein: Make) -> None:
    n = 40_000
    write_corpus(tmp_path / "ca.h5", [random_protein("p", n, ca_only=True)])
    write_corpus(tmp_path / "all.h5", [random_protein("p", n)])
    ca, full = ((tmp_path / name).stat().st_size for name in ("ca.h5", "all.h5"))
    assert full - ca > 36 * n
    assert ca < 23 * n + 100_000


def test_interrupted_writing_leaves_the_old_file_and_no_litter(tmp_path: Path, random_protein: Make) -> None:
    path = tmp_path / "c.h5"
    write_corpus(path, [random_protein("old")])
    before = path.read_bytes()

    def broken() -> Iterator[Protein]:
        yield random_protein("new")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_corpus(path, broken())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["c.h5"]


def test_a_file_being_written_is_not_there_yet(tmp_path: Path, random_protein: Make) -> None:
    with CorpusWriter(tmp_path / "c.h5") as writer:
        writer.add(random_protein("p"))
        assert not (tmp_path / "c.h5").exists()
        with pytest.raises(DataError):
            Corpus.open(next(tmp_path.iterdir()))
    assert len(Corpus.open(tmp_path / "c.h5")) == 1


def test_what_cannot_be_stored_is_refused(tmp_path: Path, random_protein: Make) -> None:
    with pytest.raises(DataError, match="same id; got p"):
        write_corpus(tmp_path / "c.h5", [random_protein("p"), random_protein("p")])
    far = random_protein("far")
    far.coords[:, 1] = 3e6
    with pytest.raises(DataError, match="far: coordinate out of range"):
        write_corpus(tmp_path / "c.h5", [far])
    assert list(tmp_path.iterdir()) == []


def test_an_empty_corpus_is_a_corpus(tmp_path: Path) -> None:
    write_corpus(tmp_path / "c.h5", [])
    corpus = Corpus.open(tmp_path / "c.h5")
    assert (len(corpus), corpus.ids, list(corpus), corpus.sequences()) == (0, [], [], [])
    assert corpus.info()["proteins"] == 0
    corpus.verify()


def test_foreign_and_newer_files_are_named_as_such(tmp_path: Path, random_protein: Make) -> None:
    with pytest.raises(DataError, match=r"no such corpus file.*data build"):
        Corpus.open(tmp_path / "none.h5")
    for content in (b"", b"ATOM      1  CA  GLY A   1", b"\x89HDF\r\n\x1a\n" + bytes(100)):
        (tmp_path / "x.h5").write_bytes(content)
        with pytest.raises(DataError, match="not a readable corpus file"):
            Corpus.open(tmp_path / "x.h5")
    with h5py.File(tmp_path / "y.h5", "w") as file:
        file["embeddings"] = np.zeros(3)
    with pytest.raises(DataError, match="not a corpus file; got an HDF5 file with embeddings"):
        Corpus.open(tmp_path / "y.h5")
    write_corpus(tmp_path / "z.h5", [random_protein("p")])
    with h5py.File(tmp_path / "z.h5", "r+") as file:
        file.attrs["format_version"] = FORMAT_VERSION + 1
    with pytest.raises(DataError, match=r"newer protclip.*got format_version 2, expected at most 1"):
        Corpus.open(tmp_path / "z.h5")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, random_protein: Make) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    write_corpus(folder / "c.h5", [random_protein(f"p{i}", 20, i, plddt=i == 1) for i in range(4)])
    return folder


def _read_everything(path: Path) -> str:
    with Corpus.open(path) as corpus:
        corpus.verify()
        corpus.info()
        list(corpus)
        return corpus.fingerprint


@given(st.data())
@settings(max_examples=60)
def test_damage_is_noticed(whole: Path, data: st.DataObject) -> None:
    good = (whole / "c.h5").read_bytes()
    content = bytearray(good)
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(good) - 1), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), "flips")):
            content[data.draw(st.integers(0, len(good) - 1), "place")] ^= 1 << data.draw(
                st.integers(0, 7), "bit"
            )
    (whole / "damaged.h5").write_bytes(content)
    try:
        found = _read_everything(whole / "damaged.h5")
    except ProtclipError:
        return
    # Either an error, or the damage hit bytes that mean nothing.
    assert found == _read_everything(whole / "c.h5")


@example(name="offset", value=-1)
@example(name="offset", value=2**40)
@given(
    name=st.sampled_from(["offset", "id", "code", "s35", "ca", "sequence", "has_plddt"]),
    value=st.integers(-5, 300),
)
@settings(max_examples=30)
def test_wrong_content_in_a_sound_file_is_noticed(whole: Path, name: str, value: int) -> None:
    good = (whole / "c.h5").read_bytes()
    path = whole / "wrong.h5"
    path.write_bytes(good)
    with h5py.File(path, "r+") as file:
        old = file[name][()]
        shape = (abs(value) % 7, *old.shape[1:])
        del file[name]
        file[name] = np.full(shape, value).astype(old.dtype)
    with pytest.raises(ProtclipError):
        _read_everything(path)


def test_it_travels_to_other_processes(sample_file: Path) -> None:
    corpus = Corpus.open(sample_file)
    expected = [corpus[i].ca for i in range(12)]
    assert len(pickle.dumps(corpus)) < 1000
    for method in ("fork", "spawn"):
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            # The parent's handle stays open meanwhile; both workers read the same file.
            for i, protein in enumerate(pool.map(corpus.__getitem__, range(12))):
                np.testing.assert_array_equal(protein.ca, expected[i])
    np.testing.assert_array_equal(corpus[0].ca, expected[0])


def test_replacing_the_file_does_not_disturb_its_readers(tmp_path: Path, random_protein: Make) -> None:
    path = tmp_path / "c.h5"
    write_corpus(path, [random_protein("old")])
    reader = Corpus.open(path)
    write_corpus(path, [random_protein("new")])
    assert reader[0].id == "old"
    reader.close()
    assert Corpus.open(path)[0].id == "new"
