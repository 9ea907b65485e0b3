"""Batches of matched pairs and independently drawn unpaired rows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import ConfigError
from protclip.training.sampler import PairedUnpairedSampler


def make(pairs: int, left: int, right: int, **options: object) -> PairedUnpairedSampler:
    matched = np.stack([np.arange(pairs), np.arange(pairs)], 1)
    pools = np.arange(pairs, pairs + left), np.arange(pairs, pairs + right)
    return PairedUnpairedSampler(matched, pools, **{"batch_size": 8, **options})


@given(
    pairs=st.integers(0, 40),
    left=st.integers(0, 40),
    right=st.integers(0, 40),
    size=st.integers(2, 50),
    step=st.integers(0, 200),
)
def test_a_batch_never_repeats_an_item_and_never_mixes_pools(
    pairs: int, left: int, right: int, size: int, step: int
) -> None:
    if pairs + max(left, right) == 0:
        return
    rows = make(pairs, left, right, batch_size=size).batch(step)
    assert len(rows.pairs) + max(*map(len, rows.unpaired)) <= size
    for drawn, low, high in (
        (rows.pairs[:, 0], 0, pairs),
        (rows.unpaired[0], pairs, pairs + left),
        (rows.unpaired[1], pairs, pairs + right),
    ):
        assert len(set(drawn.tolist())) == len(drawn)
        assert ((drawn >= low) & (drawn < high)).all()
    assert (rows.pairs[:, 0] == rows.pairs[:, 1]).all()


def test_a_round_passes_over_every_item_once() -> None:
    sampler = make(0, 24, 24, batch_size=8)
    seen = np.concatenate([sampler.batch(step).unpaired[0] for step in range(3)])
    assert sorted(seen) == list(range(24))


def test_the_two_unpaired_draws_are_independent() -> None:
    """With shuffled pools the same index on both sides is a hidden partner: no more often than by chance."""
    sampler = make(0, 1000, 1000, batch_size=100)
    same = [np.mean(rows.unpaired[0] == rows.unpaired[1]) for rows in map(sampler.batch, range(200))]
    assert abs(np.mean(same) - 1 / 1000) < 3e-4


def test_steps_can_be_asked_in_any_order() -> None:
    sampler = make(10, 20, 30, seed=5)
    forward = [sampler.batch(step) for step in range(20)]
    for step in reversed(range(20)):
        again = sampler.batch(step)
        assert np.array_equal(again.pairs, forward[step].pairs)
        for a, b in zip(again.unpaired, forward[step].unpaired, strict=True):
            assert np.array_equal(a, b)
    other = make(10, 20, 30, seed=6).batch(0)
    assert not np.array_equal(other.unpaired[0], forward[0].unpaired[0])


@pytest.mark.parametrize(
    ("pairs", "pool", "options", "expected"),
    [
        (100, 100, {}, (6, 2)),  # half paired
        (10, 1000, {}, (6, 2)),  # few pairs still fill most of the batch
        (2, 1000, {}, (2, 6)),  # but never stand twice in it
        (90, 10, {}, (7, 1)),  # mostly paired: their share
        (100, 0, {}, (8, 0)),
        (0, 100, {}, (0, 8)),
        (100, 100, {"pairs_per_batch": 1}, (1, 7)),
        (100, 100, {"pairs_per_batch": 0}, (0, 8)),
        (100, 100, {"use_unpaired": False}, (8, 0)),
    ],
)
def test_share_of_pairs(pairs: int, pool: int, options: dict[str, object], expected: tuple[int, int]) -> None:
    rows = make(pairs, pool, pool, **options).batch(0)
    assert (len(rows.pairs), len(rows.unpaired[0])) == expected


def test_every_objective_gets_the_same_number_of_steps() -> None:
    assert make(50, 150, 150).epoch_steps == make(50, 150, 150, use_unpaired=False).epoch_steps == 25


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 5, 5), {"use_unpaired": False}, "--paired: this objective learns from pairs alone"),
        ((0, 0, 0), {}, "no training data"),
        ((4, 4, 4), {"batch_size": 1}, "--batch-size: too small; got 1"),
        ((4, 4, 4), {"pairs_per_batch": -1}, "--pairs-per-batch: negative"),
    ],
)
def test_impossible_batches_are_refused(
    arguments: tuple[int, int, int], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(*arguments, **options)
