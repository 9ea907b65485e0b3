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
import torch

from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.tasks.results import read_metrics
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


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def noise(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def missing(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("damage", [cut, empty, noise, folder, missing])
@pytest.mark.parametrize("name", ["state.pt", "config.toml", "log.csv", "split.json"])
def test_a_damaged_run_is_refused_or_ends_as_it_would_have(
    items: Path, monkeypatch: pytest.MonkeyPatch, name: str, damage: Callable[[Path], None]
) -> None:
    begin(items, "run", monkeypatch)
    damage(Path("run") / name)
    refused = False
    try:
        pretrain("run", resume=True, pairs=str(items), **OPTIONS)
    except ProtclipError:
        refused = True
    # What is not read is made again; the run begins anew where there is no checkpoint or no options.
    made_again = name == "split.json" and damage is not folder
    assert refused != (made_again or (name in ("state.pt", "config.toml") and damage is missing))
    if not refused:
        pretrain("whole", pairs=str(items), **OPTIONS)
        for file in ("log.csv", "model/model.safetensors", "split.json"):
            assert (Path("run") / file).read_bytes() == (Path("whole") / file).read_bytes()


def test_a_checkpoint_that_lacks_a_part_is_refused(items: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(items, "run", monkeypatch)
    path = Path("run/state.pt")
    whole = torch.load(path, weights_only=True)
    old = {"made_from", "best_step", "epoch_loss", "stopped_early"}  # version 0.1 had none of these
    for key in sorted(set(whole) - old):
        torch.save({name: value for name, value in whole.items() if name != key}, path)
        with pytest.raises(DataError, match=r"state\.pt.*checkpoint"):
            pretrain("run", resume=True, pairs=str(items), **OPTIONS)
        torch.save({**whole, key: "text"}, path)
        with pytest.raises(DataError, match=r"state\.pt.*checkpoint"):
            pretrain("run", resume=True, pairs=str(items), **OPTIONS)


@pytest.mark.parametrize("rate", [1e3, 1e30])
def test_a_rate_that_blows_the_training_up_ends_it(items: Path, rate: float) -> None:
    with pytest.raises(ProtclipError, match=r"the (loss|temperature) is (nan|inf) at step \d+.*Lower the"):
        pretrain("run", pairs=str(items), **{**OPTIONS, "steps": 200, "head_lr": rate})
    assert not Path("run/model").exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "[" * 100_000, '{"test": ' + "9" * 5000 + "}"])
def test_damaged_scores_of_a_finished_seed_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.json").write_text(text)
    with pytest.raises(DataError, match=r"metrics\.json: the scores of a finished run are damaged"):
        read_metrics(tmp_path / "metrics.json")
