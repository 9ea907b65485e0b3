"""What a user may give to a model: every container of the same things means the same; nothing is guessed."""

from __future__ import annotations

import datetime
import decimal
import gzip
import io
import warnings
from collections import OrderedDict, UserDict, deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gemmi
import numpy as np
import pandas as pd
import pytest
import torch
from Bio.PDB import PDBParser
from Bio.Seq import MutableSeq, Seq
from Bio.SeqRecord import SeqRecord
from biotite.structure import AtomArray
from biotite.structure.io import load_structure
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.corpus.store import write_corpus
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.inference.aligned_model import AlignedModel
from protclip.inference.embeddings import Embeddings
from protclip.modalities.vectors import VectorsModality
from protclip.model.two_tower import TwoTower
from protclip.structure import Protein, read_structure

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
SEQUENCES = st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=5)
IDS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=6)


def write_fasta(folder: Path, by_id: dict[str, str], *, packed: bool = False) -> Path:
    text = "".join(f">{id}\n{sequence}\n" for id, sequence in by_id.items())
    path = folder / f"in.fasta{'.gz' if packed else ''}"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    return path


LABELLED: dict[str, Callable[[dict[str, str]], Any]] = {
    "dict": dict,
    "ordered dict": OrderedDict,
    "mapping": MappingProxyType,
    "user's dict": UserDict,
    "pairs": lambda d: list(d.items()),
    "view of a dict": dict.items,
    "generator of pairs": lambda d: (pair for pair in d.items()),
    "dict of Seq": lambda d: {id: Seq(s) for id, s in d.items()},
    "dict of MutableSeq": lambda d: {id: MutableSeq(s) for id, s in d.items()},
    "dict of SeqRecord": lambda d: {id: SeqRecord(Seq(s), "other") for id, s in d.items()},
    "SeqRecords": lambda d: [SeqRecord(Seq(s), id) for id, s in d.items()],
    "generator of SeqRecords": lambda d: (SeqRecord(Seq(s), id) for id, s in d.items()),
    "Series": lambda d: pd.Series(d),
    "Series of objects": lambda d: pd.Series(list(d.values()), index=list(d), dtype=object),
    "DataFrame by index": lambda d: pd.DataFrame(
        {"sequence": d, "length": {i: len(s) for i, s in d.items()}}
    ),
    "DataFrame with ids": lambda d: pd.DataFrame({"id": list(d), "sequence": list(d.values()), "note": 1}),
    "DataFrame of categories": lambda d: pd.DataFrame(
        {"id": list(d), "sequence": pd.Categorical(list(d.values()))}
    ),
}
UNLABELLED: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "deque": deque,
    "generator": lambda s: (part for part in s),
    "iterator": iter,
    "array": np.array,
    "array of objects": lambda s: np.array(s, dtype=object),
    "values of a dict": lambda s: dict(enumerate(s)).values(),
    "pandas index": pd.Index,
    "pandas array": lambda s: pd.array(s, dtype="string"),
    "Seqs": lambda s: [Seq(part) for part in s],
    "lower case": lambda s: [part.lower() for part in s],
}


def same(found: Embeddings, expected: Embeddings) -> None:
    assert found.ids == expected.ids
    assert found.modality == expected.modality
    assert not found.failed
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)


@pytest.fixture(scope="module", autouse=True)
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty current folder: no sequence is by chance the name of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("empty"))
        yield


@settings(max_examples=15)
@given(st.dictionaries(IDS, st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=5))
def test_containers_with_ids_are_one(
    tiny_model: AlignedModel, tmp_path_factory: pytest.TempPathFactory, by_id: dict[str, str]
) -> None:
    expected = tiny_model.embed(by_id)
    assert expected.ids == list(by_id)
    assert expected.modality == "sequence"
    for number, (id, sequence) in enumerate(by_id.items()):  # the slow way, each by itself
        alone = tiny_model.towers.embed("sequence", tiny_model.towers.sides["sequence"].collate([sequence]))
        np.testing.assert_allclose(expected[id], alone[0].detach().numpy(), atol=1e-5)
        assert expected.ids[number] == id
    for make in LABELLED.values():
        same(tiny_model.embed(make(by_id)), expected)
        same(tiny_model.embed_sequences(make(by_id)), expected)
    folder = tmp_path_factory.mktemp("fasta")
    for packed in (False, True):
        path = write_fasta(folder, by_id, packed=packed)
        for source in (path, [str(path)]):
            same(tiny_model.embed(source), expected)


