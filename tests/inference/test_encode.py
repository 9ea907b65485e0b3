"""The loop from items to vectors: batches are read in one call, and rows do not depend on how."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protclip.data.corpus.store import Corpus
from protclip.errors import ConfigError
from protclip.inference import encode as encoding
from protclip.inference.cache import frozen_features
from protclip.inference.encode import Survey, encode, in_batches, resolved_precision
from protclip.modalities.items import Chosen, take
from protclip.modalities.vectors import VectorsModality
from protclip.relations.pairs import ListItems
from protclip.sources.protein_items import CorpusStructures

CPU = torch.device("cpu")


class Disk(Sequence):
    """Items that count how they were read."""

    def __init__(self, rows):
        self.rows, self.single, self.calls = rows, 0, []

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        self.single += 1
        return self.rows[i]

    def take(self, index):
        index = list(index)
        self.calls.append(index)
        return [self.rows[i] for i in index]


class Uneven(VectorsModality):
    """Vectors that cost as much as their first number says; no more than ten in a batch."""

    budget = 10

    def cost(self, item):
        return int(item[0])


def rows(n, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, 3)).astype(np.float32)
    found[:, 0] = rng.integers(1, 5, n)
    return found


@pytest.mark.parametrize("n", [0, 1, 7, 40])
@pytest.mark.parametrize("window", [1, 16, 1000])
def test_items_are_read_together_and_rows_stand_in_order(monkeypatch, n, window):
    monkeypatch.setattr(encoding, "WINDOW", window)
    items, told = Disk(rows(n)), []
    side = Uneven(3)
    found = encode(side, items, side.encoder, device=CPU, done=told.append)
    assert np.array_equal(found, items.rows[:, :] if n else np.zeros((0, 0)))
    assert items.single == 0
    assert sum(told) == n
    # Once for the costs; once more for the batches where all of them are too many to keep.
    reads = np.bincount([i for call in items.calls for i in call], minlength=n)
    assert (reads == (1 if n <= window else 2)).all()
    assert all(len(call) <= max(window, 10) for call in items.calls)


def test_batches_are_those_of_all_costs_at_once(monkeypatch):
    """However the costs were read, items of like cost are batched together."""
    monkeypatch.setattr(encoding, "WINDOW", 8)
    side, items = Uneven(3), Disk(rows(50))
    batches = [index for index, _ in in_batches([side], [items], len, device=CPU)]
    order = sorted(range(50), key=lambda i: items.rows[i][0])
    assert [i for batch in batches for i in batch] == order
    assert all(len(batch) * max(items.rows[i][0] for i in batch) <= 10 for batch in batches)


def test_parts_of_several_sides_and_tensors_go_side_by_side():
    left, ready = Disk(rows(20)), torch.arange(20)
    side = Uneven(3)
    seen = {}

    def forward(batch, places):
        return list(zip(batch.vectors.numpy(), places.tolist(), strict=True))

    for index, out in in_batches([side, side], [left, ready], forward, device=CPU):
        seen.update(zip(index, out, strict=True))
    assert all(seen[i][1] == i and np.array_equal(seen[i][0], left.rows[i]) for i in range(20))


def test_survey_takes_costs_and_digests_in_one_reading():
    side, items = Uneven(3), Disk(rows(9))
    survey = Survey(side, items, digests=True)
    assert survey.costs == [int(row[0]) for row in items.rows]
    assert survey.digests == [side.digest(row) for row in items.rows]
    assert items.calls == [list(range(9))]


def test_frozen_features_read_few_items_once():
    items = Disk(rows(9))
    found = frozen_features(VectorsModality(3), [str(i) for i in range(9)], items)
    assert np.array_equal(found, items.rows)
    assert (items.single, items.calls) == (0, [list(range(9))])


@given(st.lists(st.integers(0, 11), max_size=20))
def test_taking_equals_indexing(index):
    parts = [list("abc"), Disk(np.arange(4)), [], np.arange(10, 15)]
    joined = ListItems(*parts)
    expected = [joined[i] for i in index]
    assert joined.take(np.array(index, np.int64)) == expected
    assert take(joined, index) == expected
    assert take(Chosen(joined, index), range(len(index))) == expected
    assert [Chosen(joined, index)[i] for i in range(len(index))] == expected


def test_arrays_and_tensors_are_indexed_by_row():
    for rows in (np.arange(6).reshape(3, 2), torch.arange(6).reshape(3, 2)):
        assert [row.tolist() for row in take(rows, [2, 0])] == [[4, 5], [0, 1]]


def test_proteins_taken_together_are_those_taken_one_by_one(cath_dir, tmp_path):
    from protclip.data.corpus.build import cached_corpus

    with Corpus.open(cached_corpus(cath_dir, workers=1)) as corpus:
        items = CorpusStructures(corpus, np.array([5, 3, 100, 4]))
        index = [3, 0, 2, 0]
        for protein, i in zip(items.take(index), index, strict=True):
            assert protein.id == items[i].id
            assert np.array_equal(protein.coords, items[i].coords, equal_nan=True)


@pytest.mark.parametrize("precision", ["fp23", "", "FP32", "float32"])
def test_a_mistyped_precision_is_refused_everywhere(precision):
    side = VectorsModality(3)
    with pytest.raises(ConfigError, match=r"--precision: unknown choice.*auto, fp32 or bf16"):
        encode(side, rows(2), side.encoder, device=CPU, precision=precision)
    with pytest.raises(ConfigError, match="unknown choice"):
        resolved_precision(CPU, precision)
