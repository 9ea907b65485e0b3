"""Matched items of any two adapters: who is paired, who is held out, who has no partner, what is a copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from protclip.config.folder_options import PairsOptions
from protclip.config.pretraining import DataConfig, PretrainConfig
from protclip.config.resolve import resolve
from protclip.errors import ConfigError, DataError
from protclip.relations.pairs import AlignmentData, HeldOut
from protclip.sources.folders import PairsSource
from protclip.training.pretrain import load_data
from protclip.typing import Silent

N = 40
WHOLE = DataConfig(paired=1.0, valid_fraction=0.0, test_fraction=0.25)


def vectors(path: Path, rows: Mapping[str, np.ndarray]) -> None:
    with h5py.File(path, "w") as file:
        for id, row in rows.items():
            file[id] = row.astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """40 pairs a0-b0, ...; a40 and b41 have no partner."""
    rng = np.random.default_rng(0)
    vectors(tmp_path / "left.h5", {f"a{i}": rng.normal(size=3) for i in range(N + 1)})
    vectors(tmp_path / "right.h5", {f"b{i}": rng.normal(size=5) for i in (*range(N), N + 1)})
    (tmp_path / "pairs.tsv").write_text("".join(f"a{i}\tb{i}\n" for i in range(N)))
    return tmp_path


def options(folder: Path, **more: Any) -> PairsOptions:
    sides = {"left": "vectors", "right": "vectors"}
    names = {"left_option": {"stands_for": "one"}, "right_option": {"stands_for": "two"}}
    return PairsOptions(**{"pairs": str(folder), **sides, **names, **more})


def setup(folder: Path, split: DataConfig = WHOLE, *, seed: int = 0, **more: Any) -> AlignmentData:
    return PairsSource(options(folder, **more)).setup(split, seed=seed)


def pools(found: AlignmentData) -> list[np.ndarray]:
    return [side.pool for side in found.sides]


def pair_ids(found: AlignmentData) -> set[tuple[int, int]]:
    """Numbers of the vectors' ids, left and right; the order of the file is that of the names."""
    left = sorted(f"a{i}" for i in range(N + 1))
    right = sorted(f"b{i}" for i in (*range(N), N + 1))
    return {(int(left[i][1:]), int(right[j][1:])) for i, j in found.pairs}


def test_every_item_is_used_once(folder: Path) -> None:
    found = setup(folder, DataConfig(paired=0.5, valid_fraction=0.2, test_fraction=0.25))
    data = found
    assert (len(data.valid), len(data.test)) == (8, 10)
    assert len(data.pairs) == 11
    assert tuple(map(len, pools(data))) == (12, 12)  # 11 and the one without partner
    used = [*data.pairs[:, 0], *pools(data)[0], *data.valid.rows[:, 0], *data.test.rows[:, 0]]
    assert sorted(used) == list(range(N + 1))
    assert all(a == b for a, b in pair_ids(found))
    assert sum(np.array_equal(pools(data)[0][:11], row) for row in (pools(data)[1][:11],)) == 0
    assert found.names == ("one", "two")


def test_halves_of_the_pool_share_no_partner(folder: Path) -> None:
    found = setup(folder, DataConfig(paired=0.2, pools="disjoint", valid_fraction=0.0, test_fraction=0.25))
    split = found.split
    left = {id[1:] for id in split["unpaired_one"]}
    right = {id[1:] for id in split["unpaired_two"]}
    assert left & right == set()
    assert len(left) == len(right) == 13


def test_the_seed_chooses_pairs_and_the_split_seed_the_test(folder: Path) -> None:
    half = DataConfig(paired=0.5)
    first, other = (setup(folder, half, seed=s) for s in (0, 1))
    assert first.test.ids == other.test.ids
    assert pair_ids(first) != pair_ids(other)
    assert first.test.ids != setup(folder, DataConfig(paired=0.5, split_seed=1)).test.ids


def test_everything_is_paired_for_the_ceiling(folder: Path) -> None:
    sides = {"left": "vectors", "right": "vectors"}
    names = {"left_option": {"stands_for": "one"}, "right_option": {"stands_for": "two"}}
    config = resolve(
        PretrainConfig,
        {
            "pairs": str(folder),
            **sides,
            **names,
            "paired": 0.1,
            "valid_fraction": 0.0,
            "objective": "clip-all",
        },
    )
    found = load_data(config, Silent())
    assert len(found.pairs) == 30
    assert found.facts["paired_fraction"] == 1.0


