"""Which run `load()` and a fine-tuning start from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protclip.errors import ConfigError
from protclip.model.folder import newest_run


def begin(root: Path, name: str, time: int, table: str = "train") -> Path:
    run = root / name
    run.mkdir(parents=True)
    (run / "config.toml").write_text(f"[{table}]\n")
    os.utime(run / "config.toml", (time, time))
    return run


def finish(run: Path, time: int, table: str = "model") -> Path:
    folder = run / table
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f"[{table}]\n")
    (folder / "model.safetensors").write_bytes(b"")
    os.utime(folder / "model.safetensors", (time, time))
    return run


def test_the_model_written_last_counts_and_not_the_name(tmp_path: Path) -> None:
    late = finish(begin(tmp_path, "a", 100), 900)
    finish(begin(tmp_path, "b", 500), 600)
    finish(begin(tmp_path, "head", 950, "task"), 990, "head")
    begin(tmp_path, "dropped long ago", 50)
    finish(begin(tmp_path, ".hidden", 950), 990)
    (tmp_path / "notes.txt").write_text("")
    found = newest_run(tmp_path)
    assert (found.folder, found.required(), found.unfinished) == (late, late, ())


def test_unfinished_runs_are_passed_over_and_named(tmp_path: Path) -> None:
    done = finish(begin(tmp_path, "done", 100), 200)
    first, second = begin(tmp_path, "first", 300), begin(tmp_path, "second", 400)
    found = newest_run(tmp_path)
    assert found.folder == done
    assert found.unfinished == (second, first)
    assert found.sentence().endswith("done; passed over as not finished: second, first")


def test_a_model_folder_among_the_runs_counts(tmp_path: Path) -> None:
    finish(begin(tmp_path, "run", 100), 200)
    model = finish(tmp_path, 300)
    assert newest_run(tmp_path).folder == model / "model"


def test_without_a_finished_run_the_two_ways_are_named(tmp_path: Path) -> None:
    begin(tmp_path / "runs", "stopped", 100)
    (tmp_path / "runs" / "damaged").mkdir()
    (tmp_path / "runs" / "damaged" / "config.toml").write_text("[")
    for root, got in ((tmp_path / "runs", "stopped, damaged not finished"), (tmp_path / "none", "no folder")):
        with pytest.raises(ConfigError) as caught:
            newest_run(root).required()
        for part in (got, "protclip pretrain --cath", 'protclip.load("path/to/model")'):
            assert part in str(caught.value)
