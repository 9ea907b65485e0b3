"""The drawn sample is the same everywhere, and its captions say what is in the pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from protclip.data.paired.shapes import COLOURS, PLACES, write_shapes
from protclip.errors import DataError


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("sample") / "shapes")


def test_every_combination_once_with_two_captions(sample: Path) -> None:
    entries = json.loads((sample / "captions.json").read_text())
    assert len(entries) == 480
    firsts = {entry["captions"][0] for entry in entries}
    assert len(firsts) == 480
    assert len({caption for entry in entries for caption in entry["captions"]}) == 960
    assert sorted(p.name for p in (sample / "images").iterdir()) == [entry["image"] for entry in entries]


def test_captions_are_true(sample: Path) -> None:
    """The ink lies where the caption says and has the colour that it names."""
    for entry in json.loads((sample / "captions.json").read_text())[::20]:
        pixels = np.asarray(Image.open(sample / "images" / entry["image"]), float)
        words = entry["captions"][0].split()
        colour = next(word for word in words if word in COLOURS)
        place = next(name for name in PLACES if entry["captions"][0].endswith(name))
        paper = np.median(pixels.reshape(-1, 3), 0)
        ink = np.abs(pixels - paper).sum(-1) > 60
        y, x = (axis.mean() for axis in np.nonzero(ink))
        assert abs(x - PLACES[place][0]) < 6
        assert abs(y - PLACES[place][1]) < 6
        mean = np.median(pixels[ink], 0)
        nearest = min(COLOURS, key=lambda name: float(np.abs(mean - COLOURS[name]).sum()))
        assert nearest == colour


def test_the_same_every_time_and_not_drawn_twice(sample: Path, tmp_path: Path) -> None:
    again = write_shapes(tmp_path / "shapes")
    assert (again / "captions.json").read_bytes() == (sample / "captions.json").read_bytes()
    for name in ("0000.png", "0479.png"):
        np.testing.assert_array_equal(
            np.asarray(Image.open(again / "images" / name)), np.asarray(Image.open(sample / "images" / name))
        )
    before = (again / "images" / "0000.png").stat().st_mtime_ns
    write_shapes(tmp_path / "shapes")
    assert (again / "images" / "0000.png").stat().st_mtime_ns == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(DataError, match="the folder holds something else"):
        write_shapes(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "important"