def test_equal_ids_match_without_a_list(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors(tmp_path / "left.h5", {f"x{i}": rng.normal(size=2) for i in range(12)})
    vectors(tmp_path / "right.h5", {f"x{i}": rng.normal(size=2) for i in range(2, 14)})
    data = setup(tmp_path, DataConfig(paired=1.0, valid_fraction=0.0, test_fraction=0.2))
    assert len(data.pairs) + len(data.test) == 10
    assert tuple(map(len, pools(data))) == (2, 2)


def test_unreadable_items_leave_their_partners_unpaired(folder: Path) -> None:
    with h5py.File(folder / "left.h5", "r+") as file:
        file["a3"][:] = np.nan
    found = setup(folder)
    assert 3 not in {b for _, b in pair_ids(found)}
    assert len(pools(found)[1]) == 2
    text = " ".join(found.notices)
    assert "1 one items left out: vector is not finite (the first is a3)" in text


def test_copies_stay_on_one_side_of_the_split(folder: Path) -> None:
    rng = np.random.default_rng(1)
    rows = {f"a{i}": rng.normal(size=3) for i in range(N + 1)}
    for i in range(0, 20, 2):
        rows[f"a{i + 1}"] = rows[f"a{i}"]
    rows["a40"] = rows["a30"]  # without partner
    vectors(folder / "left.h5", rows)
    seen_held = 0
    for seed in range(6):
        data = setup(folder, DataConfig(paired=0.5, valid_fraction=0.2, split_seed=seed))
        parts = {id: part for part in ("train", "valid", "test") for id in data.split[part]}
        assert all(parts[f"a{i}"] == parts[f"a{i + 1}"] for i in range(0, 20, 2))
        held = parts["a30"] != "train"
        seen_held += held
        assert ("a40" in data.split["unpaired_one"]) is not held
        assert "11 one items are copies of others; copies stay in one part" in data.notices
        assert data.split["copies"] == 11
    assert 0 < seen_held < 6


def test_copies_across_the_given_split_are_left_out_of_training(folder: Path) -> None:
    rng = np.random.default_rng(1)
    rows = {f"a{i}": rng.normal(size=3) for i in range(N + 1)}
    rows["a5"], rows["a6"] = rows["a30"], rows["a20"]
    vectors(folder / "left.h5", rows)
    parts = {i: "test" if i >= 30 else "dev" if i >= 20 else "train" for i in range(N)}
    (folder / "splits.tsv").write_text("".join(f"a{i}\t{part}\n" for i, part in parts.items()))
    found = setup(folder)
    assert set(found.test.ids) == {f"a{i}" for i in range(30, 40)}
    assert set(found.valid.ids) == {f"a{i}" for i in range(20, 30)}
    assert pair_ids(found) == {(i, i) for i in range(20) if i not in (5, 6)}
    assert "2 items of an earlier part are copies of held-out ones and are left out of it" in found.notices
    # Nor do they come back without their partner.
    assert {"a5", "a6"} & set(found.split["unpaired_one"]) == set()


def test_a_split_without_test_part_gets_one(folder: Path) -> None:
    (folder / "splits.tsv").write_text("".join(f"a{i}\t{'val' if i < 5 else 'train'}\n" for i in range(N)))
    found = setup(folder, DataConfig(paired=1.0, valid_fraction=0.5, test_fraction=0.2))
    assert set(found.valid.ids) == {f"a{i}" for i in range(5)}
    assert len(found.test) == 7
    assert "the split has no test part: drawn from its training part" in found.notices


def test_items_that_share_a_partner_stay_together(folder: Path) -> None:
    (folder / "pairs.tsv").write_text("".join(f"a{i}\tb{i - i % 2}\n" for i in range(N)))
    found = setup(folder, DataConfig(paired=0.5))
    data = found
    parts = {id: part for part in ("train", "valid", "test") for id in data.split[part]}
    assert all(parts[f"a{i}"] == parts[f"a{i + 1}"] for i in range(0, N, 2))
    paired = set(data.split["paired"])
    assert all((f"a{i}" in paired) == (f"a{i + 1}" in paired) for i in range(0, N, 2))
    assert len(set(data.test.rows[:, 1].tolist())) == len(data.test) == len(data.split["test"]) / 2


@pytest.mark.parametrize("choice", ["first", "random", "all"])
def test_several_partners(folder: Path, choice: str) -> None:
    rng = np.random.default_rng(2)
    vectors(folder / "right.h5", {f"b{i}.{k}": rng.normal(size=5) for i in range(N) for k in range(3)})
    lines = [f"a{i}\tb{i}.{k}\n" for i in range(N) for k in range(3)]
    (folder / "pairs.tsv").write_text("".join(lines))
    found = setup(folder, DataConfig(paired=0.4, valid_fraction=0.0, test_fraction=0.25), captions=choice)
    data = found
    times = 3 if choice == "all" else 1
    assert len(data.pairs) == 12 * times
    assert len(pools(data)[1]) == 18 * times
    assert len(pools(data)[0]) == 18 + 1
    assert len(data.test) == 10
    ids = sorted(f"b{i}.{k}" for i in range(N) for k in range(3))
    numbers = {ids[j].split(".")[1] for j in data.pairs[:, 1]}
    assert numbers == ({"0"} if choice == "first" else {"0", "1", "2"})
    if choice == "all":
        assert {ids[j].split(".")[1] for j in data.test.rows[:, 1]} == {"0"}
    assert any(notice.startswith("of several two items of one one item") for notice in data.notices)
    again = setup(folder, DataConfig(paired=0.4, valid_fraction=0.0, test_fraction=0.25), captions=choice)
    assert np.array_equal(again.pairs, data.pairs)


def evaluate(
    folder: Path, found: AlignmentData, split: str = "auto", **more: Any
) -> tuple[HeldOut, list[str]]:
    said: list[str] = []
    facts = {
        **found.facts,
        "split_seed": 0,
        "valid_fraction": WHOLE.valid_fraction,
        "test_fraction": WHOLE.test_fraction,
    }
    held = PairsSource(PairsOptions(pairs=str(folder), **more)).held_out(
        [side.modality for side in found.sides], facts, split=split, say=said.append
    )
    return held, said


def test_evaluation_finds_the_test_part_again(folder: Path) -> None:
    found = setup(folder)
    held, said = evaluate(folder, found)
    assert held.gallery.ids == found.test.ids
    assert np.array_equal(held.gallery.rows[:, 1], found.test.rows[:, 1])
    assert "scoring the 10 items of the run's own test part (--split all takes everything)" in said
    assert len(evaluate(folder, found, "all")[0].gallery) == N
    facts = {**found.facts, "split_seed": 0, "valid_fraction": 0.0, "test_fraction": 0.25}
    again = PairsSource(PairsOptions()).held_out(
        [side.modality for side in found.sides], facts, split="auto", say=said.append
    )
    assert again.gallery.ids == found.test.ids


def test_evaluation_on_other_items_takes_their_test_part_or_all(folder: Path, tmp_path: Path) -> None:
    found = setup(folder)
    with h5py.File(folder / "left.h5", "r+") as file:
        file["a3"][:] += 1
    held, said = evaluate(folder, found)
    assert len(held.gallery) == N
    assert f"these are not the items of the training: scoring all {N}" in said
    (folder / "splits.tsv").write_text("".join(f"a{i}\t{'test' if i < 7 else 'train'}\n" for i in range(N)))
    held, said = evaluate(folder, found)
    assert len(held.gallery) == 7


def test_several_folders_are_one(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    for name in ("left.h5", "right.h5", "pairs.tsv"):
        (other / name).write_bytes((folder / name).read_bytes())
    data = setup(folder, pairs=f"{folder},{other}")
    ids = data.split["train"] + data.split["test"]
    assert len(set(ids)) == 2 * N
    assert all("/" in id for id in ids)
    # Every item of the second folder is a copy of one of the first.
    names = {part: {id.split("/")[1] for id in data.split[part]} for part in ("train", "test")}
    assert names["train"] & names["test"] == set()


def test_missing_options_are_named(folder: Path) -> None:
    for name in ("pairs", "left", "right"):
        with pytest.raises(ConfigError, match=f"--{name}: missing option"):
            options(folder, **{name: ""}).validate()
    with pytest.raises(ConfigError, match=r"unknown modality; got 'spektrum', expected .*vectors"):
        setup(folder, left="spektrum")
    with pytest.raises(ConfigError, match="unknown or missing option; got dimm"):
        setup(folder, left_option={"dimm": 3})


def test_pairs_that_name_nothing(folder: Path) -> None:
    (folder / "pairs.tsv").write_text("x\ty\n")
    with pytest.raises(
        DataError, match=r"no listed pair names two readable items; got pairs such as 'x' and 'y'.*'a0'"
    ):
        setup(folder)


def test_sides_of_a_dataset_may_be_exchanged(tmp_path: Path) -> None:
    from PIL import Image

    entries = []
    for i in range(20):
        Image.fromarray(np.full((8, 8, 3), 10 * i, np.uint8)).save(tmp_path / f"{i}.png")
        entries.append({"image": f"{i}.png", "captions": [f"grey {i}", f"tone {i}"]})
    (tmp_path / "captions.json").write_text(json.dumps(entries))
    tiny = {"left_option": {"encoder": "tiny"}, "right_option": {"encoder": "tiny"}}
    found = PairsSource(PairsOptions(pairs=str(tmp_path), left="text", right="image", **tiny)).setup(WHOLE)
    assert found.names == ("text", "image")
    # Both captions of an image are items of their own here, and share their partner.
    assert len(found.pairs) == 30
    assert len(found.test) == 5
    straight = PairsSource(PairsOptions(pairs=str(tmp_path), left="image", right="text", **tiny)).setup(WHOLE)
    assert len(straight.pairs) == 15
    # Only training texts make the vocabulary.
    words = straight.sides[1].modality.tokenizer.get_vocab()  # type: ignore[attr-defined]
    assert "▁grey" in words
    assert "▁tone" not in words