@settings(max_examples=15)
@given(SEQUENCES)
def test_containers_without_ids_are_numbered(tiny_model: AlignedModel, sequences: list[str]) -> None:
    expected = tiny_model.embed({str(i): sequence for i, sequence in enumerate(sequences)})
    for make in UNLABELLED.values():
        same(tiny_model.embed(make(sequences)), expected)
        same(tiny_model.embed(make(sequences), modality="sequence"), expected)
    for source in (sequences[0], Seq(sequences[0]), np.str_(sequences[0])):
        assert tiny_model.embed(source).ids == ["0"]
        np.testing.assert_allclose(tiny_model.embed(source).vectors, expected.vectors[:1], atol=1e-6)
        same(tiny_model.embed_sequences(source), tiny_model.embed([source]))


@pytest.fixture(scope="module")
def structure_file(tmp_path_factory: pytest.TempPathFactory, cath_dir: Path) -> Path:
    path = tmp_path_factory.mktemp("structures") / "1ubiA00.pdb"
    path.write_bytes((cath_dir / "dompdb" / "1ubiA00").read_bytes())
    return path


def test_structures_of_every_package(tiny_model: AlignedModel, structure_file: Path) -> None:
    expected = tiny_model.embed(structure_file)
    assert (expected.ids, expected.modality) == (["1ubiA00"], "structure")
    structure = PDBParser(QUIET=True).get_structure("1ubiA00", structure_file)
    other = gemmi.read_structure(str(structure_file))
    other.name = "1ubiA00"
    protein = read_structure(structure_file)
    for source in (
        str(structure_file), structure_file.parent, [structure_file], (str(structure_file),), protein,
        [protein], structure, [structure], structure[0], other, [other],
        {"1ubiA00": load_structure(structure_file)}, {"1ubiA00": structure_file}, {"1ubiA00": other[0]},
        pd.Series({"1ubiA00": str(structure_file)}),
        pd.DataFrame({"id": ["1ubiA00"], "structure": [protein]}),
    ):  # fmt: skip
        same(tiny_model.embed(source), expected)
        same(tiny_model.embed_structures(source), expected)
    assert tiny_model.embed(load_structure(structure_file)).ids == ["0"]
    assert tiny_model.embed(next(structure.get_chains())).ids == ["1ubiA00_A"]
    assert tiny_model.embed(other[0][0]).ids == ["A"]
    as_letters = tiny_model.embed_sequences(protein)
    same(as_letters, tiny_model.embed({"1ubiA00": protein.sequence}))


def test_a_corpus_file_has_both(tiny_model: AlignedModel, structure_file: Path, tmp_path: Path) -> None:
    protein = read_structure(structure_file)
    corpus = tmp_path / "corpus.h5"
    write_corpus(corpus, [protein])
    same(tiny_model.embed(corpus), tiny_model.embed(protein))
    same(tiny_model.embed_sequences(str(corpus)), tiny_model.embed_sequences(protein))


def test_chains_take_the_name_of_the_user(tiny_model: AlignedModel, repository: Path) -> None:
    file = repository / "tests" / "edge_cases" / "two_chains.pdb"
    own = tiny_model.embed(file)
    assert len(own.ids) == 2
    for source in (file, gemmi.read_structure(str(file)), PDBParser(QUIET=True).get_structure("x", file)):
        found = tiny_model.embed({"mine": source})
        assert found.ids == [id.replace("two_chains", "mine") for id in own.ids]
        np.testing.assert_array_equal(found.vectors, own.vectors)


