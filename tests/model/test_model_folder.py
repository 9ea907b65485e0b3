"""Model folders: whole or not at all, nothing left behind, and refused where they cannot be right."""

from __future__ import annotations

import copy
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from protclip.errors import DataError, ProtclipError, WeightsError
from protclip.files import read_toml, write_toml
from protclip.inference.aligned_model import AlignedModel, load
from protclip.inference.to_file import embed_to_file
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.sequence.esm2 import ESM2Shape
from protclip.modalities.sequence.esm_weights import Provenance, random_esm2
from protclip.modalities.structure import StructureModality
from protclip.modalities.vectors import VectorsModality
from protclip.model.two_tower import TwoTower


def vectors_model() -> TwoTower:
    torch.manual_seed(0)
    sides = [VectorsModality(3, stands_for=name) for name in ("one", "two")]
    # Nearly constant, so that a large value overflows.
    sides[0].fit(np.array([[0.0, 1.0, 5.0], [1e-3, 1.001, 5.001]]))
    return TwoTower(*sides, dim=4).eval()


def save(model: TwoTower, folder: Path) -> Path:
    model.save(folder, facts={}, card="card")
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".model.4194304-7f.tmp"  # no process has this number
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    (tmp_path / ".model.lock").touch()
    (tmp_path / ".other.4194304-7f.tmp").touch()
    save(vectors_model(), tmp_path / "model")
    assert names(tmp_path) == [".other.4194304-7f.tmp", "model"]


def test_a_write_that_fails_leaves_the_old_model_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(vectors_model(), tmp_path / "model")
    before = (tmp_path / "model" / "model.safetensors").read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("protclip.model.folder.write_toml", full)
    with pytest.raises(DataError, match="No space left"):
        save(vectors_model(), tmp_path / "model")
    assert names(tmp_path) == ["model"]
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def test_a_file_in_the_place_of_the_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("mine")
    with pytest.raises(DataError, match="a file stands in the place"):
        save(vectors_model(), tmp_path / "model")
    assert (tmp_path / "model").read_text() == "mine"


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    (tmp_path / "model").symlink_to("mine")
    save(vectors_model(), tmp_path / "model")
    assert names(tmp_path) == ["mine", "model"]
    assert names(tmp_path / "mine") == ["notes.txt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float) -> None:
    folder = save(vectors_model(), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["heads.two.inner.weight"][0, 0] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"not finite.*heads\.two\.inner\.weight"):
        load(folder, "cpu")


def test_an_item_whose_vector_is_not_finite_is_listed_as_failed(tmp_path: Path) -> None:
    save(vectors_model(), tmp_path / "model")
    model = AlignedModel(vectors_model(), {}, tmp_path / "model")
    good, bad = np.array([1.0, 2.0, 3.0]), np.array([3e38, -3e38, 3e38])
    items = {"a": good, "b": bad, "c": good + 1, "d": bad}
    with pytest.warns(UserWarning, match="2 of the inputs could not be embedded"):
        found = model.embed("one", items)
    assert found.ids == ["a", "c"]
    assert set(found.failed) == {"b", "d"}
    assert "not finite" in found.failed["b"]
    alone = model.embed("one", {"a": good, "c": good + 1})
    np.testing.assert_allclose(found.vectors, alone.vectors, atol=1e-6)
    report = embed_to_file(model, "one", items, tmp_path / "v.h5")
    assert (report.inputs, report.embedded, report.skipped, report.failed) == (4, 2, 0, 2)
    assert "b\tits vector is not finite" in report.failed_list.read_text()


def test_where_no_vector_is_finite_there_is_an_error_and_no_file(tmp_path: Path) -> None:
    save(vectors_model(), tmp_path / "model")
    model = AlignedModel(vectors_model(), {}, tmp_path / "model")
    items = {"b": np.array([3e38, -3e38, 3e38])}
    with pytest.raises(DataError, match=r"nothing could be embedded.*not finite"):
        model.embed("one", items)
    with pytest.raises(DataError, match=r"nothing could be embedded.*not finite"):
        embed_to_file(model, "one", items, tmp_path / "v.h5")
    assert not (tmp_path / "v.h5").exists()


def protein_model() -> TwoTower:
    torch.manual_seed(0)
    sides = [
        SequenceModality(random_esm2(ESM2Shape(2, 16, 4), 0), Provenance("random", "own", "", "", "", "")),
        StructureModality.from_options({"size": "tiny"}),
    ]
    return TwoTower(*sides, dim=8).eval()


def whole_numbers(config: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all whole numbers of nested mappings and lists."""
    if isinstance(config, (dict, list)):
        for key, value in config.items() if isinstance(config, dict) else enumerate(config):
            yield from whole_numbers(value, (*path, key))
    elif isinstance(config, int) and not isinstance(config, bool):
        yield path


@pytest.mark.parametrize("make", [vectors_model, protein_model])
@pytest.mark.parametrize("size", [10**12, 10**30, -1, 0])
def test_absurd_sizes_are_refused_before_memory_is_taken(tmp_path: Path, make: Any, size: int) -> None:
    """Each whole number of the configuration in turn."""
    folder = save(make(), tmp_path / "model")
    config = read_toml(folder / "config.toml")
    places = list(whole_numbers(config["model"]))
    assert places
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused = 0
    for place in places:
        changed = copy.deepcopy(config)
        *way, last = ("model", *place)
        entry: Any = changed
        for key in way:
            entry = entry[key]
        entry[last] = size
        try:
            write_toml(folder / "config.toml", changed)
            TwoTower.load(folder)
        except ProtclipError:
            refused += 1
    assert refused
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # kilobytes
