"""Linear heads in closed form: after pretraining, and for a saved model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import protclip
from protclip.alignment import TransportAlignment
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.errors import ConfigError
from protclip.inference.encode import encode
from protclip.modalities.vectors import VectorsModality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Side
from protclip.scoring.galleries import Gallery
from protclip.training.pretrain import pretrain
from protclip.training.refit import refit_heads
from protclip.training.refit_model import _other_split, refit_model

N = 160


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, 5))
    views = (z @ rng.normal(size=(5, d)) + 0.5 * rng.normal(size=(N, d)) for d in (14, 9))
    left, right = views
    return left.astype(np.float32), right.astype(np.float32)


def make_data(valid: int = 40, pairs: int = 20) -> AlignmentData:
    """Sides with the vectors themselves as features of the towers."""
    place = np.arange(N)

    def gallery(index: np.ndarray) -> Gallery:
        return Gallery([str(i) for i in index], np.stack([index, index], 1))

    sides = [
        Side(VectorsModality(own.shape[1], stands_for=name), list(own), place[pairs:80])
        for name, own in zip(("image", "text"), rows(), strict=True)
    ]
    return AlignmentData(
        (sides[0], sides[1]),
        np.stack([place[:pairs]] * 2, 1),
        gallery(place[80 : 80 + valid]),
        gallery(place[120:]),
    )


def with_features(data: AlignmentData, *changed: torch.Tensor) -> AlignmentData:
    found = dict(zip(data.names, changed or features(), strict=True))
    return data.with_features(lambda side: found[side.name])


def model_of(data: AlignmentData) -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(*(side.modality for side in data.sides), dim=8).eval()


def features() -> tuple[torch.Tensor, torch.Tensor]:
    left, right = rows()
    return torch.from_numpy(left), torch.from_numpy(right)


@pytest.mark.parametrize("method", ["cca", "transport"])
def test_heads_are_the_maps_of_the_alignment(method: str) -> None:
    """The model's own projection gives what the alignment with the chosen settings gives."""
    data = make_data()
    model = model_of(data)
    found = refit_heads(model, with_features(data), method=method)
    names = ("dim", "ridge", "power", "weight", "plan", "rounds")
    settings = {name: found.facts[name] for name in names if name in found.facts}
    left, right = rows()
    same = TransportAlignment(method=method, **settings).fit(left[:80], right[:80], data.pairs)
    for name, features_, expected in (
        ("image", features()[0], same.transform_left(left)),
        ("text", features()[1], same.transform_right(right)),
    ):
        mine = found.model.project(name, features_).detach().numpy()
        np.testing.assert_allclose(mine[:, : expected.shape[1]], expected, atol=1e-4)
        np.testing.assert_allclose(mine[:, expected.shape[1] :], 0, atol=1e-6)
    assert found.facts["chosen_by"] == "40 validation items"
    assert found.facts["pairs"] == 20
    assert found.model.head_kind == "linear"
    assert model.head_kind == "mlp"


def test_test_items_and_their_matching_decide_nothing() -> None:
    data = make_data()
    left, right = features()
    other = left.clone()
    other[120:] = torch.randn(40, 14, generator=torch.Generator().manual_seed(1))
    one, two = (
        refit_heads(model_of(data), with_features(data, x, right), method="cca") for x in (left, other)
    )
    assert one.facts == two.facts
    for key, value in one.model.state_dict().items():
        torch.testing.assert_close(value, two.model.state_dict()[key])


def test_pairs_choose_where_nothing_is_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "protclip.alignment.cross_validation.GRID", {"ridge": (1.0, 9.0), "dim": (4,), "weight": (1.0,)}
    )
    data = make_data(valid=0)
    found = refit_heads(model_of(data), with_features(data), method="transport")
    assert found.facts["chosen_by"] == "cross-validation of the pairs"
    assert found.facts["ridge"] in (1.0, 9.0)
    few = make_data(valid=0, pairs=3)
    assert "defaults" in refit_heads(model_of(few), with_features(few), method="cca").facts["chosen_by"]
    with pytest.raises(ConfigError, match="learns from pairs"):
        refit_heads(model_of(few), with_features(make_data(pairs=1)), method="cca")
    with pytest.raises(ConfigError, match="unknown"):
        refit_heads(model_of(few), with_features(few), method="magic")