def test_models_left_out_are_said(tiny_model: AlignedModel, repository: Path) -> None:
    with pytest.warns(UserWarning, match="1 of the inputs: of several models the first"):
        tiny_model.embed(repository / "tests" / "edge_cases" / "models.pdb")


def test_what_is_both_a_sequence_and_a_file_is_refused(
    tiny_model: AlignedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "MKV").write_text(">a\nGAVL\n")
    (tmp_path / "two.fasta").write_text(">a\nGAVL\n>b\nMKV\n")
    for source in ("MKV", ["MKV"], {"x": "MKV"}, pd.Series(["GA", "MKV"])):
        with pytest.raises(ConfigError) as caught:
            tiny_model.embed(source)
        for part in ("an item of 'sequence'", "existing file", "Path('MKV')", "modality='sequence'"):
            assert part in str(caught.value)
    with pytest.raises(ConfigError, match="two ways"):
        tiny_model.embed_sequences("MKV")
    expected = tiny_model.embed({"x": Seq("MKV")})
    same(tiny_model.embed({"x": "MKV"}, modality="sequence"), expected)
    same(tiny_model.embed(pd.DataFrame({"id": ["x"], "sequence": ["MKV"]})), expected)
    assert tiny_model.embed_sequences(Path("MKV")).ids == ["a"]
    assert tiny_model.embed(["two.fasta"]).ids == ["a", "b"]
    assert tiny_model.embed({"mine": "two.fasta"}).ids == ["mine_a", "mine_b"]
    for call in (tiny_model.embed, tiny_model.embed_sequences, tiny_model.embed_structures):
        for source in ("three.fasta", ["three.fasta"], {"x": "three.fasta"}, Path("none"), "sub/MKV"):
            with pytest.raises(DataError, match="no such file or folder"):
                call(source)
    with pytest.raises(DataError, match="not a structure file; got '>a"):
        tiny_model.embed_structures("two.fasta")
    (tmp_path / "1ubi.pdb").write_text("END\n")
    with pytest.raises(ConfigError, match=r"cannot tell which modality.*got structure or sequence"):
        tiny_model.embed(tmp_path)


FRAME = pd.DataFrame({"accession": [1, 2], "seq": ["MKV", "GAVL"], "sequence": ["GG", "AA"]})


def test_columns_by_name(tiny_model: AlignedModel) -> None:
    found = tiny_model.embed(FRAME, id_column="accession", sequence_column="seq")
    same(found, tiny_model.embed({1: "MKV", 2: "GAVL"}))
    same(tiny_model.embed(FRAME), tiny_model.embed({0: "GG", 1: "AA"}))
    same(tiny_model.embed_sequences(FRAME, id_column="accession"), tiny_model.embed({1: "GG", 2: "AA"}))
    for options, message in (
        ({"id_column": "no"}, "no such column; got 'accession', 'seq', 'sequence', expected 'no'"),
        ({"sequence_column": "no"}, "no such column"),
        (
            {"sequense_column": "seq"},
            r"unknown option; got sequense_column.*structure_column, sequence_column",
        ),
        ({"modality": "structure"}, r"no column of the DataFrame holds items.*structure_column='...'"),
    ):
        with pytest.raises(ConfigError, match=message):
            tiny_model.embed(FRAME, **options)
    with pytest.raises(ConfigError, match=r"several columns.*modality="):
        tiny_model.embed(FRAME.assign(structure="x.pdb"))
    with pytest.raises(ConfigError, match="no column of the DataFrame holds items; got 'accession', 'seq'"):
        tiny_model.embed(FRAME[["accession", "seq"]])
    with pytest.raises(ConfigError, match="stands twice"):
        tiny_model.embed(pd.concat([FRAME, FRAME], axis=1), modality="sequence")
    with pytest.raises(ConfigError, match="no DataFrame"):
        tiny_model.embed(["MKV"], id_column="accession")


def test_ids_are_text_and_stay_apart(tiny_model: AlignedModel) -> None:
    series = pd.Series(["MKV", "GAV", "LL"], index=[1, "01", np.int64(10)], dtype=object)
    assert tiny_model.embed(series).ids == ["1", "01", "10"]


