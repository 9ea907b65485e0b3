"""Equal items among those of training: found once, and known to every process in each batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protclip.relations.pairs import Side
from protclip.training.batches import StepDataset
from protclip.training.equal_items import equal_groups
from protclip.training.sampler import PairedUnpairedSampler


def _sides(toy: Any) -> list[Side]:
    """Items 3 and 9 of both sides are copies of item 0; item 40 of the left, in the pool, of item 5."""
    sides = []
    for side in toy.data.sides:
        items = list(side.items)
        items[3], items[9] = items[0].copy(), items[0].copy()
        if side.name == "left":
            items[40] = items[5].copy()
        sides.append(dataclasses.replace(side, items=items))
    return sides


def test_groups_are_those_of_equal_items(
    make_toy: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = _sides(make_toy())
    monkeypatch.setattr("protclip.training.equal_items.READ_AT_ONCE", 7)
    expected = np.arange(100)
    expected[[3, 9]] = 0
    found = equal_groups(right, np.arange(60)[::-1])
    assert found is not None
    assert found.tolist() == expected.tolist()
    expected[40] = 5
    found = equal_groups(left, np.concatenate([np.arange(60), [3, 3]]))
    assert found is not None
    assert found.tolist() == expected.tolist()
    # Items that are not trained on are not read.
    assert equal_groups(left, np.array([1, 2, 3, 5])) is None
    left.items[2] = object()
    assert equal_groups(left, np.arange(60)) is None


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_process_knows_the_copies_in_the_order_of_the_gathered_rows(
    make_toy: Callable[..., Any], world: int
) -> None:
    toy = make_toy()
    sides = _sides(toy)
    sampler = PairedUnpairedSampler(toy.data.pairs, [side.pool for side in sides], batch_size=16, seed=1)
    groups = [equal_groups(side, np.arange(60)) for side in sides]
    datasets = [
        StepDataset(
            sampler, sides, views=False, micro_batch_size=None, groups=groups, rank=rank, world_size=world
        )
        for rank in range(world)
    ]
    seen = 0
    for step in range(12):
        batches = [dataset[step] for dataset in datasets]
        gathered = []
        for side in sides:
            own = [batch.items[side.name].tolist() for batch in batches]
            matched = [i for rows, batch in zip(own, batches, strict=True) for i in rows[: batch.n_pairs]]
            rest = [i for rows, batch in zip(own, batches, strict=True) for i in rows[batch.n_pairs :]]
            gathered.append([side.items[i].tobytes() for i in (*matched, *rest)])
        if all(len(set(rows)) == len(rows) for rows in gathered):
            assert all(batch.copies is None for batch in batches)
            continue
        seen += 1
        for batch in batches:
            assert batch.copies is not None
            for numbers, rows in zip(batch.copies, gathered, strict=True):
                equal = [[a == b for a in rows] for b in rows]
                assert (numbers[:, None] == numbers[None, :]).tolist() == equal
    assert 0 < seen < 12


def test_an_item_in_two_pairs_of_a_batch_is_a_copy_of_itself(make_toy: Callable[..., Any]) -> None:
    toy = make_toy()
    pairs = np.array([[0, 0], [0, 1], [2, 2]])
    sampler = PairedUnpairedSampler(pairs, [side.pool for side in toy.data.sides], batch_size=4, seed=1)
    copies = StepDataset(sampler, toy.data.sides, views=False, micro_batch_size=None)[0].copies
    assert copies is not None
    assert sorted(copies.u[:3].tolist()) == [0, 0, 2]
    assert sorted(copies.v[:3].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("size", [None, 4])
def test_the_loop_hands_them_on_whole_and_in_chunks(
    make_toy: Callable[..., Any], tmp_path: Path, size: int | None
) -> None:
    toy = make_toy()
    toy.data = dataclasses.replace(toy.data, sides=tuple(_sides(toy)))
    losses = []
    for copies in (False, True):
        loop = toy.loop(steps=4, folder=tmp_path / str(copies), micro_batch_size=size)
        if copies:
            loop.batches.groups = [equal_groups(side, np.arange(60)) for side in loop.batches.sides]
        losses.append(loop.run(resume=False).losses)
    assert losses[1]["clip"] < losses[0]["clip"]
    assert losses[1]["ssl_left"] != losses[0]["ssl_left"]
