"""Cached features of frozen encoders: right, once, whole, and never stale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from protclip.errors import ConfigError, DataError
from protclip.inference import cache as features
from protclip.inference.cache import encoder_key, frozen_features
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.sequence.esm2 import ESM2Shape, random_esm2
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.modalities.sequence.tokens import TokenBatch
from protclip.modalities.vectors import VectorsModality

rng = np.random.default_rng(0)
ITEMS = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), n)) for n in rng.integers(5, 60, 30)]
IDS = [f"p{i}" for i in range(30)]


class Counting(SequenceModality):
    """Counts what it collates, and can be told to die."""

    seen = 0
    dies_after = 10**9
    budget = 200

    def collate(self, items: Sequence[str]) -> TokenBatch:
        """As the parent."""
        if self.seen >= self.dies_after:
            raise KeyboardInterrupt
        self.seen += len(items)
        return super().collate(items)


def side(seed: int = 0, **options: Any) -> Counting:
    return Counting(
        random_esm2(ESM2Shape(1, 16, 2), seed), Provenance("random", "custom", ""), tune="frozen", **options
    )


@torch.no_grad()
def one_by_one(modality: SequenceModality) -> Any:
    encoder = modality.encoder.eval()
    return torch.cat([encoder(modality.collate([item])) for item in ITEMS]).numpy()


def test_equals_one_by_one_in_order() -> None:
    got = frozen_features(side(), IDS, ITEMS)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, one_by_one(side()), atol=1e-5)


def test_second_call_reads_the_cache(tmp_path: Path) -> None:
    first = frozen_features(side(), IDS, ITEMS, cache=tmp_path)
    again = side()
    told: list[int] = []
    second = frozen_features(again, IDS[::-1], ITEMS[::-1], cache=tmp_path, progress=told.append)
    assert again.seen == 0
    assert sum(told) == 30
    assert np.array_equal(first, second[::-1])


def test_only_new_items_are_encoded(tmp_path: Path) -> None:
    frozen_features(side(), IDS[:20], ITEMS[:20], cache=tmp_path)
    again = side()
    got = frozen_features(again, IDS, ITEMS, cache=tmp_path)
    assert again.seen == 10
    np.testing.assert_allclose(got, one_by_one(side()), atol=1e-5)


def test_equal_items_are_encoded_once() -> None:
    modality = side()
    told: list[int] = []
    got = frozen_features(modality, IDS, ["MKT", "mkt", "GG"] * 10, progress=told.append)
    assert modality.seen == 2
    assert sum(told) == 30
    assert np.array_equal(got[0], got[1])
    assert np.array_equal(got[2], got[29])


@pytest.mark.parametrize(
    "other",
    [side(seed=1), side(max_length=20), side(lora_rank=4)],
    ids=["weights", "window", "options"],
)
def test_changes_of_the_encoder_miss_the_cache(other: Counting, tmp_path: Path) -> None:
    frozen_features(side(), IDS, ITEMS, cache=tmp_path)
    frozen_features(other, IDS, ITEMS, cache=tmp_path)
    assert other.seen == 30


def test_precision_is_part_of_the_key(tmp_path: Path) -> None:
    exact = frozen_features(side(), IDS, ITEMS, cache=tmp_path)
    rough = frozen_features(side(), IDS, ITEMS, cache=tmp_path, precision="bf16")
    assert 0 < np.abs(exact - rough).max() < 0.1
    assert encoder_key(side(), True) != encoder_key(side(), False)


def test_goes_on_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SAVE_SECONDS", 0.0)
    broken = side()
    broken.dies_after = 12
    with pytest.raises(KeyboardInterrupt):
        frozen_features(broken, IDS, ITEMS, cache=tmp_path)
    again = side()
    got = frozen_features(again, IDS, ITEMS, cache=tmp_path)
    assert again.seen == 30 - broken.seen
    np.testing.assert_allclose(got, one_by_one(side()), atol=1e-5)


@pytest.mark.parametrize("damage", ["cut", "flip", "rubbish", "empty"])
def test_damaged_parts_are_computed_again(damage: str, tmp_path: Path) -> None:
    expected = frozen_features(side(), IDS, ITEMS, cache=tmp_path)
    (part,) = tmp_path.rglob("part-*.h5")
    raw = bytearray(part.read_bytes())
    place = bytes(raw).index(expected[7].tobytes())
    raw[place] ^= 255
    part.write_bytes(
        {"cut": part.read_bytes()[:700], "flip": bytes(raw), "rubbish": b"no HDF5", "empty": b""}[damage]
    )
    again = side()
    assert np.array_equal(frozen_features(again, IDS, ITEMS, cache=tmp_path), expected)
    assert again.seen == 30
    final = side()
    frozen_features(final, IDS, ITEMS, cache=tmp_path)
    assert final.seen == 0


def test_encoders_without_weights_are_not_cached(tmp_path: Path) -> None:
    items = [np.array([i, 1.0], np.float32) for i in range(3)]
    got = frozen_features(VectorsModality(2), ["a", "b", "c"], items, cache=tmp_path)
    assert np.array_equal(got, np.stack(items))
    assert not list(tmp_path.iterdir())


def test_nothing_in_nothing_out() -> None:
    assert frozen_features(side(), [], []).shape == (0, 16)


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="ids and items differ in number; got 1 ids, expected 30"):
        frozen_features(side(), ["a"], ITEMS)
    with pytest.raises(ConfigError, match="--precision: unknown choice; got 'int8'"):
        frozen_features(side(), IDS, ITEMS, precision="int8")
    wrecked = side()
    with torch.no_grad():
        wrecked.encoder.net.emb_layer_norm_after.weight.fill_(float("nan"))
    with pytest.raises(DataError, match=r"p\d+: the encoder's features are not finite"):
        frozen_features(wrecked, IDS, ITEMS)
