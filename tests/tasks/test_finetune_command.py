"""``protclip finetune`` on a benchmark file and on the sample, to ``protclip predict``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from protclip.cli.app import app
from protclip.data.benchmarks.build_benchmark import write_benchmark
from protclip.errors import ConfigError


def invoke(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    return result, result.exception


@pytest.fixture(scope="module")
def benchmark_file(tmp_path_factory, toy_corpus):
    path = tmp_path_factory.mktemp("benchmark") / "reaction.h5"
    ids = toy_corpus.ids
    return write_benchmark(
        path,
        task="reaction",
        version="toy 2",
        proteins=toy_corpus.proteins(np.arange(80)),
        classes=list("abcd"),
        labels={id: [i % 4] for i, id in enumerate(ids)},
        splits={"train": ids[:48], "valid": ids[48:64], "test": ids[64:]},
        expected={"train": 50, "valid": 16, "test": 16},
        missing=[("gone1", "no such entry"), ("gone2", "no such entry")],
    )


SMALL = (
    "--towers", "sequence", "--sequence-encoder", "scratch", "--esm-init", "random",
    "--mode", "probe", "--epochs", "5", "--device", "cpu",
)  # fmt: skip


def test_from_a_file_to_predictions(benchmark_file, toy_corpus, tmp_path):
    out = tmp_path / "run"
    result, error = invoke("finetune", "reaction", "--data", benchmark_file, *SMALL, "--out", out)
    assert error is None, error
    assert "toy 2" in result.output
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["benchmark"]["splits"]["train"] == {"used": 48, "found": 48, "published": 50}
    assert metrics["benchmark"]["missing"] == 2
    fasta = tmp_path / "in.fasta"
    fasta.write_text(f">one\n{toy_corpus.sequence(70)}\n")
    _, error = invoke("predict", out, "-i", fasta, "-o", tmp_path / "o.tsv", "--device", "cpu")
    assert error is None, error
    assert (tmp_path / "o.tsv").read_text().splitlines()[1].split("\t")[:3] == ["one", "1", "c"]
    # A finished run is not trained again; other options are refused.
    _, error = invoke("finetune", "reaction", "--out", out, "--resume")
    assert error is None, error
    _, error = invoke("finetune", "reaction", "--out", out, "--resume", "--epochs", "9")
    assert isinstance(error, ConfigError)
    assert "keeps the options" in str(error)
    _, error = invoke("finetune", "ec", "--data", benchmark_file, *SMALL, "--out", tmp_path / "x")
    assert "benchmark of another task" in str(error)


def test_the_config_repeats_the_run(benchmark_file, tmp_path):
    for name in ("a", "b"):
        extra = (
            ("--config", tmp_path / "a" / "config.toml")
            if name == "b"
            else ("--data", benchmark_file, *SMALL)
        )
        _, error = invoke(
            "finetune", *(("reaction",) if name == "a" else ()), *extra, "--out", tmp_path / name
        )
        assert error is None, error
    files = ("log.csv", "per_class.tsv", "head/model.safetensors")
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)


@pytest.mark.parametrize("task", ["ec", "go-bp", "fold"])
def test_the_sample(task, tmp_path):
    result, error = invoke("finetune", task, "--data", "sample", *SMALL, "--out", tmp_path / "run")
    assert error is None, error
    assert "demonstration, no benchmark" in result.output
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["benchmark"]["demonstration"] is True


@pytest.mark.slow
def test_two_processes_train_like_one(benchmark_file, tmp_path):
    logs = []
    for devices in ("1", "2"):
        out = tmp_path / devices
        arguments = (
            "finetune", "reaction", "--data", benchmark_file, "--structure-size", "tiny", "--dropout", "0",
            "--epochs", "2", "--batch-size", "16", "--device", "cpu", "--devices", devices, "--out", out,
        )  # fmt: skip
        # The installed command: processes are started by running the same script again.
        command = [str(Path(sys.executable).with_name("protclip")), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        logs.append(np.loadtxt(out / "log.csv", delimiter=",", skiprows=1))
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-3)
