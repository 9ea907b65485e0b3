"""Labelled folders for zero-shot classification in their published layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from protclip.data.paired.class_folders import class_name, read_classes
from protclip.errors import DataError


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("aGrass", "grass"),
        ("dRiverLake", "river lake"),
        ("BareLand", "bare land"),
        ("baseballdiamond", "baseball diamond"),
        ("football_field", "football field"),
        ("railwayStation", "railway station"),
        ("Residential", "residential"),
        ("airplane", "airplane"),
        ("mobilehomepark", "mobile home park"),
        ("Storage Tanks", "storage tanks"),
    ],
)
def test_names_as_a_prompt_wants_them(folder: str, name: str) -> None:
    assert class_name(folder) == name


def test_one_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("BareLand", "Beach", ".hidden", "__MACOSX"):
        (tmp_path / name).mkdir()
    found = read_classes(tmp_path)
    assert found.names == ["bare land", "beach"]
    assert found.sources == [tmp_path / "BareLand", tmp_path / "Beach"]
    assert found.example == tmp_path / "BareLand"


def test_lists_of_file_names(tmp_path: Path) -> None:
    (tmp_path / "RSICD_images").mkdir()
    for name in ("airport_1.jpg", "airport_2.jpg", "00042.jpg"):
        (tmp_path / "RSICD_images" / name).touch()
    lists = tmp_path / "txtclasses_rsicd"
    lists.mkdir()
    (lists / "airport.txt").write_text("airport_1.jpg\nairport_2.jpg\n")
    (lists / "pond.txt").write_text("00042.jpg\r\n")
    found = read_classes(tmp_path)
    assert found.names == ["airport", "pond"]
    assert [list(source) for source in found.sources] == [["airport_1.jpg", "airport_2.jpg"], ["00042.jpg"]]
    (lists / "pond.txt").write_text("00043.jpg\n")
    with pytest.raises(DataError, match=r"pond\.txt: a listed file is missing; got 00043\.jpg"):
        read_classes(tmp_path)


def test_a_list_of_labels_and_new_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "images" / name).touch()
    rows = [
        {"image": f"{x}.jpg", "captions": [], "label": y}
        for x, y in (("a", "Grass"), ("b", "Field"), ("c", "Grass"))
    ]
    (tmp_path / "captions.json").write_text(json.dumps(rows))
    (tmp_path / "classes.tsv").write_text("Grass\tgrassland\n")
    found = read_classes(tmp_path)
    assert found.names == ["field", "grassland"]
    assert [list(source) for source in found.sources] == [["b.jpg"], ["a.jpg", "c.jpg"]]


def test_too_few_classes_or_equal_names(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    with pytest.raises(DataError, match="no classes here"):
        read_classes(tmp_path)
    (tmp_path / "One").mkdir()
    with pytest.raises(DataError, match="two classes have one name; got one"):
        read_classes(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        read_classes(tmp_path / "none")
