"""The benchmarks for a GPU, tried at small sizes on the CPU by the script that runs them there."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

HEAD = ["step", "result", "seconds", "limit"]


def run(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("OUT", "WHEELS")}
    command = ["bash", str(repository / "benchmarks" / "gpu.sh"), *map(str, arguments)]
    return subprocess.run(
        command, env={**environment, "PYTHON": sys.executable}, capture_output=True, text=True, check=False
    )


def table(out: Path) -> list[list[str]]:
    return [line.split("\t") for line in (out / "steps.tsv").read_text().splitlines()]


@pytest.mark.slow
def test_each_step_leaves_its_result(repository, tmp_path):
    done = run(repository, "--dry", "--out", tmp_path, "--only", "esm2 pretrain")
    assert done.returncode == 0, done.stdout + done.stderr
    head, *steps = table(tmp_path)
    assert head == HEAD
    assert [step[:2] for step in steps] == [["install", "done"], ["esm2", "done"], ["pretrain", "done"]]
    esm2, pretrain = (
        json.loads((tmp_path / f"{name}-cpu.json").read_text()) for name in ("esm2", "pretrain")
    )
    rows = esm2["tables"][0]["rows"]
    assert rows[-1][1] == "ours, bf16"
    assert esm2["figures"].keys() == {f"esm2_t6_8M_UR50D {row[1]}" for row in rows}
    assert 0 <= pretrain["figures"]["wait share"] < 1
    assert "busy share" not in pretrain["figures"]  # of a GPU only


def test_without_time_no_step_starts_and_the_table_says_so(repository, tmp_path):
    done = run(repository, "--dry", "--out", tmp_path, "--budget", 1)
    assert done.returncode == 1
    head, *steps = table(tmp_path)
    assert head == HEAD
    names = ["install", "tests", "cdconv", "cdconv-bf16", "esm2", "losses", "pretrain", "embedding"]
    assert [step[0] for step in steps] == names
    assert {step[1] for step in steps} == {"out of time"}
    assert [path.name for path in tmp_path.glob("*.json")] == []


def test_bad_arguments_are_named(repository, tmp_path):
    for arguments, message in (
        (["--dri"], "unknown argument --dri"),
        (["--budget"], "--budget wants a value"),
        (["--dry", "--wheels", tmp_path / "none"], "no folder of wheels"),
    ):
        done = run(repository, *arguments)
        assert done.returncode == 2
        assert message in done.stderr


def test_the_driver_is_asked_again_and_again(repository):
    spec = importlib.util.spec_from_file_location("gpu_use", repository / "benchmarks" / "gpu_use.py")
    gpu_use = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(gpu_use)
    start = time.perf_counter()
    with gpu_use.GPUUse(("printf", "50, 1000\n7, 9\n"), every_seconds=0.01) as use:
        while len(use.samples) < 3 and not use.error:
            time.sleep(0.01)
    assert use.between(start, time.perf_counter()) == (0.5, 1000.0, len(use.samples))
    assert use.between(start - 2, start - 1) == (0.0, 0.0, 0)
    with gpu_use.GPUUse(("printf", "no numbers")) as use:
        while not use.error:
            time.sleep(0.01)
    assert "ValueError" in use.error