@pytest.mark.parametrize(
    ("source", "places"),
    [
        (pd.Series(["MKV", "GG", "LL"], index=["a", "b", "a"]), ["row 2 (id 'a')", "row 0 (id 'a')"]),
        (pd.DataFrame({"id": [1, 1], "sequence": ["MKV", "GG"]}), ["row 1 (id 1)", "row 0 (id 1)"]),
        ({1: "MKV", "1": "GG"}, ["id '1'", "id 1"]),
        ([("a", "MKV"), ("a", "GG")], ["position 1", "position 0"]),
        (iter([SeqRecord(Seq("MKV"), "a"), SeqRecord(Seq("GG"), "a")]), ["position 1", "position 0"]),
        (["MKV", ("0", "GG")], ["position 1", "position 0"]),
    ],
)
def test_repeated_ids_are_refused_with_both_places(
    tiny_model: AlignedModel, source: Any, places: list[str]
) -> None:
    with pytest.raises(DataError, match="two inputs have the same id") as caught:
        tiny_model.embed(source)
    assert str(caught.value).startswith(places[0])
    assert f"also the id of {places[1]}" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (None, "the input: a value is missing; got None"),
        ([], "the input is empty"),
        ({}, "the input is empty"),
        (pd.Series([], dtype=str), "the input is empty"),
        (pd.DataFrame({"sequence": []}), "the input is empty"),
        (iter(()), "the input is empty"),
        ("", "the input: this cannot be read as structure or sequence; got ''"),
        (7, "the input: this cannot be read as structure or sequence; got 7"),
        (b"MKV", "bytes are no text"),
        ({"MKV"}, "a set has no order"),
        (io.StringIO(">a\nMKV\n"), "an open file, give its path"),
        (np.array([["MKV"]]), "an array of 2 dimensions"),
        (pd.Series(["MKV", None], index=["a", "b"]), r"row 1 \(id 'b'\): a value is missing; got (None|nan)"),
        (pd.Series(["MKV", float("nan")], index=["a", "b"], dtype=object), r"row 1 \(id 'b'\): .*missing"),
        (pd.Series(["MKV", pd.NA], dtype="string"), r"row 1 \(id 1\): a value is missing"),
        (pd.Series(["MKV"], index=[None]), r"row 0 \(id (None|nan)\): no id"),
        (pd.Series(["MKV"], index=[1.5]), "an id is text or a whole number; got 1.5"),
        (pd.Series(["MKV"], index=pd.MultiIndex.from_tuples([("a", 1)])), "an id is text or a whole number"),
        (["MKV", 3], r"position 1: this cannot be read as .*; got 3, expected .*a SeqRecord"),
        (["MKV", b"GG"], "position 1: this cannot be read"),
        (["MKV", ["GG"]], "position 1: this cannot be read as .*; got a list"),
        ([["MKV"]], "position 0: this cannot be read as .*; got a list"),
        ({"a": "MKV", "b": 3}, "id 'b': this cannot be read"),
        ({"a": None}, "id 'a': a value is missing"),
        (
            ["MKV", Protein.from_ca("p", "GA", np.eye(3)[:2])],
            "position 1: the input mixes modalities; got str",
        ),
        (["1ubi"], "position 0: this cannot be read as structure or sequence; got '1ubi'"),
        (Seq(None, 10), "a sequence without letters"),
        (np.zeros(3), "position 0: this cannot be read"),
        (torch.zeros(3), "position 0: this cannot be read"),
        (torch.tensor(1.0), "it cannot be gone through"),
        (AtomArray(0), "no atoms"),
        (str, "the input: this cannot be read"),
    ],
)
def test_refusals_say_where_and_what(tiny_model: AlignedModel, source: Any, message: str) -> None:
    with pytest.raises(ProtclipError, match=message):
        tiny_model.embed(source)


