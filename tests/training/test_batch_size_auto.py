"""``batch_size="auto"`` in a whole run of two toy modalities."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protclip.files import read_toml
from protclip.modalities.vectors import VectorsModality
from protclip.relations.pairs import AlignmentData
from protclip.training.pretrain import pretrain


class Heard:
    """A display that remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def begin(self, label: str, total: int) -> None: ...

    def advance(self, done: int, losses: dict[str, float] | None = None) -> None: ...

    def end(self) -> None: ...


OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "fp32", "dim": 8, "steps": 3}


def fresh(make_toy: Callable[..., Any]) -> AlignmentData:
    """The toy items as ready vectors of both sides."""
    toy = make_toy().data
    sides = (
        dataclasses.replace(side, modality=VectorsModality(10, stands_for=side.name)) for side in toy.sides
    )
    return dataclasses.replace(toy, sides=tuple(sides))


@pytest.fixture
def data(make_toy: Callable[..., Any]) -> AlignmentData:
    return fresh(make_toy)


def test_the_size_is_said_written_and_used(tmp_path: Path, data: AlignmentData) -> None:
    display = Heard()
    pretrain(tmp_path / "run", data=data, display=display, batch_size="auto", **OPTIONS)
    config = tmp_path / "run" / "config.toml"
    size = read_toml(config)["train"]["batch_size"]
    assert size in (32, 60)  # 60 training items
    assert any(text.startswith(f"batch size {size}:") for text in display.said)
    assert f"# batch size {size}:" in config.read_text()


def test_a_run_of_that_size_is_the_same_run(tmp_path: Path, make_toy: Callable[..., Any]) -> None:
    """Looking at the data first changes neither weights nor batches nor views."""
    logs = []
    size: Any = "auto"
    for name in ("auto", "number"):
        pretrain(tmp_path / name, data=fresh(make_toy), batch_size=size, **OPTIONS)
        size = read_toml(tmp_path / name / "config.toml")["train"]["batch_size"]
        logs.append((tmp_path / name / "log.csv").read_bytes())
    assert logs[0] == logs[1]


def test_ranks_of_the_held_out_items_are_kept(tmp_path: Path, data: AlignmentData) -> None:
    found = pretrain(tmp_path / "run", data=data, batch_size=16, **OPTIONS)
    assert found is not None
    lines = (tmp_path / "run" / "ranks.csv").read_text().splitlines()
    assert (
        lines[0] == "id,group,left_to_right_ahead,left_to_right_tied,right_to_left_ahead,right_to_left_tied"
    )
    ahead = np.array([int(line.split(",")[2]) for line in lines[1:]])
    assert (ahead < 10).mean() == pytest.approx(found.metrics["retrieval"]["left_to_right"]["R@10"])
    assert [line.split(",")[0] for line in lines[1:]] == data.test.ids
