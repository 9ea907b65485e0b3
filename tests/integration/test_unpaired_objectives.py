"""Objectives that learn from unpaired rows by pseudo-labels or a plan: they train, resume and repeat."""

from __future__ import annotations

import csv
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from protclip.config.pretraining import OBJECTIVES, Objective
from protclip.errors import ConfigError

Cli = Callable[..., Any]

TERMS = {
    "hard-pl": {"clip", "pseudo"},
    "soft-pl": {"clip", "pseudo"},
    "s-clip": {"clip", "pseudo"},
    "setclip+s-clip": {"clip", "mmd", "sdd", "ssl_left", "ssl_right", "pseudo"},
    "transport": {"clip", "transport"},
    "setclip+transport": {"clip", "mmd", "sdd", "ssl_left", "ssl_right", "transport"},
}


def test_the_help_names_every_objective() -> None:
    named = re.split(r", | or ", re.sub(r" \(.*?\)", "", OBJECTIVES))
    assert sorted(named) == sorted(get_args(Objective))


@pytest.mark.parametrize(
    "objective",
    [pytest.param(name, marks=[] if name in ("s-clip", "transport") else pytest.mark.slow) for name in TERMS],
)
def test_each_objective_trains_on_its_terms(
    objective: str, tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli
) -> None:
    run = tmp_path / "run"
    options = ["--cath", cath_dir, "--steps", 8, "--paired", 0.4, "--loss", "transport_every=1"]
    cli("pretrain", *options, "--objective", objective, "--out", run, *quick)
    rows = list(csv.DictReader((run / "log.csv").open()))
    known = {"step", "rate", "loss", "temperature", "valid_R@1", "valid_R@10", "valid_mrr"}
    assert set(rows[0]) - known == TERMS[objective]
    assert all(float(rows[-1][name]) > 0 for name in TERMS[objective])
    assert (run / "model" / "model.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--objective", "s-clip", "--paired", "0"],
        ["--objective", "transport", "--paired", "0"],
        ["--objective", "transport", "--micro-batch-size", "5", "--pools", "disjoint"],
        ["--objective", "transport", "--tune", "frozen", "--loss", "transport_items=20"],
        ["--loss", "transport_weight=1", "--no-ssl"],
    ],
    ids=" ".join,
)
def test_unusual_ways(options: list[str], tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli) -> None:
    start = ["--cath", cath_dir, "--steps", 4, "--loss", "transport_every=2"]
    cli("pretrain", *start, "--out", tmp_path / "run", *quick, *options)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def test_a_plan_without_pools_is_refused(tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli) -> None:
    start = ["--cath", cath_dir, "--steps", 2, "--paired", 1, "--objective", "transport"]
    with pytest.raises(ConfigError, match="unpaired items on both sides"):
        cli("pretrain", *start, "--out", tmp_path / "run", *quick)


@pytest.mark.slow
def test_images_and_texts_have_keywords(tmp_path: Path, cli: Cli) -> None:
    run = tmp_path / "run"
    sides = ["--pairs", "shapes", "--left", "image", "--right", "text", "--left-option", "encoder=tiny"]
    options = ["--right-option", "encoder=tiny", "--right-option", 'keywords=["red", "blue", "ring"]']
    train = ["--objective", "s-clip", "--paired", 0.4, "--steps", 3, "--batch-size", 24, "--device", "cpu"]
    cli("pretrain", *sides, *options, *train, "--out", run)
    rows = list(csv.DictReader((run / "log.csv").open()))
    assert all(float(row["keywords"]) > 0 for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["s-clip", "transport"])
def test_killed_and_resumed_equals_uninterrupted(
    objective: str, tmp_path: Path, cath_dir: Path, quick: list[str], command: list[str], cli: Cli
) -> None:
    options = ["--cath", str(cath_dir), "--steps", "24", "--objective", objective, *quick]
    options += ["--loss", "transport_every=4", "--paired", "0.3"]
    cli("pretrain", *options, "--out", tmp_path / "whole")
    parts = tmp_path / "parts"
    process = subprocess.Popen(
        [*command, "pretrain", *options, "--out", str(parts)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (parts / "state.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=120)
    assert not (parts / "model").exists(), "the run ended before it could be killed"
    cli("pretrain", "--out", parts, "--resume")
    for name in ("log.csv", "metrics.json", "model/model.safetensors"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
def test_two_processes_plan_together(
    tmp_path: Path, cath_dir: Path, quick: list[str], command: list[str]
) -> None:
    run = tmp_path / "run"
    options = ["--steps", "12", "--devices", "2", "--objective", "transport", "--loss", "transport_every=2"]
    done = subprocess.run(
        [*command, "pretrain", "--cath", str(cath_dir), *options, *quick, "--out", str(run)],
        capture_output=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    # Items that are met for the first time after a plan have no targets before the next one.
    assert max(float(row["transport"]) for row in csv.DictReader((run / "log.csv").open())) > 0
