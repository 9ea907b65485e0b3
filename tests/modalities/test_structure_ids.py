"""Ids of structures in folders, archives, lists and shards: one for each, the same in every way."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from protclip.data.files.spans import FileList
from protclip.errors import StructureError
from protclip.inference.inputs import recognise
from protclip.modalities.structure import StructureModality, is_structure_name
from protclip.structure.encoders.by_name import encoder_config

FAULTS = Path(__file__).parents[1] / "edge_cases" / "faults" / "structures"
PLAIN = (FAULTS / "plain.pdb").read_bytes()


@pytest.fixture(scope="module")
def side() -> StructureModality:
    return StructureModality(encoder_config("cdconv", "tiny"))


def chains(*names: str) -> bytes:
    """The plain chain under several names."""
    lines = PLAIN.splitlines()[:-1]
    copies = [line[:20] + f"{name:>2s}".encode() + line[22:] for name in names for line in lines]
    return b"\n".join([*copies, b"END", b""])


TREES = {
    "models of one name": (
        {f"r{i}/ranked_0.pdb": PLAIN for i in range(5)},
        [f"r{i}/ranked_0" for i in range(5)],
    ),
    "unique names": ({"a.pdb": PLAIN, "deep/b.pdb": PLAIN, "1ubiA00": PLAIN}, ["1ubiA00", "a", "b"]),
    "a chain that is called as a file": (
        {"two.pdb": chains("AB", "C"), "two_AB.pdb": PLAIN},
        ["two.pdb:AB", "two_C", "two_AB"],
    ),
    "a folder and an underscore": ({"pdb/1abc.pdb": PLAIN, "pdb_1abc.pdb": PLAIN}, ["1abc", "pdb_1abc"]),
    "two formats": ({"x.pdb": PLAIN, "x.ent": PLAIN}, ["x.ent", "x.pdb"]),
    "failures of one name": (
        {"r0/bad.pdb": b"ATOM", "r1/bad.pdb": b"ATOM", "good.pdb": PLAIN},
        ["good", "r0/bad.pdb", "r1/bad.pdb"],
    ),
}


def ids(items) -> list[str]:
    return [id for id, _ in items]


@pytest.mark.parametrize("tree", TREES)
def test_folders_archives_and_shards(tree, tmp_path, side) -> None:
    files, expected = TREES[tree]
    folder = tmp_path / "in"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    with (
        zipfile.ZipFile(tmp_path / "in.zip", "w") as archive,
        tarfile.open(tmp_path / "in.tar.gz", "w:gz") as tar,
    ):
        for name, data in files.items():
            archive.writestr(name, data)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    for source in (folder, tmp_path / "in.zip", tmp_path / "in.tar.gz"):
        found = list(side.read(source))
        assert sorted(ids(found)) == sorted(expected)
        assert len(found) == len(set(ids(found)))
        listed = FileList(source, side.files(source))
        for count in (1, 2, 7):
            parts = [listed.shard(number, count) for number in range(1, count + 1)]
            assert sorted(id for part in parts for id in ids(side.stream(part))) == sorted(expected)
    paths = [folder / name for name in sorted(files)]
    assert len(set(ids(side.read(paths)))) == len(expected)


def test_a_list_of_unique_names_keeps_the_stems(tmp_path, side) -> None:
    for name in ("r1/a.pdb", "r2/b.pdb", "r2/a.pdb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PLAIN)
    assert ids(side.read([tmp_path / "r1" / "a.pdb", tmp_path / "r2" / "b.pdb"])) == ["a", "b"]
    assert ids(side.read([tmp_path / "r1" / "a.pdb", tmp_path / "r2" / "a.pdb"])) == ["r1/a", "r2/a"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1abc.pdb", True), ("1ABC.PDB.GZ", True), ("1abc.pdb1", True), ("1abc.pdbx", True), ("1abc.cif.bz2",
        True),
        ("1abc.bcif.xz", True), ("1abc.ent.zst", True), ("1oaiA00", True), ("1oaiA00.gz", True), ("LICENSE",
        False),
        ("1234567", True), ("Dockerf", False), ("README", False), (".pdb", False), (".a/b.pdb", False),
        ("notes.txt", False), ("1abc.pdb1234", False),
    ],
)  # fmt: skip
def test_names_that_say_structure(name, expected) -> None:
    assert is_structure_name(name) is expected


def test_an_empty_folder_says_what_stands_there(tmp_path, side) -> None:
    (tmp_path / "LICENSE").write_text("")
    with pytest.raises(
        StructureError, match="no structure files in the folder; got 1 entries of other kinds"
    ):
        side.files(tmp_path)
    assert not side.accepts(tmp_path)


def test_a_model_takes_lists_of_paths_the_same_way(tmp_path, side) -> None:
    """As ``model.embed(glob)`` passes them on."""
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"r{i}" / "ranked_0.pdb")
        paths[-1].parent.mkdir()
        paths[-1].write_bytes(PLAIN)
    found = recognise([str(path) for path in paths], {"structure": side})
    assert ids(found.items()) == ["r0/ranked_0", "r1/ranked_0", "r2/ranked_0"]
