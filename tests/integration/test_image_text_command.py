"""Images and texts through the same commands: drawn sample, retrieval, zero-shot, named settings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from protclip.config.pretraining import PretrainConfig
from protclip.errors import ConfigError, WeightsError
from protclip.files import read_toml

Cli = Callable[..., Any]
TINY = [
    *("--left", "image", "--right", "text", "--left-option", "encoder=tiny", "--left-option", "size=32"),
    *("--right-option", "encoder=tiny", "--dim", "32", "--batch-size", "32", "--device", "cpu", "--no-plots"),
]
REAL = Path(os.environ.get("PROTCLIP_IMAGE_TEXT_DATA", "not set"))
"""Folder with flickr8k_64, rsscn7_64, rs_sample_96 and rs_captions: real images that cannot be shipped."""

needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="PROTCLIP_IMAGE_TEXT_DATA names no folder")


def metrics_of(output: str) -> dict[str, Any]:
    """The JSON object in what a command printed."""
    found: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
    return found


@pytest.fixture(scope="module")
def run(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the sample by its name alone."""
    folder = tmp_path_factory.mktemp("runs") / "shapes"
    cli("pretrain", "--pairs", "shapes", "--paired", "0.33", "--epochs", "3", "--out", folder, *TINY)
    return folder


def test_the_sample_trains_by_its_name(run: Path) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["retrieval"]["gallery"] == 120
    assert set(metrics["retrieval"]) >= {"image_to_text", "text_to_image"}
    config = read_toml(run / "config.toml")["source"]
    assert config["kind"] == "pairs"
    assert config["left_option"] == {"encoder": "tiny", "size": 32, "init": "random", "tune": "full"}
    model = read_toml(run / "model" / "config.toml")
    assert "▁triangle" in model["model"]["sides"][1]["tokenizer"]
    assert (model["training"]["train_items"], model["training"]["pairs"]) == (288, 95)


def test_retrieval_again_whole_and_in_blocks(run: Path, cli: Cli) -> None:
    before = json.loads((run / "metrics.json").read_text())["retrieval"]
    again = metrics_of(cli("evaluate", run, "--json").output)["retrieval"]
    for way in ("image_to_text", "text_to_image"):
        assert again[way] == pytest.approx(before[way], abs=0.02)
    blocks = metrics_of(cli("evaluate", run, "--gallery", "50", "--json").output)["retrieval"]
    assert blocks["gallery"] == 50
    assert blocks["image_to_text"]["R@10"] >= again["image_to_text"]["R@10"]


def test_zero_shot_by_the_command(run: Path, cli: Cli, tmp_path: Path) -> None:
    sample = tmp_path / "sample"
    cli("data", "sample", "shapes", sample)
    for entry in json.loads((sample / "captions.json").read_text())[:60]:
        colour = entry["captions"][0].split()[2]
        (tmp_path / "classes" / colour).mkdir(parents=True, exist_ok=True)
        shutil.copy(sample / "images" / entry["image"], tmp_path / "classes" / colour)
    (tmp_path / "classes" / "red" / "broken.png").write_text("no image")
    said = cli(
        "evaluate", run, "--zero-shot", tmp_path / "classes", "--prompt", "a large {} circle", "--json"
    ).output
    assert "1 items could not be read and are left out" in " ".join(said.split())
    found = metrics_of(said)["zero_shot"]
    assert (found["items"], found["classes"], found["failed"]) == (60, 8, 1)
    assert 0 <= found["top1"] <= found["top5"] <= 1
    table = cli("evaluate", run, "--zero-shot", tmp_path / "classes").output
    assert "chance" in table
    assert "purple" in table