def test_pretraining_keeps_the_refitted_model_and_both_scores(tmp_path: Path) -> None:
    options: dict[str, Any] = {"objective": "clip", "steps": 4, "batch_size": 8, "device": "cpu", "dim": 8}
    plain = pretrain(tmp_path / "plain", data=make_data(), refit="none", **options)
    kept = pretrain(tmp_path / "refit", data=make_data(), refit="cca", **options)
    assert plain is not None
    assert kept is not None
    metrics = json.loads((tmp_path / "refit" / "metrics.json").read_text())
    assert metrics["before_refit"]["retrieval"] == plain.metrics["retrieval"]
    assert metrics["retrieval"] == kept.metrics["retrieval"] != plain.metrics["retrieval"]
    assert metrics["refit"]["method"] == "cca"
    model = protclip.load(tmp_path / "refit", "cpu")
    assert model.facts["refit"]["method"] == "cca"
    left = model.embed("image", rows()[0][120:]).vectors
    np.testing.assert_allclose(left, kept.vectors[0], atol=1e-5)
    assert "## Refit" in (tmp_path / "refit" / "model" / "README.md").read_text()


def test_a_saved_model_is_refitted_into_a_folder_of_its_own(tmp_path: Path) -> None:
    options: dict[str, Any] = {"objective": "clip", "steps": 4, "batch_size": 8, "device": "cpu", "dim": 8}
    pretrain(tmp_path / "run", data=make_data(), refit="none", **options)
    before = (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
    said: list[str] = []
    report = refit_model(
        tmp_path / "run",
        resolve(PretrainConfig, {}),
        tmp_path / "new",
        method="cca",
        data=make_data(),
        say=said.append,
    )
    assert (tmp_path / "run" / "model" / "model.safetensors").read_bytes() == before
    assert not any("WARNING" in text for text in said)
    parent = protclip.load(tmp_path / "run", "cpu")
    child = protclip.load(tmp_path / "new", "cpu")
    assert report.facts["parent_fingerprint"] == child.facts["refit"]["parent_fingerprint"]
    assert child.fingerprint != parent.fingerprint
    metrics = json.loads((tmp_path / "new" / "metrics.json").read_text())
    assert metrics["before_refit"] == report.before
    assert report.after is not None
    left, right = (
        child.embed(name, r[120:]).vectors for name, r in zip(("image", "text"), rows(), strict=True)
    )
    hits = float(((left @ right.T).argmax(1) == np.arange(40)).mean())
    assert hits == pytest.approx(report.after["retrieval"]["image_to_text"]["R@1"])
    with pytest.raises(ConfigError, match="something is there already"):
        refit_model(tmp_path / "run", PretrainConfig(), tmp_path / "new", data=make_data())
    refit_model(
        tmp_path / "run",
        resolve(PretrainConfig, {"split_seed": 7}),
        tmp_path / "other",
        method="cca",
        data=make_data(),
        say=said.append,
    )
    assert any("WARNING: not the split" in text for text in said)


def test_the_towers_of_a_saved_model_compute_in_the_precision_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(tmp_path / "run", data=make_data(), refit="none", steps=1, device="cpu", dim=8)
    used: list[str] = []

    def spy(*args: Any, precision: str = "auto", **options: Any) -> np.ndarray:
        used.append(precision)
        return encode(*args, precision=precision, **options)

    monkeypatch.setattr("protclip.training.refit_model.encode", spy)
    config = resolve(PretrainConfig, {"precision": "bf16"})
    refit_model(tmp_path / "run", config, tmp_path / "new", method="cca", data=make_data())
    assert used == ["bf16", "bf16"]


def test_auto_changes_heads_only_where_validation_is_clearly_better(tmp_path: Path) -> None:
    data = make_data()
    untrained = model_of(data)
    said: list[str] = []
    found = refit_heads(untrained, with_features(data), method="auto", say=said.append)
    assert found.facts["method"] in ("cca", "transport")
    assert found.model is not untrained
    # A second time there is nothing to gain: the heads are the best of the same settings already.
    again = refit_heads(found.model, with_features(data), method="auto", say=said.append)
    assert again.model is found.model
    assert again.facts["method"] == "none"
    assert "standard error" in again.facts["reason"]
    assert "stay as trained" in said[-1]
    few = make_data(pairs=3)
    assert refit_heads(untrained, with_features(few), method="auto").model is untrained

    options: dict[str, Any] = {"objective": "clip", "steps": 0, "device": "cpu", "dim": 8}
    plain = pretrain(tmp_path / "plain", data=make_data(), refit="none", **options)
    auto = pretrain(tmp_path / "auto", data=make_data(), **options)
    assert plain is not None
    assert auto is not None
    metrics = json.loads((tmp_path / "auto" / "metrics.json").read_text())
    assert metrics["before_refit"]["retrieval"] == plain.metrics["retrieval"]
    assert metrics["refit"]["method"] in ("cca", "transport")


def test_a_parent_of_the_time_before_copies_were_kept_together_is_warned_of() -> None:
    facts = {"corpus_fingerprint": "x"}
    assert _other_split(facts, PretrainConfig(), facts) == []
    (text,) = _other_split(facts, PretrainConfig(), {**facts, "domains_with_equal_sequences": 21})
    assert "not the split that the parent was trained with (copies kept in one part)" in text