def test_bad_residues_are_listed_with_the_rest_embedded(tiny_model: AlignedModel) -> None:
    with pytest.warns(UserWarning, match="1 of the inputs could not be embedded"):
        found = tiny_model.embed(["MK!V", "MKV"])
    assert found.ids == ["1"]
    assert "residue 3" in found.failed["0"]
    same(tiny_model.embed_sequences(["mk..v\n*"]), tiny_model.embed(["MKV"]))


def test_embed_wants_one_input(tiny_model: AlignedModel) -> None:
    for arguments in ((), ("sequence",), ("sequence", "MKV", "GG")):
        with pytest.raises(ConfigError, match=r"model\.embed\(x\)"):
            tiny_model.embed(*arguments)
    with pytest.raises(ConfigError, match="no such side; got 'smell', expected 'structure' or 'sequence'"):
        tiny_model.embed("smell", ["MKV"])


def test_a_side_of_vectors_is_read_where_it_is_named(
    tiny_model: AlignedModel, structure_file: Path, tmp_path: Path
) -> None:
    side = VectorsModality(3)
    model = AlignedModel(TwoTower(tiny_model.towers.sides["structure"], side, dim=8).eval(), {}, Path())
    rows = np.eye(3, dtype=np.float32)
    expected = model.embed("sequence", {"a": rows[0], "b": rows[1]})
    assert expected.ids == ["a", "b"]
    same(model.embed(pd.Series({"a": rows[0], "b": rows[1]}), modality="sequence"), expected)
    same(model.embed("sequence", (["a", "b"], rows[:2])), expected)
    with pytest.raises(DataError, match=r"row 1 \(id 'a'\): two inputs have the same id.*row 0"):
        model.embed("sequence", pd.Series([rows[0], rows[1]], index=["a", "a"]))
    with pytest.raises(DataError, match="cannot be read as vectors; got NoneType"):
        model.embed("sequence", None)
    assert model.embed(structure_file).modality == "structure"
    with pytest.raises(DataError, match="Items of sequence are read where the modality is named"):
        model.embed("MKV")
    Embeddings(["a", "b"], rows[:2], "sequence").to_hdf5(tmp_path / "v.h5")
    same(model.embed(tmp_path / "v.h5"), expected)


class Hostile:
    """Answers every question with an error."""

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        raise RuntimeError("no")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no")

    __hash__ = None  # type: ignore[assignment]


ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.complex_numbers(), st.binary(max_size=5),
    st.text(max_size=8), st.decimals(), st.fractions(), st.dates(), st.timedeltas(), st.uuids(),
    st.ip_addresses(), st.sampled_from([
        Hostile(), object(), Ellipsis, NotImplemented, str, list[int], range(3), slice(2), print,
        np.float32("nan"), np.datetime64("NaT"), pd.NaT, pd.NA, np.array(3), np.zeros((2, 0)), np.dtype("f4"),
        decimal.Decimal("nan"), Fraction(1, 2), datetime.timezone.utc, io.BytesIO(b"MKV"), memoryview(b"MKV"),
        torch.zeros(2, 2), torch.tensor(1), gemmi.Position(0, 0, 0), gemmi.Structure(), AtomArray(0),
        np.array([(1, "MKV")], dtype=[("a", "i4"), ("b", "U3")]), pd.Timestamp(0), pd.DataFrame(),
        pd.DataFrame({"sequence": [[1]]}),
    ]),
)  # fmt: skip
NESTED = st.recursive(
    ODD,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.one_of(st.text(max_size=3), st.integers(), st.none()), inner, max_size=3),
        st.lists(inner, max_size=3).map(iter),
        st.lists(inner, max_size=3).map(lambda x: pd.Series(x, dtype=object)),
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=400)
@given(NESTED, st.sampled_from([None, "sequence", "structure"]))
def test_anything_else_is_refused_in_our_words(
    tiny_model: AlignedModel, source: Any, modality: str | None
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = tiny_model.embed(source, modality=modality)
        except ProtclipError:
            return
    assert len(found) > 0
    assert np.isfinite(found.vectors).all()
