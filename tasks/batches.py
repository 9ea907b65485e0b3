"""From a step number to a labelled batch, reproducibly and in any process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from protclip.modalities.base import Modality
from protclip.structure.augment import augment_structure
from protclip.tasks.dataset import TaskData
from protclip.typing import Indices


@dataclass
class TaskBatch:
    """What one process computes in one step.

    Attributes
    ----------
    parts : list
        (tower, collated batch or tensor of features), in the order of the towers.
    targets : tensor
        int64 [n] for one class per protein, bool [n, classes] for several.
    """

    parts: list[tuple[str, Any]]
    targets: Tensor


@dataclass(frozen=True)
class EpochSampler:
    """Rows of every step, a pure function of (seed, step).

    Each epoch passes over the rows in a fresh order; the remainder that does not fill a batch is left out of
    that epoch, so that all batches and all processes' shares have one size.

    Parameters
    ----------
    n : int
        Training rows.
    batch_size : int
        Over all processes; more than n counts as n.
    seed : int
    world_size : int
        The batch is rounded down to a multiple of it.

    Examples
    --------
    >>> sampler = EpochSampler(7, 3, seed=0)
    >>> sampler.epoch_steps, sorted(np.concatenate([sampler.batch(0), sampler.batch(1)]).tolist()).__len__()
    (2, 6)
    """

    n: int
    batch_size: int
    seed: int
    world_size: int = 1

    @property
    def size(self) -> int:
        """Rows of a batch."""
        size = min(self.n, self.batch_size)
        return max(size - size % self.world_size, self.world_size)

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return max(1, self.n // self.size)

    def batch(self, step: int) -> Indices:
        """Positions 0 .. n - 1 of step ``step`` (from 0)."""
        epoch, slot = divmod(step, self.epoch_steps)
        order: Indices = np.random.default_rng([self.seed, epoch]).permutation(self.n)
        return order[slot * self.size : (slot + 1) * self.size]


class TaskDataset(Dataset[TaskBatch]):
    """Map from step number to :class:`TaskBatch`, a pure function of (seed, step, rank).

    Parameters
    ----------
    data : TaskData
    sides : dict of Modality
        Towers by name; they collate.
    sampler : EpochSampler
        Over the training rows.
    noise : float
        Standard deviation in Angstrom of the noise on structures; each protein of each step has random
        numbers of its own, whatever the number of processes and workers.
    features : dict of tensor
        Features [rows of the benchmark, d] of frozen towers, which take the place of their items.
    """

    def __init__(
        self,
        data: TaskData,
        sides: dict[str, Modality[Any]],
        sampler: EpochSampler,
        *,
        noise: float = 0.0,
        features: dict[str, Tensor] | None = None,
        rank: int = 0,
    ) -> None:
        self.data, self.sides, self.sampler, self.noise = data, sides, sampler, noise
        self.features = features or {}
        self.rank = rank

    def __getitem__(self, step: int) -> TaskBatch:
        places = self.sampler.batch(step)
        mine = np.arange(len(places))[self.rank :: self.sampler.world_size]
        rows = self.data.splits["train"][places[mine]]
        live = [name for name in self.sides if name not in self.features]
        items = self.data.items(rows, live)
        if self.noise > 0 and "structure" in items:
            items["structure"] = [
                augment_structure(
                    protein,
                    np.random.default_rng([self.sampler.seed, 1, step, int(i)]),
                    noise=self.noise,
                    drop=0.0,
                    crop=1.0,
                )
                for protein, i in zip(items["structure"], mine, strict=True)
            ]
        parts = [
            (
                name,
                self.features[name][torch.from_numpy(rows)]
                if name in self.features
                else side.collate(items[name]),
            )
            for name, side in self.sides.items()
        ]
        return TaskBatch(parts, torch.from_numpy(self.data.targets(rows)))
