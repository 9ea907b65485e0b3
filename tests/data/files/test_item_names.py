"""Names of items by the paths of their files."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.data.files.item_names import ItemName, item_names, names_below
from protclip.structure.reading.source import stem_of


def names(*paths: str) -> list[str]:
    return [found.name for found in item_names([PurePosixPath(path) for path in paths], stem_of)]


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a.pdb", "deep/b.cif.gz", "1oaiA00"], ["a", "b", "1oaiA00"]),
        ([f"r{i}/ranked_0.pdb" for i in range(5)], [f"r{i}/ranked_0" for i in range(5)]),
        (["ranked_0.pdb", "r1/ranked_0.pdb"], ["ranked_0", "r1/ranked_0"]),
        (["a/x/m.pdb", "b/x/m.pdb", "c/y/m.pdb"], ["a/x/m", "b/x/m", "y/m"]),
        (["x.pdb", "x.cif", "y.pdb"], ["x.pdb", "x.cif", "y"]),
        (["r/x.pdb", "r/x.cif", "s/x.pdb"], ["r/x.pdb", "r/x.cif", "s/x"]),
        (["pdb/1abc.pdb", "pdb_1abc.pdb"], ["1abc", "pdb_1abc"]),
    ],
)
def test_as_short_as_they_can_be(paths: list[str], expected: list[str]) -> None:
    assert names(*paths) == expected


parts = st.sampled_from(["a", "b", "a_b", "A", "a.pdb", "b.cif", "a.pdb.gz"])
trees = st.lists(
    st.lists(parts, min_size=1, max_size=4).map(lambda x: PurePosixPath(*x)), unique=True, max_size=5
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(paths=trees)
def test_every_file_has_a_name_of_its_own(paths: list[PurePosixPath]) -> None:
    found = item_names(paths, stem_of)
    assert len({each.name for each in found}) == len(paths)
    stems = [stem_of(path.name) for path in paths]
    for each, path, stem in zip(found, paths, stems, strict=True):
        if stems.count(stem) == 1:
            assert each.name == stem  # unique names stay as they are
        assert str(path).startswith(each.name) or str(path).endswith(each.file)


chain = st.sampled_from(["A", "B", "AB", "b", "A_B", "b_A"])


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(paths=trees, chains=st.lists(st.lists(chain, min_size=2, max_size=4, unique=True), min_size=5,
max_size=5),
       several=st.lists(st.booleans(), min_size=5, max_size=5))  # fmt: skip
def test_items_of_files_with_several_do_not_clash(paths, chains, several) -> None:
    found = item_names(paths, stem_of)
    ids = []
    for i, each in enumerate(found):
        ids += [each.part(name) for name in chains[i]] if several[i] else [each.name]
    assert len(set(ids)) == len(ids)


def test_two_and_two_ab() -> None:
    two, other = item_names([PurePosixPath("two.pdb"), PurePosixPath("two_AB.pdb")], stem_of)
    assert (two.part("AB"), two.part("C"), other.name) == ("two.pdb:AB", "two_C", "two_AB")


def test_files_of_an_input(tmp_path: Path) -> None:
    files = [tmp_path / "r1" / "m.pdb", tmp_path / "r2" / "m.pdb"]
    assert [each.name for each in names_below(tmp_path, files, stem_of)] == ["r1/m", "r2/m"]
    assert names_below(files[0], files[:1], stem_of) == [ItemName("m", "m.pdb")]
