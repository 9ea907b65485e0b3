"""CATH lists and folders as they are found on disks."""

from __future__ import annotations

import contextlib
import gzip
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.corpus.boundaries import read_boundaries
from protclip.data.corpus.cath import find_cath, parse_domain_id, read_domain_list
from protclip.errors import DataError, ProtclipError

LINE = "1oaiA00     1    10     8    10     2     1     1     1     1    59 1.000"


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_domain_list(tmp_path: Path) -> None:
    text = f"# CLF 2.0\n\n{LINE}\n1abc000 2 30 30 40 1 1 1 1 1 100 999.000\r\n"
    text += "1xyzB02 6 10 250 10 7 6 5 4 3 42 1000.000"
    labels = read_domain_list(_write(tmp_path / "list.txt", text))
    assert list(labels) == ["1oaiA00", "1abc000", "1xyzB02"]
    first = labels["1oaiA00"]
    assert (first.code, first.cluster, first.length, first.resolution) == (
        "1.10.8.10",
        "1.10.8.10.2",
        59,
        1.0,
    )
    last = labels["1xyzB02"]
    assert (last.s35, last.s60, last.s95, last.s100, last.resolution) == (7, 6, 5, 4, 1000.0)
    (tmp_path / "list.gz").write_bytes(gzip.compress(text.encode()))
    assert read_domain_list(tmp_path / "list.gz") == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{LINE}\n1abcA00 1 10", "list.txt:2: malformed line; got 3 columns, expected 12"),
        (LINE.replace(" 59 ", " x "), "list.txt:1: malformed line.*expected numbers"),
        (LINE.replace("    10     8", "   -10     8"), "list.txt:1: number out of range"),
        (LINE.replace(" 59 ", " " + "9" * 30 + " "), "list.txt:1: number out of range"),
        (LINE.replace(" 59 ", " " + "9" * 5000 + " "), "list.txt:1: malformed line"),
        (LINE.replace("1.000", "nan"), "list.txt:1: number out of range"),
        (f"{LINE}\n#\n{LINE}", "list.txt:3: domain listed twice; got 1oaiA00"),
        ("# nothing\n", "the domain list is empty"),
        ("", "the domain list is empty"),
        ("abc\0def", "list.txt:1: this is not a text file"),
    ],
)
def test_malformed_domain_list(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_domain_list(_write(tmp_path / "list.txt", text))


def test_unreadable_list(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read; got No such file"):
        read_domain_list(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be read"):
        read_domain_list(tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(LINE.encode() * 50)[:-10])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_domain_list(tmp_path / "cut.gz")
    (tmp_path / "latin.txt").write_bytes(LINE.encode() + b"\n\xff\xfe")
    with pytest.raises(DataError, match=r"latin\.txt:2: this is not UTF-8 text; got byte 0xff"):
        read_domain_list(tmp_path / "latin.txt")


@given(st.data())
@settings(max_examples=80)
def test_any_damage_to_a_list_is_an_error_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray((LINE + "\n" + LINE.replace("1oaiA00", "2abcB03") + "\n").encode())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            case "cut":
                content = content[: at + 1]
            case _:
                content[at:at] = data.draw(st.binary(max_size=8))
    path = tmp_path_factory.getbasetemp() / "damaged-list.txt"
    path.write_bytes(content)
    for reader in (read_domain_list, read_boundaries):
        try:
            found = reader(path)
        except ProtclipError as error:
            told = str(error)
        else:
            told = str(path) if found else ""
        assert str(path) in told


@given(st.text(max_size=200))
def test_any_text_is_an_error_or_a_list(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_text(text, encoding="utf-8", errors="replace")
    for reader in (read_domain_list, read_boundaries):
        with contextlib.suppress(ProtclipError):
            assert reader(path)


def test_domain_ids() -> None:
    assert parse_domain_id("1oaiA00") == ("1oai", "A", 0)
    assert parse_domain_id("1ABC012") == ("1abc", None, 12)
    for wrong in ("1oaiA0", "oai1A00", "1oaiA000", "1oai_00", ""):
        with pytest.raises(DataError, match="not a CATH domain id"):
            parse_domain_id(wrong)


CDF = """# CATH Domall File (CDF) Format 2.0
1chmA  D02 F00  1  A    2 - A  156 -  1  A  157 - A  402 -
1cnsA  D02 F00  2  A    1 - A   87 -  A  146 - A  243 -  1  A   88 - A  145 -
101mA  D01 F00  1  A    0 - A  153 -
1bcmA  D02 F02  1  A  257 - A  487 -  1  A  492 - A  559 -  A  488 - A  491 - (4)  A  560 - A  560 - (1)
1amg0  D01 F01  1  0   -5 A 0  -1  B  0    1 - 0    2 - (2)
"""


def test_three_kinds_of_boundary_list(tmp_path: Path) -> None:
    cuts = read_boundaries(_write(tmp_path / "cath-domain-boundaries.txt", CDF))
    assert {name: cut.chopping for name, cut in cuts.items()} == {
        "1chmA01": "2-156",
        "1chmA02": "157-402",
        "1cnsA01": "1-87,146-243",
        "1cnsA02": "88-145",
        "101mA00": "0-153",
        "1bcmA01": "257-487",
        "1bcmA02": "492-559",
        "1amg001": "-5A--1B",
    }
    assert (cuts["1amg001"].chain, cuts["1chmA01"].chain, cuts["1chmA01"].pdb) == (None, "A", "1chm")
    plain = _write(
        tmp_path / "plain.txt",
        "1cnsA01\t1-87,146-243\n1cnsB02 1-5_7-9A:B\n102lA00 v4_2_0 1.10.530.40 -1-162:A",
    )
    cuts = read_boundaries(plain)
    assert [cut.chopping for cut in cuts.values()] == ["1-87,146-243", "1-5,7-9A", "-1-162"]
    assert [cut.chain for cut in cuts.values()] == ["A", "B", "A"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1chmA  D02 F00  1  A    2 - A  156 -", "too few columns"),
        ("1chmA  D01 F00  1  A    2 - A", "segment 'A 2 - A'"),
        ("1chmA  D01 F00  1  A    2 - B  156 -", "segment in chains A and B"),
        ("1chmA  D01 F00  1  A    x - A  156 -", "segment"),
        ("1chmA  D01 F00  0", "0 segments"),
        ("1chmA  D01 F00  1  A 2 - A 156 - A 3", "2 columns after the domains for 0 fragments"),
        ("1chmA01 5-2-1", "chopping '5-2-1'"),
        ("1chmA01 1-5:A,6-9:B", "segments in chains A, B"),
        ("1chmA01 1-5\n1chmA01 1-5", r"list.txt:2.*1chmA01 for the second time"),
        ("nonsense", "malformed boundary line"),
    ],
)
def test_malformed_boundary_list(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_boundaries(_write(tmp_path / "list.txt", line))


def test_seqres_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="counts SEQRES positions"):
        read_boundaries(_write(tmp_path / "cath-domain-boundaries-seqreschopping.txt", "1cnsA01 1-87"))


def test_folder_as_the_archives_unpack(cath_dir: Path, tmp_path: Path) -> None:
    folder = find_cath(cath_dir)
    assert len(folder.files) == 168
    assert list(folder.files) == sorted(folder.files)
    assert folder.list_path == cath_dir / "cath-domain-list.txt"
    assert folder.notices == ()
    inner = find_cath(cath_dir / "dompdb")
    assert list(inner.files) == list(folder.files)
    assert inner.list_path is not None
    assert inner.list_path.samefile(cath_dir / "cath-domain-list.txt")


def test_flat_folder_with_every_suffix(tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    names = [
        "1oaiA00",
        "2abcB01.pdb",
        "3abcA00.ent.gz",
        "AF-P12345-F1-model_v4.cif",
        "x.bcif.gz",
        "4abcC00.CIF",
    ]
    for name in [*names, "README", "notes.md", ".hidden", "list.tsv"]:
        (flat / name).touch()
    (flat / "folder.pdb").mkdir()
    folder = find_cath(flat)
    assert set(folder.files) == {"1oaiA00", "2abcB01", "3abcA00", "AF-P12345-F1-model_v4", "x", "4abcC00"}
    assert folder.list_path is None
    assert any("no CATH labels" in notice for notice in folder.notices)
    for name in (
        "cath-domain-list-S35-v4_3_0.txt",
        "cath-domain-list-v4_2_0.txt",
        "cath-domain-list-v4_3_0.txt",
    ):
        _write(tmp_path / name, LINE)
    above = find_cath(flat)
    assert above.list_path is not None
    assert above.list_path.name == "cath-domain-list-v4_3_0.txt"
    assert any("several cath-domain-list files" in notice for notice in above.notices)
    _write(flat / "cath-domain-list.txt", LINE)
    assert find_cath(flat).list_path == flat / "cath-domain-list.txt"


def test_unusable_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder.*dompdb.*data download cath"):
        find_cath(tmp_path / "none")
    _write(tmp_path / "file", "")
    with pytest.raises(DataError, match="a file, not a folder"):
        find_cath(tmp_path / "file")
    empty = tmp_path / "empty"
    (empty / "dompdb").mkdir(parents=True)
    with pytest.raises(DataError, match="no structure files; got 0 other files"):
        find_cath(empty)
    for name in ("1oaiA00", "1oaiA00.pdb"):
        (empty / "dompdb" / name).touch()
    with pytest.raises(DataError, match="two files for one id"):
        find_cath(empty)
    (empty / "dompdb" / "1oaiA00").unlink()
    with pytest.raises(DataError, match="no such domain list"):
        find_cath(empty, domain_list=tmp_path / "none.txt")


def test_whole_chains_and_a_boundary_list(tmp_path: Path, cath_dir: Path) -> None:
    shutil.copy(cath_dir / "dompdb" / "1ubiA00", tmp_path / "1ubiA")
    shutil.copy(cath_dir / "dompdb" / "1pdoA00", tmp_path / "pdb1pdo.ent")
    shutil.copy(cath_dir / "dompdb" / "1eteA00", tmp_path / "1eteA.pdb")
    _write(
        tmp_path / "cath-domain-boundaries.txt", "1ubiA01 1-30\n1ubiA02 31-76\n1pdoA00 5-100\n9zzzA00 1-9\n"
    )
    folder = find_cath(tmp_path)
    assert {name: path.name for name, path in folder.files.items()} == {
        "1pdoA00": "pdb1pdo.ent",
        "1ubiA01": "1ubiA",
        "1ubiA02": "1ubiA",
    }
    assert folder.cuts["1ubiA02"].chopping == "31-76"
    assert any("1 chain files have no domain" in notice for notice in folder.notices)
    other = _write(tmp_path / "other.txt", "9zzzA00 1-9\n")
    with pytest.raises(DataError, match="no file belongs to any chain"):
        find_cath(tmp_path, boundaries=other)


@pytest.mark.parametrize("flat", [False, True])
def test_files_of_other_kinds_are_no_domains_and_are_counted(tmp_path: Path, flat: bool) -> None:
    folder = tmp_path if flat else tmp_path / "dompdb"
    folder.mkdir(exist_ok=True)
    for name in ("1oaiA00", "1ubiA00.PDB.gz", "1ejgA00.pdb1", "LICENSE", "README", ".1abcA00", "notes.txt"):
        (folder / name).write_text("")
    (folder / "2abcA00").symlink_to(folder / "nowhere")
    (folder / "3abcA00").symlink_to(folder / "1oaiA00")
    found = find_cath(tmp_path)
    assert sorted(found.files) == ["1ejgA00", "1oaiA00", "1ubiA00", "3abcA00"]
    (notice,) = (text for text in found.notices if "left out" in text)
    assert notice.startswith(f"5 files in {folder} were left out")
    for kind in ("1 hidden", "1 broken links", "3 not named like structures"):
        assert kind in notice
