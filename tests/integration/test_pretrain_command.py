"""``protclip pretrain`` on the shipped corpus: what it leaves behind, every objective, and its refusals."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.files import read_toml

Cli = Callable[..., Any]


def test_the_run_folder_holds_what_is_promised(run_folder: Path) -> None:
    names = {p.name for p in run_folder.iterdir()}
    assert names == {
        *(
            "config.toml",
            "log.csv",
            "metrics.json",
            "ranks.csv",
            "split.json",
            "curves.svg",
            "embedding.svg",
            "state.pt",
            "model",
        )
    }
    assert {p.name for p in (run_folder / "model").iterdir()} == {
        "config.toml",
        "model.safetensors",
        "README.md",
    }
    assert len(list(csv.DictReader((run_folder / "log.csv").open()))) == 6
    torch.load(run_folder / "state.pt", weights_only=True)
    assert load_file(run_folder / "model" / "model.safetensors")
    for name in ("curves.svg", "embedding.svg"):
        assert ElementTree.parse(run_folder / name).getroot().tag.endswith("svg")


def test_metrics_have_the_documented_form(run_folder: Path) -> None:
    metrics = json.loads((run_folder / "metrics.json").read_text())
    retrieval = metrics["retrieval"]
    assert set(retrieval) == {
        *("gallery", "chance_R@1", "structure_to_sequence", "sequence_to_structure", "length_matched_rank")
    }
    for direction in ("structure_to_sequence", "sequence_to_structure"):
        assert set(retrieval[direction]) == {"R@1", "R@5", "R@10", "median_rank"}
    assert retrieval["chance_R@1"] == pytest.approx(1 / retrieval["gallery"])
    assert set(metrics["cath_knn"]) == {"C", "A", "T", "H"}


def test_superfamilies_do_not_cross_the_split(run_folder: Path) -> None:
    split = json.loads((run_folder / "split.json").read_text())
    from protclip.data.corpus.build import sample_corpus_dir
    from protclip.data.corpus.cath import read_domain_list

    labels = read_domain_list(sample_corpus_dir() / "cath-domain-list.txt")
    groups = [{labels[id].code for id in split[part]} for part in ("train", "valid", "test")]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert sum(len(split[part]) for part in ("train", "valid", "test")) == 168
    paired = {labels[id].cluster for id in split["paired"]}
    assert not paired & {labels[id].cluster for id in split["unpaired_structures"]}
    assert sorted(split["unpaired_structures"]) == sorted(split["unpaired_sequences"])
    assert split["unpaired_structures"] != split["unpaired_sequences"]


def test_model_card_says_what_the_towers_are(run_folder: Path) -> None:
    card = (run_folder / "model" / "README.md").read_text()
    assert "random" in card  # the origin of the sequence encoder's weights
    assert "residue types" in card
    assert "R@10" in card


def test_missing_weights_are_said_on_screen_in_the_config_and_on_the_card(
    tmp_path: Path, cath_dir: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    run = tmp_path / "run"
    small = ["--structure-size", "tiny", "--batch-size", "8", "--device", "cpu", "--steps", "1"]
    result = cli("pretrain", "--cath", cath_dir, "--out", run, *small)
    assert "WARNING" in result.output
    assert "FROM SCRATCH" in " ".join(result.output.split())
    config = (run / "config.toml").read_text()
    assert "FROM SCRATCH" in config
    assert read_toml(run / "config.toml")["source"]["esm_init"] == "random"
    assert "FROM SCRATCH" in (run / "model" / "README.md").read_text()
    with pytest.raises(ProtclipError, match="--esm-weights"):
        cli("pretrain", "--cath", cath_dir, "--out", tmp_path / "other", *small, "--esm-init", "pretrained")


def test_config_repeats_the_run_byte_by_byte(run_folder: Path, tmp_path: Path, cli: Cli) -> None:
    cli("pretrain", "--config", run_folder / "config.toml", "--out", tmp_path / "again")
    for name in ("log.csv", "metrics.json", "model/model.safetensors", "model/README.md"):
        assert (tmp_path / "again" / name).read_bytes() == (run_folder / name).read_bytes(), name


@pytest.mark.parametrize(
    "options",
    [
        ["--objective", "cca", "--paired", "0.3"],
        ["--paired", "0", "--preset", "paper"],
        ["--tune", "lora"],
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                ["--objective", "clip"],
                ["--objective", "clip-all", "--structure-input", "geometry"],
                ["--init-heads", "cca"],
                ["--paired", "1", "--preset", "released"],
                ["--pools", "disjoint", "--no-ssl"],
                ["--no-sdd", "--no-mmd", "--micro-batch-size", "8"],
                ["--tune", "frozen"],
                ["--loss", "sdd_divergence=mse", "--loss", "mmd_weights=learned"],
                ["--valid-fraction", "0", "--test-fraction", "0"],
                ["--precision", "bf16", "--workers", "1"],
            )
        ),
    ],
    ids=" ".join,
)
def test_every_way_to_train(
    options: list[str], tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli
) -> None:
    result = cli("pretrain", "--cath", cath_dir, "--steps", 2, "--out", tmp_path / "run", *quick, *options)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
    assert "model:" in result.output


def test_vectors_take_the_sequence_side(tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli) -> None:
    ids = sorted(p.name for p in (cath_dir / "dompdb").iterdir())
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "v.h5", "w") as f:
        for id in ids[:150]:
            f[id] = rng.normal(size=24).astype(np.float32)
    run = tmp_path / "run"
    result = cli(
        "pretrain", "--cath", cath_dir, "--vectors", tmp_path / "v.h5", "--steps", 2, "--out", run, *quick
    )
    assert "18 of 168 domains have no vector" in " ".join(result.output.split())
    scored = cli(
        "evaluate", run, "--cath", cath_dir, "--vectors", tmp_path / "v.h5", "--json", "--device", "cpu"
    )
    found = json.loads(scored.stdout)
    assert found["retrieval"] == json.loads((run / "metrics.json").read_text())["retrieval"]
    with pytest.raises(ConfigError, match="trained on precomputed vectors"):
        cli("evaluate", run, "--cath", cath_dir)


def test_truly_unpaired_data_join_the_pools(
    tmp_path: Path, cath_dir: Path, quick: list[str], cli: Cli
) -> None:
    (tmp_path / "more.fasta").write_text(">a\nMKTAYIAKQRQISFVKSHFSRQ\n>b\nGAVLIMFPSTWY\n")
    folder = tmp_path / "more"
    folder.mkdir()
    for name in ("1lcdA00", "2xcjA00"):
        # Shortened, so that no held-out sequence is met again.
        lines = (cath_dir / "dompdb" / name).read_text().splitlines()
        (folder / f"{name}x.pdb").write_text("\n".join(lines[:200]))
    extra = ["--unpaired-sequences", tmp_path / "more.fasta", "--unpaired-structures", folder]
    cli(
        "pretrain", "--cath", cath_dir, "--steps", 2, "--paired", 1, "--out", tmp_path / "run", *quick, *extra
    )
    facts = read_toml(tmp_path / "run/model/config.toml")["training"]
    assert (facts["unpaired_sequences"], facts["unpaired_structures"]) == (2, 2)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (["--paired", "1.2"], ConfigError, "--paired: out of range"),
        (["--objective", "magic"], ConfigError, "objective: unknown choice"),
        (["--structure-input", "colour"], ConfigError, "--structure-input: unknown choice"),
        (["--cath", "/nonexistent"], DataError, "no such file or folder"),
        (["--paired", "0", "--objective", "clip"], ConfigError, "learns from pairs alone"),
        (["--esm-weights", "/nonexistent.pt", "--esm-init", "auto"], ProtclipError, "/nonexistent.pt"),
        (["--vectors", "/nonexistent.h5"], DataError, "/nonexistent.h5"),
        (["--device", "quantum"], ConfigError, "no such device"),
        (["--loss", "sdd_weight"], ConfigError, "not NAME=VALUE"),
        (["--loss", "sdd_wieght=1"], ConfigError, "sdd_weight"),
        (["--batch-size", "1"], ConfigError, "--batch-size"),
        (["--preset", "best"], ConfigError, "preset"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_options_are_named(
    options: list[str], kind: type[Exception], message: str, tmp_path: Path, cath_dir: Path, cli: Cli
) -> None:
    start = ["pretrain", "--cath", cath_dir, "--steps", 1, "--out", tmp_path / "run", "--esm-init", "random"]
    with pytest.raises(kind, match=message):
        cli(*start, *options)


def test_a_folder_is_not_overwritten(run_folder: Path, quick: list[str], cli: Cli) -> None:
    with pytest.raises(ConfigError, match="there is a run in this folder already"):
        cli("pretrain", "--steps", 1, "--out", run_folder, *quick)


def test_a_resumed_run_keeps_its_options(run_folder: Path, cli: Cli) -> None:
    with pytest.raises(ConfigError, match="keeps the options") as error:
        cli("pretrain", "--out", run_folder, "--resume", "--batch-size", 8)
    assert "--checkpoint-seconds, --device, --devices, --num-nodes" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed_equals_uninterrupted(
    kill: signal.Signals, tmp_path: Path, cath_dir: Path, quick: list[str], command: list[str], cli: Cli
) -> None:
    steps = 24
    options = ["--cath", str(cath_dir), "--steps", str(steps), *quick]
    cli("pretrain", *options, "--out", tmp_path / "whole")
    parts = tmp_path / "parts"
    process = subprocess.Popen(
        [*command, "pretrain", *options, "--out", str(parts)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not (parts / "state.pt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(kill)
    _, errors = process.communicate(timeout=120)
    assert not (parts / "model").exists(), "the run ended before it could be killed"
    if kill == signal.SIGINT:
        assert process.returncode == 130, errors
        assert b"everything is saved" in errors
    result = cli("info", parts)
    assert "finished: no" in result.output
    cli("pretrain", "--out", parts, "--resume")
    for name in ("log.csv", "metrics.json", "model/model.safetensors"):
        assert (parts / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_together(
    strategy: str, tmp_path: Path, cath_dir: Path, quick: list[str], command: list[str]
) -> None:
    run = tmp_path / "run"
    done = subprocess.run(
        [
            *command,
            "pretrain",
            "--cath",
            str(cath_dir),
            "--steps",
            "3",
            "--devices",
            "2",
            "--strategy",
            strategy,
            *quick,
            "--out",
            str(run),
        ],
        capture_output=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().count("median rank") == 1  # one process speaks
    assert (run / "model" / "model.safetensors").exists()


def test_a_start_that_failed_at_once_leaves_the_folder_free(tmp_path: Path, cath_dir: Path, cli: Cli) -> None:
    for _ in range(2):
        with pytest.raises(ProtclipError, match=r"none\.h5"):
            cli("pretrain", "--cath", cath_dir, "--vectors", tmp_path / "none.h5", "--out", tmp_path / "run")
