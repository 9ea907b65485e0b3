"""From a step number to collated batches, reproducibly and in any order, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from protclip.losses.copies import Copies
from protclip.modalities.items import take
from protclip.relations.pairs import Side
from protclip.training.sampler import BatchIndices, PairedUnpairedSampler
from protclip.typing import Indices

T = TypeVar("T")
Generators = Sequence[np.random.Generator]
Kind = Literal["items", "view", "keywords"]

VIEW_DROPOUT = 0.3
"""Feature dropout that makes the augmented view of a frozen tower's features."""


@dataclass
class Stream:
    """What one tower embeds in one step.

    Attributes
    ----------
    name : str
        The side.
    kind : {"items", "view", "keywords"}
        Items as they are, their augmented views, or the prompts of their keywords.
    chunks : list
        Collated batches, or tensors of features; their rows follow each other.
    """

    name: str
    kind: Kind
    chunks: list[Any]


@dataclass
class StepBatch:
    """Everything that one process computes in one step.

    Attributes
    ----------
    streams : list of Stream
        Those of the first side, then those of the second.
    n_pairs : int
        This process's matched rows, which come first in every stream of items and views.
    items : dict
        By side: int64 [n], the item of each row.
    candidates : dict
        By side, where it has keywords: bool [matched rows, keywords] of all processes, in the order of
        gathered rows.
    copies : Copies or None
        Which rows of all processes are of equal items, in the order of gathered rows; None where all differ.
    """

    streams: list[Stream]
    n_pairs: int
    items: dict[str, Tensor]
    candidates: dict[str, Tensor]
    copies: Copies | None = None


class StepDataset(Dataset[StepBatch]):
    """Map from step number to :class:`StepBatch`, a pure function of (seed, step, rank).

    Parameters
    ----------
    sampler : PairedUnpairedSampler
    sides : sequence of Side
        In the order of the sampler's pools.
    views, keywords : bool
        Whether augmented views and keywords of the items are wanted.
    micro_batch_size : int or None
        Rows of a chunk; None makes one chunk of all.
    groups : sequence of int64 array or None, optional
        For each side the group of every item, see :func:`protclip.training.equal_items.equal_groups`; None
        where all items differ.
    rank, world_size : int
        This process, and the number of processes that share the batch.
    """

    def __init__(
        self,
        sampler: PairedUnpairedSampler,
        sides: Sequence[Side],
        *,
        views: bool,
        micro_batch_size: int | None,
        keywords: bool = False,
        groups: Sequence[Indices | None] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sampler, self.sides = sampler, list(sides)
        self.views, self.keywords = views, keywords
        self.groups = groups or [None] * len(self.sides)
        self.micro_batch_size = micro_batch_size
        self.rank, self.world_size = rank, world_size

    def __getitem__(self, step: int) -> StepBatch:
        rows = self.sampler.batch(step)
        # Rows are numbered in the global batch: views do not depend on the number of processes.
        pair_rows = np.arange(len(rows.pairs))[self.rank :: self.world_size]
        found = StepBatch([], len(pair_rows), {}, {}, self._copies(rows))
        for column, (side, unpaired) in enumerate(zip(self.sides, rows.unpaired, strict=True)):
            mine = np.arange(len(unpaired))[self.rank :: self.world_size]
            index = np.concatenate([rows.pairs[pair_rows, column], unpaired[mine]])
            place = np.concatenate([pair_rows, len(rows.pairs) + mine])
            found.items[side.name] = torch.from_numpy(index)
            # Read once: the items and their views are made from the same objects.
            items = take(side.items, index) if side.features is None else []
            found.streams.append(Stream(side.name, "items", self._chunks(side, index, items, None)))
            if self.views:
                rngs = [np.random.default_rng([self.sampler.seed, 3 + column, step, int(i)]) for i in place]
                found.streams.append(Stream(side.name, "view", self._chunks(side, index, items, rngs)))
            if self.keywords and side.modality.has_keywords:
                own, found.candidates[side.name] = self._keywords(side, rows.pairs[:, column])
                if own:
                    found.streams.append(Stream(side.name, "keywords", own))
        return found

    def _copies(self, rows: BatchIndices) -> Copies | None:
        """Which rows of all processes are of equal items; an item may also stand in several pairs."""
        found = []
        for column, (groups, unpaired) in enumerate(zip(self.groups, rows.unpaired, strict=True)):
            gathered = [*self._gathered(rows.pairs[:, column]), *self._gathered(unpaired)]
            index = np.concatenate(gathered)
            found.append(index if groups is None else groups[index])
        if all(len(np.unique(numbers)) == len(numbers) for numbers in found):
            return None
        return Copies(*map(torch.from_numpy, found))

    def _gathered(self, index: Indices) -> list[Indices]:
        """The shares of all processes, in the order of rank."""
        return [index[rank :: self.world_size] for rank in range(self.world_size)]

    def _keywords(self, side: Side, paired: Indices) -> tuple[list[Any], Tensor]:
        """Prompts of this process's share of the keywords of a batch's pairs, and who has which."""
        gathered = np.concatenate(self._gathered(paired))
        found = [side.modality.keywords(item) for item in take(side.items, gathered)]
        every = sorted({word for words in found for word in words})
        words = [word for rank in range(self.world_size) for word in every[rank :: self.world_size]]
        has = torch.tensor([[word in of for word in words] for of in map(set, found)], dtype=torch.bool)
        prompts = [side.modality.keyword_item(word) for word in every[self.rank :: self.world_size]]
        size = self.micro_batch_size or max(len(prompts), 1)
        chunks = [side.modality.collate(prompts[i : i + size]) for i in range(0, len(prompts), size)]
        return chunks, has.reshape(len(paired), len(words))

    def _chunks(self, side: Side, index: Indices, items: Sequence[Any], rngs: Generators | None) -> list[Any]:
        size = self.micro_batch_size or max(len(index), 1)
        chunks = []
        for start in range(0, len(index), size):
            part = slice(start, start + size)
            own = None if rngs is None else rngs[part]
            chunks.append(
                _collate(side, items[part], own)
                if side.features is None
                else _feature_rows(side, side.features, index[part], own)
            )
        return chunks


def _collate(side: Side, items: Sequence[Any], rngs: Generators | None) -> Any:
    """Batch of the items; with generators, of their augmented views."""
    if rngs is not None:
        items = [side.modality.augment(item, rng) for item, rng in zip(items, rngs, strict=True)]
    return side.modality.collate(items)


def _feature_rows(side: Side, features: Tensor, index: Indices, rngs: Generators | None) -> Tensor:
    """Features of the items at ``index``; with generators, some of each dropped."""
    rows = features[torch.from_numpy(index)]
    if rngs is None:
        return rows
    keep = np.stack([rng.random(rows.shape[1]) >= VIEW_DROPOUT for rng in rngs])
    # Dropping to the mean is dropping to zero of standardised features, whatever their location.
    mean = side.mean_feature
    return mean + (rows - mean) * torch.from_numpy(keep) / (1 - VIEW_DROPOUT)


def step_loader(dataset: Dataset[T], start: int, stop: int, *, workers: int) -> Iterator[T]:
    """Batches of steps ``start`` to ``stop - 1``, prepared ahead by ``workers`` processes (0: inline)."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        # Forking after torch has started its threads can deadlock.
        multiprocessing_context="spawn" if workers else None,
    )
    return iter(loader)
