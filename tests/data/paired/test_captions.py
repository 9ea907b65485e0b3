"""Caption datasets in their published layouts, written here, and the errors that they come with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protclip.data.paired.captions import read_captions
from protclip.data.paired.matched import find_matched, read_folder_pair
from protclip.errors import DataError


def draw(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / name)


def karpathy(path: Path, rows: Sequence[tuple[str, str, list[str]]], **more: str) -> None:
    images = [
        {
            "filename": file,
            "imgid": i,
            "split": split,
            "sentences": [
                {"raw": text, "tokens": text.split(), "imgid": i, "sentid": k} for k, text in enumerate(texts)
            ],
            "sentids": [],
            **more,
        }
        for i, (file, split, texts) in enumerate(rows)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "dataset": "demo"}))


def test_flickr8k_as_published(tmp_path: Path) -> None:
    draw(tmp_path / "Flicker8k_Dataset", "1_a.jpg", "2_b.jpg", "3_c.jpg", "4_d.jpg")
    lists = tmp_path / "Flickr8k_text"
    lists.mkdir()
    lines = [
        f"{name}#{k}\tcaption {k} of {name} ."
        for name in ("1_a.jpg", "2_b.jpg", "3_c.jpg", "4_d.jpg")
        for k in range(5)
    ]
    # The published list has captions of an image of this odd name that does not exist.
    lines.append("2258277193_586949ec62.jpg.1#0\tpeople wait for a lift")
    (lists / "Flickr8k.token.txt").write_text("\n".join(lines) + "\n")
    for part, names in (("train", "1_a.jpg\n"), ("dev", "2_b.jpg\n"), ("test", "3_c.jpg")):
        (lists / f"Flickr_8k.{part}Images.txt").write_text(names)
    found = read_captions(tmp_path)
    assert found is not None
    assert found.kinds == ("image", "text")
    assert dict(found.splits) == {"1_a.jpg": "train", "2_b.jpg": "valid", "3_c.jpg": "test"}
    assert list(found.left) == ["1_a.jpg", "2_b.jpg", "3_c.jpg"]
    assert found.left["2_b.jpg"].name == "2_b.jpg"
    assert found.right["3_c.jpg#4"] == "caption 4 of 3_c.jpg ."
    assert found.pairs is not None
    assert len(found.pairs) == 15
    assert found.notices == ("2 images are in no part of the dataset's own split and are left out",)


def test_karpathy_json_with_file_paths(tmp_path: Path) -> None:
    draw(tmp_path / "val2014", "x.jpg")
    draw(tmp_path / "train2014", "x.jpg", "y.jpg")
    rows = [("x.jpg", "restval", ["one", "two"]), ("y.jpg", "test", ["three"])]
    karpathy(tmp_path / "dataset_coco.json", rows, filepath="train2014")
    found = read_captions(tmp_path)
    assert found is not None
    assert dict(found.splits) == {"train2014/x.jpg": "train", "train2014/y.jpg": "test"}
    assert found.left["train2014/x.jpg"] == tmp_path / "train2014" / "x.jpg"


def test_remote_sensing_layout_with_other_suffix(tmp_path: Path) -> None:
    draw(tmp_path / "imgs", "1.png", "2.tif")
    karpathy(
        tmp_path / "dataset.json",
        [("1.tif", "train", ["a farm"]), ("2.tif", "val", ["a port"]), ("3.tif", "train", ["a field"])],
    )
    found = read_captions(tmp_path)
    assert found is not None
    assert {id: path.name for id, path in found.left.items()} == {"1.tif": "1.png", "2.tif": "2.tif"}
    assert found.pairs == (("1.tif", "1.tif#0"), ("2.tif", "2.tif#0"))
    assert found.right["3.tif#0"] == "a field"  # unpaired
    assert found.notices == (
        "1 of 3 listed images are missing (the first is 3.tif); their captions are unpaired",
        "1 images were found under their name with another suffix",
    )


def test_captions_of_missing_images_of_held_out_parts_are_not_trained_on(tmp_path: Path) -> None:
    draw(tmp_path / "imgs", "1.tif")
    karpathy(tmp_path / "dataset.json", [("1.tif", "train", ["a"]), ("2.tif", "test", ["b"])])
    found = read_captions(tmp_path)
    assert found is not None
    assert list(found.right.values()) == ["a"]


def test_coco_and_its_first_entries(tmp_path: Path) -> None:
    draw(tmp_path / "train2017", "000000000009.jpg", "000000000025.jpg", "000000000030.jpg")
    content = {
        "images": [{"id": n, "file_name": f"{n:012d}.jpg"} for n in (9, 25, 30)],
        "annotations": [
            {"image_id": n, "id": i, "caption": f"c{i}"} for i, n in enumerate((30, 9, 30, 25, 77))
        ],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "captions_train2017.json").write_text(json.dumps(content))
    (tmp_path / "annotations" / "instances_train2017.json").write_text("{}")
    whole = read_captions(tmp_path)
    assert whole is not None
    assert [b for _, b in whole.pairs or ()] == [
        f"{name}.jpg#{k}"
        for name, k in (("000000000030", 0), ("000000000030", 1), ("000000000009", 0), ("000000000025", 0))
    ]
    assert "1 of 4 listed images are missing (the first is image 77)" in whole.notices[0]
    mini = read_captions(tmp_path, limit=3)
    assert mini is not None
    assert list(mini.left) == ["000000000030.jpg", "000000000009.jpg"]
    assert list(mini.right.values()) == ["c0", "c2", "c1"]
    assert mini.notices == ()


@pytest.mark.parametrize("form", ["list", "mapping", "tsv", "csv", "one caption"])
def test_plain_lists(form: str, tmp_path: Path) -> None:
    draw(tmp_path / "images", "a.png", "b.png")
    if form == "list":
        entries: object = [
            {"image": "a.png", "captions": ["x, y", "z"], "split": "test"},
            {"image": "b.png", "captions": ["w"], "split": "train"},
        ]
        (tmp_path / "captions.json").write_text(json.dumps(entries))
    elif form == "mapping":
        (tmp_path / "captions.json").write_text(json.dumps({"a.png": ["x, y", "z"], "b.png": "w"}))
    elif form == "one caption":
        rows = [
            {"image": "a.png", "caption": "x, y"},
            {"image": "a.png", "caption": "z"},
            {"image": "b.png", "caption": "w"},
        ]
        (tmp_path / "captions.json").write_text(json.dumps(rows))
    elif form == "tsv":
        (tmp_path / "captions.tsv").write_text("image\tcaption\na.png\tx, y\na.png\tz\nb.png\tw\n")
    else:
        (tmp_path / "captions.txt").write_text('image,caption\na.png,"x, y"\na.png,z\nb.png,w\n')
    found = read_captions(tmp_path)
    assert found is not None
    assert found.right == {"a.png#0": "x, y", "a.png#1": "z", "b.png#0": "w"}
    assert found.pairs == (("a.png", "a.png#0"), ("a.png", "a.png#1"), ("b.png", "b.png#0"))
    assert dict(found.splits) == ({"a.png": "test", "b.png": "train"} if form == "list" else {})


def test_what_is_wrong_is_counted(tmp_path: Path) -> None:
    draw(tmp_path / "images", "a.png", "b.png", "c.png", "extra.png")
    entries = [
        {"image": "a.png", "captions": ["one", " ", "one", "two", None]},
        {"image": "b.png", "captions": []},
        {"image": "c.png", "captions": ["", "  "]},
        {"image": "gone.png", "captions": ["unseen"]},
    ]
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    found = read_captions(tmp_path)
    assert found is not None
    assert found.pairs == (("a.png", "a.png#0"), ("a.png", "a.png#3"))
    assert list(found.left) == ["a.png", "b.png", "c.png", "images/extra.png"]
    assert set(found.right.values()) == {"one", "two", "unseen"}
    assert found.notices == (
        "1 of 4 listed images are missing (the first is gone.png); their captions are unpaired",
        "4 captions are empty and left out",
        "1 captions repeat another of the same image and are left out",
        "2 images have no caption and are unpaired",
        "1 images are not in captions.json and are unpaired",
    )


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[1, 2]",
        '[{"image": "a.png"}]',
        '[{"captions": ["x"]}]',
        '{"images": [{}]}',
        '[{"image": "a", "captions": ["b"], "split": "trian"}]',
    ],
)
def test_malformed_json_names_the_file(text: str, tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text(text)
    with pytest.raises(DataError, match=r"captions\.json"):
        read_captions(tmp_path)


def test_malformed_lines_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.token.txt").write_text("a.jpg#0\tfine\na.jpg no tab\n")
    with pytest.raises(DataError, match=r"x\.token\.txt:2"):
        read_captions(tmp_path)


def test_several_lists_have_to_be_told_apart(tmp_path: Path) -> None:
    for name in ("dataset_a.json", "dataset_b.json"):
        karpathy(tmp_path / name, [("1.tif", "train", ["x"])])
    with pytest.raises(DataError, match=r"dataset_a\.json, dataset_b\.json"):
        read_captions(tmp_path)
    draw(tmp_path, "1.tif")
    assert read_captions(tmp_path / "dataset_a.json") is not None


def test_a_folder_of_datasets_is_their_union(tmp_path: Path) -> None:
    for name, file in (
        ("RSICD", "dataset_rsicd.json"),
        ("Sydney_captions", "dataset.json"),
        ("UCM_captions", "dataset.json"),
    ):
        karpathy(tmp_path / name / file, [("1.tif", "train", [f"a {name}"])])
        draw(tmp_path / name / "imgs", "1.tif")
    assert [m.name for m in find_matched(str(tmp_path))] == ["RSICD", "Sydney_captions", "UCM_captions"]


def test_nothing_known_names_the_readers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no matched items here.*left and right.*captions"):
        find_matched(str(tmp_path))
    with pytest.raises(DataError, match=r"no such file or folder.*shapes"):
        find_matched(str(tmp_path / "nowhere"))


def test_left_and_right_of_any_suffix(tmp_path: Path) -> None:
    (tmp_path / "left.csv").touch()
    (tmp_path / "right").mkdir()
    (tmp_path / "pairs.tsv").write_text("# matched\na\tA\n\nb\tB\na\tC\n")
    (tmp_path / "splits.tsv").write_text("a\tdev\nb\ttrain\n")
    found = read_folder_pair(tmp_path)
    assert found is not None
    assert (found.left, found.right) == (tmp_path / "left.csv", tmp_path / "right")
    assert found.pairs == (("a", "A"), ("b", "B"), ("a", "C"))
    assert dict(found.splits) == {"a": "valid", "b": "train"}
    turned = found.turned()
    assert turned.pairs == (("A", "a"), ("B", "b"), ("C", "a"))
    assert dict(turned.splits) == {"A": "valid", "B": "train", "C": "valid"}
    (tmp_path / "left.txt").touch()
    with pytest.raises(DataError, match="one folder or file called 'left'"):
        read_folder_pair(tmp_path)


def test_malformed_pairs_name_the_line(tmp_path: Path) -> None:
    for name in ("left.csv", "right.csv"):
        (tmp_path / name).touch()
    (tmp_path / "pairs.tsv").write_text("a\tA\nb B\n")
    with pytest.raises(DataError, match=r"pairs\.tsv:2: not two columns"):
        read_folder_pair(tmp_path)
