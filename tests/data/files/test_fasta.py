"""FASTA as it comes: gaps, stops, Windows, gzip, and nonsense."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.files.fasta import read_fasta
from protclip.data.paired.matched import read_two_columns
from protclip.data.paired.pair_list import read_pairs
from protclip.errors import ConfigError, DataError, ProtclipError


def _read(path: Path, content: bytes | str) -> list[tuple[str, str]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(read_fasta(path))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (">a desc here\nMKV\nLLA\n\n>b\tx\nGG", [("a", "MKVLLA"), ("b", "GG")]),
        (">a\r\nMK\r\n>b\r\nGG\r\n", [("a", "MK"), ("b", "GG")]),
        (">a\rMK\rV\r", [("a", "MKV")]),
        ("\ufeff>a\nMK\n", [("a", "MK")]),
        ("\n\n> a\nmk v\n", [("a", "MKV")]),
        (">sp|P1|X\nM-K..V*\n", [("sp|P1|X", "MKV")]),
        (">a\nMK\n*\n", [("a", "MK")]),
        (">a\nBJOUXZ\n", [("a", "BJOUXZ")]),
    ],
)
def test_accepted(tmp_path: Path, content: str, expected: list[tuple[str, str]]) -> None:
    assert _read(tmp_path / "x.fasta", content) == expected
    assert _read(tmp_path / "x.dat", gzip.compress(content.encode())) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no FASTA record"),
        ("\n\n", "no FASTA record"),
        ("MKV\n>a\nMK", r"x:1: not a FASTA file; got 'MKV'"),
        (">a\nMK\n>\nMK", "x:3: header without an id"),
        (">a\nMK\n>a again\nMK", "x:3: id used twice; got 'a', first in line 1"),
        (">a\n>b\nMK", "x:1: record without a sequence; got 'a'"),
        (">a\nMK\n>b\n", "x:3: record without a sequence; got 'b'"),
        (">a\n--*\n", "x:1: record without a sequence"),
        (">a\nMK\nV1L\n", "x:3: not a residue letter in 'a'; got '1'"),
        (">a\nMÄ\n", "x:2: not a residue letter in 'a'; got 'Ä'"),
        (">a\nM*K\n", r"x:2: not a residue letter in 'a'; got '\*'"),
        (">a\nM*\nK\n", "x:3: residues after the stop"),
        (">a\nM\0K\n", "x:2: this is not a text file"),
        (b">a\nM\xffK\n", "x:2: not a residue letter in 'a'; got 'ÿ'"),
        (gzip.compress(b">a\nMKVLLA\n", mtime=0)[:-9], "damaged or cut off"),
        (b"\x1f\x8b garbage", "damaged or cut off"),
    ],
)
def test_refused(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        _read(tmp_path / "x", content)


def test_it_is_a_stream(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(">a\nMK\n>b\nM1\n")
    records = read_fasta(tmp_path / "x")
    assert next(records) == ("a", "MK")
    with pytest.raises(DataError):
        next(records)


def test_repeated_ids_on_request(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(">a\nMK\n>a\nGG\n")
    assert list(read_fasta(tmp_path / "x", unique=False)) == [("a", "MK"), ("a", "GG")]


def test_bad_records_are_yielded_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "x.fasta"
    path.write_text(
        ">good one\nMK\n>digit\nMK\nV1L\nA2\n>empty\n>gaps\n--*\n"
        ">stop\nM*\nK\n>\nMKV\n>good again\nAA\n>last\nGG\n"
    )
    found = list(read_fasta(path, on_error="yield"))
    assert [(id, item) for id, item in found if isinstance(item, str)] == [("good", "MK"), ("last", "GG")]
    told = {id: str(item) for id, item in found if isinstance(item, DataError)}
    assert [id for id, _ in found] == ["good", "digit", "empty", "gaps", "stop", "line 13", "good", "last"]
    for id, line, message in (
        ("digit", 5, "not a residue letter in 'digit'; got '1'"),  # the first mistake of the record
        ("empty", 7, "record without a sequence"),
        ("gaps", 8, "record without a sequence"),
        ("stop", 12, "residues after the stop"),
        ("line 13", 13, "header without an id"),
        ("good", 15, "id used twice; got 'good', first in line 1"),
    ):
        assert told[id].startswith(f"{path}:{line}: {message}")
    assert list(read_fasta(path, unique=False, on_error="yield"))[6] == ("good", "AA")


def test_a_bad_last_record_is_yielded(tmp_path: Path) -> None:
    (tmp_path / "x").write_text(">a\nMK\n>b\n")
    (a, b) = read_fasta(tmp_path / "x", on_error="yield")
    assert a == ("a", "MK")
    assert isinstance(b[1], DataError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no FASTA record"),
        (b"MKV\n>a\nMK\n", "x:1: not a FASTA file"),
        (b"HEADER    OXYGEN TRANSPORT\n", "x:1: not a FASTA file"),
        (b">a\nMK\n>b\nM\0K\n", "x:4: this is not a text file"),
        (gzip.compress(b">a\nMKVLLA\n", mtime=0)[:-9], "damaged or cut off"),
    ],
)
def test_no_fasta_file_is_an_error_all_the_same(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_fasta(tmp_path / "x", on_error="yield"))


def test_unknown_choice(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="on_error"):
        next(read_fasta(tmp_path / "x", on_error="skip"))  # type: ignore[call-overload]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        next(read_fasta(tmp_path / "none"))


@given(st.binary(max_size=300) | st.text("> ACDxyz*-.\n\r1", max_size=200).map(str.encode))
@settings(max_examples=150)
def test_anything_is_records_or_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path, told = tmp_path_factory.getbasetemp() / "any.fasta", ""
    try:
        records = _read(path, content)
    except ProtclipError as error:
        told = str(error)
        records = []
    if not records:
        assert str(path) in told
        return
    assert len({id for id, _ in records}) == len(records)
    for id, sequence in records:
        assert id
        assert sequence.isalpha()
        assert sequence == sequence.upper()


@given(st.binary(max_size=300) | st.text("> ACDxyz*-.\n\r1", max_size=200).map(str.encode))
@settings(max_examples=150)
def test_yielding_loses_nothing_that_raising_reads(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.fasta"
    path.write_bytes(content)
    strict: list[tuple[str, object]] = []
    first, whole, fatal = "", [], ""
    try:
        strict += read_fasta(path)
    except DataError as error:
        first = str(error)
    try:
        whole += read_fasta(path, on_error="yield")
    except DataError as error:
        fatal = str(error)
    assert whole[: len(strict)] == strict
    rest = [str(item) for _, item in whole[len(strict) :]]
    assert first == (rest[0] if rest else fatal)


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=["plain", "gz", "bz2", "xz"]
)
def test_tables_are_read_through_the_same_opener(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_bytes(pack(b"\xef\xbb\xbfa\tB\r\nc\tA\r"))
    found = read_pairs(path, (["a", "b", "c"], ["A", "B"]), (Path("l.h5"), Path("r.h5")))
    assert found.tolist() == [[0, 1], [2, 0]]
    assert read_two_columns(path) == [("a", "B"), ("c", "A")]


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protclip.data.files.lines.LONGEST", 1000)
    (tmp_path / "x").write_bytes(b">a\n" + b"M" * 1001)
    with pytest.raises(DataError, match="x:2: a line without an end"):
        list(read_fasta(tmp_path / "x"))
