"""A run goes on with what it was begun with, and with nothing else; one process at a time."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protclip.errors import ConfigError, DataError
from protclip.training.contrast import Contrast
from protclip.training.pretrain import pretrain
from protclip.training.running import Interrupted
from protclip.work.locks import claim

GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1"
OPTIONS: dict[str, Any] = {
    "left": "vectors",
    "right": "vectors",
    "dim": 8,
    "batch_size": 12,
    "steps": 6,
    "refit": "none",
    "left_option": {"stands_for": "one"},
    "right_option": {"stands_for": "two"},
    "device": "cpu",
    "precision": "fp32",
    "plots": False,
}


@pytest.fixture
def items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(GOLDEN / "pairs", tmp_path / "pairs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "pairs"


def begin(items: Path, out: str, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """Start a run and stop it after the third step."""
    step = Contrast.gradients

    def stop(self: Contrast, number: int, batch: Any) -> dict[str, float]:
        if number == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Contrast, "gradients", stop)
        with pytest.raises(Interrupted):
            pretrain(out, pairs=str(items), **{**OPTIONS, **more})


def change_a_vector(items: Path) -> None:
    with h5py.File(items / "left.h5", "r+") as file:
        file["embeddings"][3] += 1


def drop_a_pair(items: Path) -> None:
    lines = (items / "pairs.tsv").read_text().splitlines()
    (items / "pairs.tsv").write_text("\n".join(lines[:-1]) + "\n")


def rename_an_item(items: Path) -> None:
    with h5py.File(items / "right.h5", "r+") as file:
        ids = file["ids"][:]
        ids[0] = b"other"
        file["ids"][:] = ids


@pytest.mark.parametrize("change", [change_a_vector, drop_a_pair, rename_an_item])
def test_a_run_does_not_go_on_with_other_items(
    items: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    begin(items, "run", monkeypatch)
    state = Path("run/state.pt").read_bytes()
    change(items)
    with pytest.raises(ConfigError, match=r"begun with other data.*another data_fingerprint \("):
        pretrain("run", resume=True, pairs=str(items), **OPTIONS)
    assert Path("run/state.pt").read_bytes() == state


def test_equal_items_in_another_place_are_the_same(items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain("whole", pairs=str(items), **OPTIONS)
    begin(items, "run", monkeypatch)
    elsewhere = items.with_name("elsewhere")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    pretrain(items.parent / "run", resume=True, pairs=str(items), **OPTIONS)
    assert (items.parent / "run/log.csv").read_bytes() == (items.parent / "whole/log.csv").read_bytes()


def test_a_run_does_not_go_on_with_other_vectors(
    cath_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ids = sorted(path.name for path in (cath_dir / "dompdb").iterdir())
    options: dict[str, Any] = {
        "cath": str(cath_dir),
        "vectors": "v.h5",
        "structure_size": "tiny",
        "batch_size": 8,
        "steps": 3,
        "dim": 8,
        "device": "cpu",
        "refit": "none",
        "plots": False,
    }

    def write(seed: int) -> None:
        with h5py.File("v.h5", "w") as file:
            file["ids"] = np.array(ids, dtype=object)
            file["embeddings"] = np.random.default_rng(seed).normal(size=(len(ids), 4)).astype(np.float32)

    step = Contrast.gradients

    def stop(self: Contrast, number: int, batch: Any) -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, batch)

    write(0)
    with monkeypatch.context() as patch:
        patch.setattr(Contrast, "gradients", stop)
        with pytest.raises(Interrupted):
            pretrain("run", **options)
    write(1)
    with pytest.raises(ConfigError, match=r"begun with other data.*another --vectors \("):
        pretrain("run", resume=True, **options)
    write(0)
    pretrain("run", resume=True, **options)


def test_a_second_process_is_refused_at_once(items: Path) -> None:
    with claim(Path("run")), pytest.raises(DataError, match="another process is making this output"):
        pretrain("run", pairs=str(items), **OPTIONS)
    assert not Path("run").exists()
    pretrain("run", pairs=str(items), **OPTIONS)
