"""``protclip finetune TASK`` on a fresh machine: which data and model it takes, and what it says of them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from protclip.cli.app import app
from protclip.data.benchmarks.addresses import SOURCES, find_source
from protclip.data.benchmarks.build_benchmark import Benchmark, default_path, sample_benchmark
from protclip.data.benchmarks.reach import ask
from protclip.errors import ConfigError, DataError, DownloadError
from protclip.files import read_toml
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.find_benchmark import choose_data
from protclip.tasks.find_parent import choose_model
from protclip.tasks.finetune import finetune

WORDS = "demonstration, no benchmark"
NOWHERE = "http://127.0.0.1:9"  # nothing listens there: a machine without network
SMALL = (
    "--towers", "sequence", "--sequence-encoder", "scratch", "--esm-init", "random",
    "--mode", "probe", "--epochs", "2", "--device", "cpu",
)  # fmt: skip


def invoke(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def from_base(monkeypatch: pytest.MonkeyPatch, base: str) -> None:
    """All benchmarks come from one address, a single time."""
    for key, source in SOURCES.items():
        moved = dataclasses.replace(
            source, list_bases=source.list_bases and (base,), archive_bases=source.archive_bases and (base,)
        )
        monkeypatch.setitem(SOURCES, key, moved)


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, an empty cache and no network."""
    monkeypatch.setenv("PROTCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("PROTCLIP_OFFLINE", raising=False)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    from_base(monkeypatch, NOWHERE)
    return work


def assert_says_so(result: Result, out: Path, reason: str = "") -> None:
    """The words, and the reason, in every place where somebody may meet the numbers."""
    lines = result.stdout.rstrip("\n").split("\n")
    metrics = json.loads((out / "metrics.json").read_text())
    folder = out if (out / "per_class.tsv").exists() else out / "seed-0"
    places = {
        "first line": lines[0],
        "last line": lines[-1],
        "metrics.json": metrics["benchmark"]["note"],
        "per_class.tsv": (folder / "per_class.tsv").read_text().split("\n")[0],
        "card": (out / "head" / "README.md").read_text().split("## Towers")[0],
    }
    assert metrics["benchmark"]["demonstration"] is True
    for place, text in places.items():
        assert WORDS in text, place
        assert reason in text, place
    assert any(WORDS in line for line in metrics["comparison"])


@pytest.mark.parametrize("task", ["go-bp", "fold"])
def test_without_network_it_is_the_demonstration_and_says_so_everywhere(task: str, fresh: Path) -> None:
    result = invoke("finetune", task, *SMALL, "--out", "run")
    assert_says_so(result, fresh / "run", "no network: no connection to 127.0.0.1:9")
    assert f"protclip data download {task.split('-')[0]}" in result.stdout
    saved = read_toml(fresh / "run" / "config.toml")
    assert (saved["data"], saved["model"]) == ("sample", "")
    assert saved["fallback"] == "no network: no connection to 127.0.0.1:9"
    (fresh / "in.fasta").write_text(">a\nMKTAYIAKQR\n")
    predicted = invoke("predict", "run/head", "-i", "in.fasta", "-o", "o.tsv", "--device", "cpu")
    assert WORDS in predicted.output
    assert WORDS in (fresh / "o.tsv").read_text().split("\n")[0]


def test_a_repeated_and_a_resumed_run_keep_data_and_reason(
    fresh: Path, server: Any, ec: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = invoke("finetune", "ec", *SMALL, "--out", "a")
    from_base(monkeypatch, server.base)  # the network is back; that changes no run that has begun
    for arguments in (("--resume", "--out", "a"), ("--config", "a/config.toml", "--out", "b")):
        result = invoke("finetune", *arguments)
        assert_says_so(result, fresh / arguments[-1], "no network")
    again = invoke("finetune", "ec", *SMALL, "--data", "auto", "--model", "none", "--out", "a", "--resume")
    assert first.stdout.split("\n")[0] == again.stdout.split("\n")[0]
    with pytest.warns(UserWarning, match=WORDS):
        assert finetune("ec", "a", resume=True, device="cpu")["benchmark"]["demonstration"] is True
    assert server.asked == {}
    # Asked for by name it is no fallback any more.
    invoke("finetune", "--config", "a/config.toml", "--data", "sample", "--out", "c")
    assert "fallback" not in read_toml(fresh / "c" / "config.toml")


@pytest.mark.parametrize(("way", "seeds"), [("auto", 2), ("sample", 1), ("file", 1)])
def test_the_demonstration_is_never_shown_as_the_benchmark(way: str, seeds: int, fresh: Path) -> None:
    data = way
    if way == "file":
        data = str(shutil.copy(sample_benchmark("ec"), fresh / "my-benchmark.h5"))
    result = invoke("finetune", "ec", "--data", data, *SMALL, "--seeds", seeds, "--out", "run")
    assert_says_so(result, fresh / "run")
    assert ("fallback" in read_toml(fresh / "run" / "config.toml")) == (way == "auto")


def test_the_benchmark_is_announced_fetched_and_built(
    fresh: Path, ec: bytes, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_base(monkeypatch, server.base)
    result = invoke("finetune", "ec", *SMALL, "--out", "run")
    told = " ".join(result.stderr.split())
    assert f"EnzymeCommission.zip from {server.base}" in told
    assert f"size: {len(ec) / 1e6:.1f} MB" in told
    assert "licence: archives of torchdrug" in told
    assert WORDS not in result.output
    saved = read_toml(fresh / "run" / "config.toml")
    assert (saved["data"], "fallback" in saved) == ("benchmark", False)
    assert json.loads((fresh / "run" / "metrics.json").read_text())["benchmark"]["demonstration"] is False
    with Benchmark.open(default_path("ec")) as built:
        assert len(built) == 4
    # From now on it is there, and nobody is asked.
    asked = dict(server.asked)
    server.files.clear()
    invoke("finetune", "ec", *SMALL, "--out", "again")
    invoke("finetune", "ec", *SMALL, "--data", "benchmark", "--out", "named")
    assert server.asked == asked


def test_an_interrupted_download_is_continued(
    fresh: Path, ec: bytes, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Long enough for pieces to arrive; what stands before an archive belongs to no file in it.
    body = bytes(400_000) + ec
    server.files["EnzymeCommission.zip"] = body
    source = dataclasses.replace(find_source("ec"), md5=hashlib.md5(body).hexdigest())
    monkeypatch.setitem(SOURCES, ("ec", "torchdrug"), source)
    from_base(monkeypatch, server.base)
    server.faults["EnzymeCommission.zip"] = ["cut", "403"]
    result = invoke("finetune", "ec", *SMALL, "--out", "a")
    assert_says_so(result, fresh / "a", "HTTP 403 Forbidden")
    partial = fresh.parent / "cache" / "downloads" / "ec" / "EnzymeCommission.zip.partial"
    arrived = partial.stat().st_size
    assert 0 < arrived <= len(body) // 2
    server.ranges.clear()
    invoke("finetune", "ec", *SMALL, "--out", "b")
    assert server.ranges == [f"bytes={arrived}-"]
    assert read_toml(fresh / "b" / "config.toml")["data"] == "benchmark"


def test_a_build_that_was_interrupted_needs_no_network(
    ec: bytes, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_base(monkeypatch, server.base)

    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("protclip.tasks.find_benchmark.build_benchmark", interrupted)
        with pytest.raises(KeyboardInterrupt):
            choose_data("ec")
    from_base(monkeypatch, NOWHERE)
    assert choose_data("ec") == ("benchmark", None)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("gone", "HTTP 404 Not Found"), ("corrupt", "wrong md5"), ("offline", "PROTCLIP_OFFLINE")],
)
def test_the_reason_is_named(
    fault: str, reason: str, ec: bytes, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_base(monkeypatch, server.base)
    if fault == "gone":
        server.files.clear()
    elif fault == "offline":
        monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    server.faults["EnzymeCommission.zip"] = [fault] * 3
    data, why = choose_data("ec")
    assert data == "sample"
    assert why is not None
    assert reason in why


def test_lists_without_structures_are_no_download(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path("../cache/downloads/ec")
    (folder / "lists").mkdir(parents=True)
    (folder / "SOURCE.json").write_text("{}")
    assert choose_data("ec").data == "sample"


def test_asking_a_silent_server_ends_in_time(serve: Any) -> None:
    released = threading.Event()
    base = serve(lambda request: released.wait(20), released)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"no network: no answer in time from 127\.0\.0\.1"):
        ask([f"{base}/a", f"{base}/b"], seconds=0.3)
    assert time.monotonic() - began < 10  # and not the 20 s of the server


def test_a_folder_with_another_run_is_refused_before_anything_is_fetched(
    fresh: Path, ec: bytes, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_base(monkeypatch, server.base)
    (fresh / "run").mkdir()
    for name in ("config.toml", "log.csv"):
        (fresh / "run" / name).touch()
    with pytest.raises(ConfigError, match="there is a run in this folder already"):
        invoke("finetune", "ec", "--out", "run")
    assert server.asked == {}


def test_absence_is_an_error_where_the_benchmark_is_asked_for(fresh: Path) -> None:
    with pytest.raises(DataError, match=r"not on disk.*protclip data download go.*protclip data build go-bp"):
        invoke("finetune", "go-bp", "--data", "benchmark", "--out", "run")
    with pytest.raises(DataError, match="no such file"):
        invoke("finetune", "ec", "--data", "no.h5", "--out", "run")
    assert not (fresh / "run").exists()


def test_old_configurations_mean_what_they_meant(fresh: Path) -> None:
    pretrained(fresh / "runs" / "stray")
    invoke("finetune", "ec", *SMALL, "--data", "sample", "--out", "a")
    old = (fresh / "a" / "config.toml").read_text().replace('data = "sample"', 'data = ""')
    (fresh / "old.toml").write_text(old)
    assert 'model = ""' in old
    settings = FinetuneConfig.load(fresh / "old.toml")
    assert (settings.data, settings.model) == ("auto", "")
    assert (FinetuneConfig().model, FinetuneConfig(model="none").model) == ("", "")
    result = invoke("finetune", "--config", "old.toml", "--out", "b")
    assert_says_so(result, fresh / "b", "no network")
    assert read_toml(fresh / "b" / "config.toml")["model"] == ""  # the stray run is not picked up
    # A run that has begun goes on with the built benchmark, or not at all.
    (fresh / "a" / "config.toml").write_text(old)
    with pytest.raises(DataError, match="not on disk"):
        invoke("finetune", "--resume", "--out", "a")


def pretrained(folder: Path, *sides: dict[str, Any]) -> Path:
    """A finished run, as far as its towers are told."""
    from protclip.files import write_toml

    told = sides or ({"modality": "structure"}, {"modality": "sequence"})
    write_toml(folder / "model" / "config.toml", {"model": {"sides": list(told)}})
    (folder / "model" / "model.safetensors").write_bytes(b"")
    return folder


VECTORS = {"modality": "vectors", "stands_for": "sequence", "dim": 6}


@pytest.mark.parametrize(
    ("sides", "options", "why"),
    [
        ((), {}, ""),
        ((), {"towers": "both"}, ""),
        (({"modality": "structure"}, VECTORS), {}, ""),
        (({"modality": "structure"}, VECTORS), {"towers": "both"}, "takes precomputed vectors"),
        (
            ({"modality": "structure"}, VECTORS),
            {"towers": "both", "vectors": "v.h5"},
            "--vectors has 5",
        ),
        (({"modality": "image"}, {"modality": "text"}), {}, "no structure tower, only image and text"),
        ((), {"structure_size": "tiny"}, "--structure-size asks for towers from scratch"),
    ],
)
def test_the_newest_run_is_taken_where_it_fits(
    sides: tuple[dict[str, Any], ...], options: dict[str, Any], why: str, fresh: Path
) -> None:
    import h5py

    with h5py.File("v.h5", "w") as file:
        file["ids"], file["embeddings"] = ["a"], np.ones((1, 5), np.float32)
    run = pretrained(fresh / "runs" / "newest", *sides)
    said: list[str] = []
    found = choose_model(FinetuneConfig(model="auto", **options), say=said.append)
    assert found == ("" if why else str(run))
    assert "runs/newest" in said[0]
    assert why in said[0]


def test_models_named_otherwise_are_left_alone(fresh: Path) -> None:
    said: list[str] = []
    assert choose_model(FinetuneConfig(model="auto"), say=said.append) == ""
    assert said == ["no finished run in runs/: towers start from scratch"]
    pretrained(fresh / "runs" / "newest")
    for model in ("", "none", "some/path"):
        assert choose_model(FinetuneConfig(model=model)) == ("" if model == "none" else model)


def test_finetune_starts_from_the_newest_run(fresh: Path) -> None:
    import torch

    from protclip.modalities.sequence.adapter import SequenceModality
    from protclip.modalities.structure import StructureModality
    from protclip.model.two_tower import TwoTower
    from protclip.structure.encoders.encoder import CDConvConfig

    torch.manual_seed(0)
    towers = (
        StructureModality(CDConvConfig.sized("tiny")),
        SequenceModality.create("scratch", init="random", tune="full"),
    )
    TwoTower(*towers, dim=8).save(fresh / "runs" / "first" / "model", facts={}, card="x")
    probe = (
        "--towers",
        "sequence",
        "--mode",
        "probe",
        "--epochs",
        "1",
        "--device",
        "cpu",
        "--data",
        "sample",
    )
    result = invoke("finetune", "ec", *probe, "--out", "a")
    assert "the newest finished run is runs/first" in " ".join(result.stderr.split())
    assert read_toml(fresh / "a" / "config.toml")["model"] == str(fresh / "runs" / "first")
    parent = json.loads((fresh / "a" / "metrics.json").read_text())["parent"]
    assert Path(parent["path"]) == fresh / "runs" / "first" / "model"
    # Resumed and repeated runs keep it, whatever was trained since; Python takes none by itself.
    TwoTower(*towers, dim=8).save(fresh / "runs" / "second" / "model", facts={}, card="x")
    for arguments in (("--resume", "--out", "a"), ("--config", "a/config.toml", "--out", "b")):
        invoke("finetune", *arguments)
        assert read_toml(fresh / arguments[-1] / "config.toml")["model"].endswith("first")
    options = {"towers": "sequence", "mode": "probe", "epochs": 1, "device": "cpu", "data": "sample"}
    scratch = {"sequence_encoder": "scratch", "esm_init": "random"}
    assert finetune("ec", fresh / "c", **options, **scratch)["parent"] == {}


def test_processes_that_disagree_do_not_train(monkeypatch: pytest.MonkeyPatch, run_task: Any) -> None:
    def disagreeing(config: FinetuneConfig) -> list[FinetuneConfig]:
        return [config, dataclasses.replace(config, data="sample")]

    monkeypatch.setattr("protclip.tasks.finetune.gather_objects", disagreeing)
    with pytest.raises(ConfigError, match="found different data"):
        run_task("ec")


@pytest.mark.parametrize("key", sorted(SOURCES))
def test_every_source_is_announced_with_its_facts(key: tuple[str, str]) -> None:
    source = SOURCES[key]
    text = source.announce()
    assert "licence: " + source.licence in text
    assert source.licence
    assert f"size: {'unknown' if source.size is None else source.size / 1e6}" in text
    for base in (source.list_bases[:1], source.archive_bases[:1]):
        assert "".join(base) in text
