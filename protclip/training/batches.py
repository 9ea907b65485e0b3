"""From a step number to collated batches, reproducibly and in any order, in any process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from protclip.modalities.base import Modality
from protclip.training.sampler import PairedUnpairedSampler

T = TypeVar("T")

VIEW_DROPOUT = 0.3
"""Feature dropout that makes the augmented view of a frozen tower's features."""


@dataclass
class Stream:
    """One embedding stream of a step: a side, plain or as an augmented view, in chunks of rows."""

    name: str
    chunks: list[Any]


@dataclass
class StepBatch:
    """Everything that one process computes in one step.

    Attributes
    ----------
    streams : dict
        ``left`` and ``right``, and with self-supervision ``left_view`` and ``right_view``.
    n_pairs : int
        This process's matched rows, which come first in every stream.
    items : dict
        ``left`` and ``right``: int64 [n], the item of each row.
    candidates : dict
        For sides with keywords, whose prompts are the stream ``left_keywords`` or ``right_keywords``: bool
        [matched rows, keywords] of all processes, in the order of gathered rows.
    """

    streams: dict[str, Stream]
    n_pairs: int
    items: dict[str, Tensor]
    candidates: dict[str, Tensor]


class Side:
    """Items of one modality as the loop sees them: raw items, or a frozen tower's features."""

    def __init__(self, modality: Modality[Any], items: Sequence[Any], features: Tensor | None = None) -> None:
        self.modality = modality
        self.items = items
        self.features = features
        self.mean = None if features is None else features.mean(0)

    def collate(self, index: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None) -> Any:
        """Batch of the items at ``index``; with generators, of their augmented views."""
        if self.features is None or self.mean is None:
            items = [self.items[int(i)] for i in index]
            if rngs is not None:
                items = [self.modality.augment(item, rng) for item, rng in zip(items, rngs, strict=True)]
            return self.modality.collate(items)
        rows = self.features[torch.from_numpy(index)]
        if rngs is None:
            return rows
        keep = np.stack([rng.random(rows.shape[1]) >= VIEW_DROPOUT for rng in rngs])
        # Dropping to the mean is dropping to zero of standardised features, whatever their location.
        return self.mean + (rows - self.mean) * torch.from_numpy(keep) / (1 - VIEW_DROPOUT)


class StepDataset(Dataset[StepBatch]):
    """Map from step number to :class:`StepBatch`, a pure function of (seed, step, rank)."""

    def __init__(
        self,
        sampler: PairedUnpairedSampler,
        left: Side,
        right: Side,
        *,
        views: bool,
        micro_batch_size: int | None,
        keywords: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sampler = sampler
        self.sides = {"left": left, "right": right}
        self.views, self.keywords = views, keywords
        self.micro_batch_size = micro_batch_size
        self.rank = rank
        self.world_size = world_size

    def __getitem__(self, step: int) -> StepBatch:
        rows = self.sampler.batch(step)
        # Rows are numbered in the global batch: views do not depend on the number of processes.
        pair_rows = np.arange(len(rows.pairs))[self.rank :: self.world_size]
        streams: dict[str, Stream] = {}
        items: dict[str, Tensor] = {}
        candidates: dict[str, Tensor] = {}
        for column, (key, unpaired) in enumerate((("left", rows.left), ("right", rows.right))):
            mine = np.arange(len(unpaired))[self.rank :: self.world_size]
            index = np.concatenate([rows.pairs[pair_rows, column], unpaired[mine]])
            place = np.concatenate([pair_rows, len(rows.pairs) + mine])
            side = self.sides[key]
            items[key] = torch.from_numpy(index)
            streams[key] = Stream(side.modality.name, self._chunks(side, index, None))
            if self.views:
                rngs = [np.random.default_rng([self.sampler.seed, 3 + column, step, int(i)]) for i in place]
                streams[f"{key}_view"] = Stream(side.modality.name, self._chunks(side, index, rngs))
            if self.keywords and side.modality.has_keywords:
                own, candidates[key] = self._keywords(side, rows.pairs[:, column])
                if own:
                    streams[f"{key}_keywords"] = Stream(side.modality.name, own)
        return StepBatch(streams, len(pair_rows), items, candidates)

    def _keywords(self, side: Side, paired: NDArray[np.int64]) -> tuple[list[Any], Tensor]:
        """Prompts of this process's share of the keywords of a batch's pairs, and who has which."""
        gathered = [i for rank in range(self.world_size) for i in paired[rank :: self.world_size]]
        found = [side.modality.keywords(side.items[int(i)]) for i in gathered]
        every = sorted({word for words in found for word in words})
        words = [word for rank in range(self.world_size) for word in every[rank :: self.world_size]]
        has = torch.tensor([[word in of for word in words] for of in map(set, found)], dtype=torch.bool)
        prompts = [side.modality.keyword_item(word) for word in every[self.rank :: self.world_size]]
        size = self.micro_batch_size or max(len(prompts), 1)
        chunks = [side.modality.collate(prompts[i : i + size]) for i in range(0, len(prompts), size)]
        return chunks, has.reshape(len(paired), len(words))

    def _chunks(
        self, side: Side, index: NDArray[np.int64], rngs: Sequence[np.random.Generator] | None
    ) -> list[Any]:
        size = self.micro_batch_size or max(len(index), 1)
        return [
            side.collate(index[i : i + size], None if rngs is None else rngs[i : i + size])
            for i in range(0, len(index), size)
        ]


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