def test_both_sides_embed(run: Path, cli: Cli, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "texts.txt").write_text("a red ring\na blue square\n")
    cli("embed", run, "-i", tmp_path / "a.png", "-o", tmp_path / "i.h5")
    cli("embed", run, "-i", tmp_path / "texts.txt", "-o", tmp_path / "t.h5")
    assert (tmp_path / "i.h5").exists()
    assert (tmp_path / "t.h5").exists()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(cli: Cli, tmp_path: Path) -> None:
    found = []
    for name in ("a", "b"):
        cli("align", "--pairs", "shapes", "--limit", "60", "--steps", "3", "--out", tmp_path / name, *TINY)
        found.append(json.loads((tmp_path / name / "metrics.json").read_text())["retrieval"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("name", "fraction", "epochs", "limit"),
    [("flickr8k", 0.3333, 30, 0), ("mini-coco", 0.3333, 30, 15000), ("remote-sensing", 0.1, 25, 0)],
)
def test_published_settings_by_name(
    name: str,
    fraction: float,
    epochs: int,
    limit: int,
    repository: Path,
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = PretrainConfig.load(repository / "protclip" / "config" / "published" / f"{name}.toml")
    assert (config.data.paired, config.train.epochs, config.source.limit) == (fraction, epochs, limit)  # type: ignore[attr-defined]
    monkeypatch.setenv("PROTCLIP_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(WeightsError, match="no weights of microsoft/resnet-50 on disk"):
        cli("pretrain", "--config", name, "--pairs", "shapes", "--out", tmp_path / "run")


@pytest.mark.slow
def test_a_published_setting_runs_with_small_towers(cli: Cli, tmp_path: Path) -> None:
    cli(
        *("pretrain", "--config", "flickr8k", "--pairs", "shapes", "--steps", "2", "--out", tmp_path / "run"),
        *("--left-option", "encoder=tiny", "--left-option", "init=random", "--left-option", "size=32"),
        *(
            "--right-option",
            "encoder=tiny",
            "--right-option",
            "init=random",
            "--workers",
            "0",
            "--device",
            "cpu",
        ),
    )
    config = read_toml(tmp_path / "run" / "config.toml")
    assert config["source"]["left_option"] == {
        "encoder": "tiny",
        "init": "random",
        "size": 32,
        "tune": "full",
    }
    assert config["loss"]["sdd_weight"] == 0.7


def test_align_asks_for_what_it_needs(cli: Cli) -> None:
    with pytest.raises(ConfigError, match="--right: missing option"):
        cli("align", "--pairs", "shapes", "--left", "image")


def test_options_of_two_sources_are_not_mixed(cli: Cli) -> None:
    with pytest.raises(ConfigError, match="different data sources cannot be mixed"):
        cli("pretrain", "--pairs", "shapes", "--left", "image", "--right", "text", "--cath", "x")


def test_pretrained_towers_from_folders_stay_frozen(cli: Cli, tmp_path: Path) -> None:
    import torch
    from transformers import BertConfig, BertModel, BertTokenizerFast, ResNetConfig, ResNetModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "ring", "small", "large", "blue"]
    torch.manual_seed(0)
    resnet = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]))
    resnet.save_pretrained(tmp_path / "resnet")
    bert = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    BertModel(bert).save_pretrained(tmp_path / "bert")
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "bert")
    cli(
        *("pretrain", "--pairs", "shapes", "--limit", "80", "--left", "image", "--right", "text"),
        *("--left-option", f"encoder={tmp_path / 'resnet'}", "--left-option", "size=32"),
        *("--right-option", "encoder=bert-base", "--right-option", f"weights={tmp_path / 'bert'}"),
        *("--steps", "3", "--batch-size", "16", "--device", "cpu", "--out", tmp_path / "run"),
    )
    saved = load_file(tmp_path / "run" / "model" / "model.safetensors")
    name = "embedder.embedder.convolution.weight"
    assert torch.equal(saved[f"encoders.image.net.{name}"], resnet.state_dict()[name])
    card = (tmp_path / "run" / "model" / "README.md").read_text()
    assert "tune: frozen" in card
    assert "weights SHA-256" in card


@pytest.mark.slow
def test_two_processes(cli: Cli, command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(*command, "pretrain", "--pairs", "shapes", "--limit", "80", "--steps", "3", *TINY),
            *("--devices", "2", "--out", str(tmp_path / "run")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    cli("evaluate", tmp_path / "run")


@pytest.mark.slow
def test_the_sample_is_learned_from_a_third_of_its_pairs(cli: Cli, tmp_path: Path) -> None:
    cli(
        *("pretrain", "--pairs", "shapes", "--left", "image", "--right", "text", "--paired", "0.33"),
        *("--out", tmp_path / "run", "--device", "cpu"),
    )
    retrieval = json.loads((tmp_path / "run" / "metrics.json").read_text())["retrieval"]
    assert retrieval["image_to_text"]["R@10"] > 0.8  # chance is 0.083


def remote_sensing(folder: Path) -> None:
    """RSICD, UCM and Sydney as published: the captions of all as Karpathy's JSON, and the images at hand."""
    sample = json.loads((REAL / "rs_sample_96" / "captions.json").read_text())
    for source, file, images in (
        ("rsicd", "dataset_rsicd.json", "RSICD_images"),
        ("ucm", "dataset.json", "imgs"),
        ("sydney", "dataset.json", "imgs"),
    ):
        place = folder / {"rsicd": "RSICD", "ucm": "UCM_captions", "sydney": "Sydney_captions"}[source]
        (place / images).mkdir(parents=True)
        entries = json.loads((REAL / "rs_captions" / f"{source}.json").read_text())
        content = [
            {
                "filename": e["image"],
                "split": e["split"],
                "sentences": [{"raw": text} for text in e["captions"]],
            }
            for e in entries
        ]
        (place / file).write_text(json.dumps({"images": content, "dataset": source}))
        for entry in sample:
            if entry["source"] == source:
                shutil.copy(
                    REAL / "rs_sample_96" / "images" / entry["image"], place / images / entry["original"]
                )


@needs_real
def test_real_photographs(cli: Cli, tmp_path: Path) -> None:
    cli(
        *("pretrain", "--pairs", REAL / "flickr8k_64", "--captions", "all", "--paired", "0.3333"),
        *("--steps", "2", "--out", tmp_path / "run", *TINY),
    )
    facts = read_toml(tmp_path / "run" / "model" / "config.toml")["training"]
    assert (facts["image_items"], facts["train_items"], facts["test_items"]) == (800, 480, 200)
    said = cli("evaluate", tmp_path / "run", "--zero-shot", REAL / "rsscn7_64", "--json").output
    assert metrics_of(said)["zero_shot"]["items"] == 2800


@needs_real
def test_the_union_of_real_remote_sensing_sets(tmp_path: Path) -> None:
    from protclip.data.paired.matched import find_matched

    remote_sensing(tmp_path)
    found = {matched.name: matched for matched in find_matched(str(tmp_path))}
    assert list(found) == ["RSICD", "Sydney_captions", "UCM_captions"]
    assert sum(len(matched.left) for matched in found.values()) == 29
    sizes = {"RSICD": 10921, "Sydney_captions": 613, "UCM_captions": 2100}
    for name, matched in found.items():
        missing = sizes[name] - len(matched.left)
        assert f"{missing} of {sizes[name]} listed images are missing" in matched.notices[0]
        assert set(matched.splits.values()) >= {"train", "test"}
