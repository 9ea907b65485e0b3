"""Zero-shot classification: sides, ties, templates and refusals, with towers whose answers are known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protclip.errors import ConfigError, DataError
from protclip.inference.aligned_model import AlignedModel
from protclip.inference.zero_shot import zero_shot
from protclip.modalities.base import Encoder, Modality, TensorBatch
from protclip.model.two_tower import TwoTower

WORDS = ("grass", "field", "river lake")


class Pass(Encoder):
    """Hands on what collate made."""

    out_dim = 3

    def forward(self, batch: TensorBatch) -> torch.Tensor:
        return batch.tensors[0]


class Numbers(Modality[np.ndarray]):
    """Text files of three numbers."""

    name = "numbers"

    def __init__(self) -> None:
        self.encoder = Pass()

    def config(self) -> dict[str, Any]:
        return {}

    def accepts(self, path: Path) -> bool:
        return path.is_dir() or path.suffix == ".num"

    def read(self, source: Any) -> Iterable[tuple[str, Any]]:
        files = (
            source.items()
            if isinstance(source, Mapping)
            else [(f.stem, f) for f in sorted(source.glob("*.num"))]
        )
        for id, file in files:
            try:
                yield id, np.array([float(x) for x in file.read_text().split()], np.float32)
            except ValueError:
                yield id, DataError("no numbers", where=id)

    def collate(self, items: Sequence[np.ndarray]) -> TensorBatch:
        return TensorBatch(torch.tensor(np.stack(items)))

    def augment(self, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return item


class Words(Numbers):
    """How often each of three words occurs."""

    name = "words"

    def accepts(self, path: Path) -> bool:
        return False

    def read(self, source: Any) -> Iterable[tuple[str, Any]]:
        for id, text in source.items():
            yield (
                id,
                np.array([float(word in text) + 0.25 * ("bright" in text) for word in WORDS], np.float32),
            )


class Straight(torch.nn.Module):
    """A head that changes nothing."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture
def model() -> AlignedModel:
    towers = TwoTower(Words(), Numbers(), dim=3)
    towers.heads = torch.nn.ModuleDict({"words": Straight(), "numbers": Straight()})
    return AlignedModel(towers.eval(), {}, Path())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = {
        "aGrass": ["1 0 0", "0.9 0.1 0", "0 1 0"],  # two right, one taken for a field
        "bField": ["0 1 0", "0.5 0.5 0.1"],  # right; tied with grass
        "dRiverLake": ["0 0 1", "bad", "1 0 0.5"],  # right, unreadable, second
    }
    for name, values in rows.items():
        (tmp_path / name).mkdir()
        for i, value in enumerate(values):
            (tmp_path / name / f"{i}.num").write_text(value)
    return tmp_path


def test_scores_by_hand(model: AlignedModel, folder: Path) -> None:
    said: list[str] = []
    found = zero_shot(model, folder, ["a view of {}."], say=said.append)
    assert found.classes == ["grass", "field", "river lake"]
    assert found.truth.tolist() == [0, 0, 0, 1, 1, 2, 2]
    metrics = found.metrics()
    assert metrics["top1"] == pytest.approx((2 + 1.5 + 1) / 7)
    assert metrics["top5"] == 1.0
    assert (metrics["items"], metrics["classes"], metrics["failed"]) == (7, 3, 1)
    assert metrics["chance_top1"] == pytest.approx(1 / 3)
    assert metrics["chance_top5"] == 1.0
    assert metrics["largest_class"] == pytest.approx(3 / 7)
    assert metrics["per_class"] == {
        "grass": {"items": 3, "top1": pytest.approx(2 / 3)},
        "field": {"items": 2, "top1": pytest.approx(0.75)},
        "river lake": {"items": 2, "top1": pytest.approx(0.5)},
    }
    assert said == ["1 items could not be read and are left out (the first is river lake/1: 1: no numbers)"]


def test_an_encoder_with_one_answer_is_at_chance(model: AlignedModel, tmp_path: Path) -> None:
    for name in WORDS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.num").write_text("1 1 1")
    assert zero_shot(model, tmp_path).metrics()["top1"] == pytest.approx(1 / 3)


def test_templates_are_averaged(model: AlignedModel, folder: Path) -> None:
    templates = ["{}", "bright {} {}"]
    prompts = np.eye(3)
    bright = prompts + 0.25
    mean = prompts + bright / np.linalg.norm(bright, axis=1, keepdims=True)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    found = zero_shot(model, folder, templates)
    items = np.array(
        [[1, 0, 0], [0.9, 0.1, 0], [0, 1, 0], [0, 1, 0], [0.5, 0.5, 0.1], [0, 0, 1], [1, 0, 0.5]]
    )
    expected = (items @ mean.T).argmax(1)
    clear = np.arange(7) != 4  # that one is tied
    assert found.predicted[clear].tolist() == expected[clear].tolist()


@pytest.mark.parametrize("templates", [["no place"], []])
def test_a_template_needs_a_place_for_the_class(
    model: AlignedModel, folder: Path, templates: list[str]
) -> None:
    with pytest.raises(ConfigError, match="--prompt"):
        zero_shot(model, folder, templates)


def test_the_side_has_to_be_known(model: AlignedModel, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Words, "accepts", lambda self, path: True)
    with pytest.raises(ConfigError, match="cannot tell which modality"):
        zero_shot(model, folder)
    assert zero_shot(model, folder, side="numbers").metrics()["items"] == 7
    with pytest.raises(ConfigError, match="the model has no such side"):
        zero_shot(model, folder, side="number")


def test_nothing_readable(model: AlignedModel, tmp_path: Path) -> None:
    for name in WORDS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.num").write_text("bad")
    with pytest.raises(DataError, match="nothing could be read"):
        zero_shot(model, tmp_path)
