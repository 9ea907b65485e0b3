"""Keywords of a batch's pairs: their prompts, who has which, and their way through the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from protclip.config.presets import loss_preset
from protclip.training.batches import StepDataset

Make = Callable[..., Any]


def word(side: Any) -> type[Any]:
    """The toy modality with a keyword for each coordinate in which an item is large."""

    class Worded(type(side)):  # type: ignore[misc]
        has_keywords = True

        def keywords(self, item: np.ndarray) -> list[str]:
            return [f"axis {i}" for i in np.flatnonzero(np.abs(item) > 3)]

        def keyword_item(self, word: str) -> np.ndarray:
            item = np.zeros(10, np.float32)
            item[int(word.split()[1])] = 5
            return item

    return Worded


def with_keywords(loop: Any) -> Any:
    side = loop.batches.sides[1]
    side.modality.__class__ = word(side.modality)
    loop.batches.keywords = True
    return loop


def shared(dataset: StepDataset, rank: int, world: int) -> StepDataset:
    return StepDataset(
        dataset.sampler,
        dataset.sides,
        views=False,
        micro_batch_size=3,
        keywords=True,
        rank=rank,
        world_size=world,
    )


@pytest.mark.parametrize("world", [1, 2, 3])
def test_candidates_are_those_of_the_gathered_pairs(make_toy: Make, world: int) -> None:
    dataset = with_keywords(make_toy().loop()).batches
    parts = [shared(dataset, rank, world)[4] for rank in range(world)]
    side = dataset.sides[1]
    pairs = [int(i) for part in parts for i in part.items["right"][: part.n_pairs]]
    keywords = [s for part in parts for s in part.streams if s.kind == "keywords"]
    assert {stream.name for stream in keywords} == {"right"}
    prompts = torch.cat([chunk.rows for stream in keywords for chunk in stream.chunks])
    words = [f"axis {int(row.argmax())}" for row in prompts]
    assert len(set(words)) == len(words) > 3
    for part in parts:
        assert set(part.candidates) == {"right"}
        assert part.candidates["right"].shape == (len(pairs), len(words))
        for item, has in zip(pairs, part.candidates["right"], strict=True):
            assert {w for w, h in zip(words, has, strict=True) if h} == set(
                side.modality.keywords(side.items[item])
            )


def test_a_batch_whose_pairs_have_no_keywords(make_toy: Make) -> None:
    loop = with_keywords(make_toy().loop(loss=loss_preset(objective="s-clip")))
    for row in loop.batches.sides[1].items:
        row /= 100
    batch = loop.batches[0]
    assert {stream.kind for stream in batch.streams} == {"items", "view"}
    assert batch.candidates["right"].shape == (12, 0)
    assert loop._step(0, batch)["keywords"] == 0.0


@pytest.mark.parametrize("micro", [None, 5])
def test_keywords_train_in_whole_and_in_chunks(make_toy: Make, tmp_path: Any, micro: int | None) -> None:
    loss = loss_preset(objective="s-clip", keyword_weight=1.0)
    loop = with_keywords(make_toy(norm=False).loop(steps=40, loss=loss, micro_batch_size=micro, head_lr=1e-2))
    first = loop._step(0, loop.batches[0])["keywords"]
    assert first > 0.5
    assert loop.run(resume=False).losses["keywords"] < 0.7 * first


def test_items_name_the_rows(make_toy: Make) -> None:
    toy = make_toy()
    batch = toy.loop().batches[3]
    plain = [stream for stream in batch.streams if stream.kind == "items"]
    for stream, side in zip(plain, toy.data.sides, strict=True):
        rows = np.stack([side.items[int(i)] for i in batch.items[side.name]])
        np.testing.assert_array_equal(stream.chunks[0].rows.numpy(), rows)
