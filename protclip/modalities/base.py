"""The adapter contract: all that a new domain has to write.

A modality says how to load items from a source, how to collate items into one batch, which encoder
turns a batch into feature vectors, and what an augmented view of an item is.  The model, the losses, the
sampler and the training loop use nothing else, and know no modality by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Item = TypeVar("Item")

CUDA_BATCH = 16
"""A GPU takes so many times a modality's budget at once."""


class Batch(Protocol):
    """Collated items on one device."""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """Return the batch on ``device``."""
        ...

    def __len__(self) -> int:
        """Number of items."""
        ...


class Encoder(nn.Module, ABC):
    """A tower: batch of n items -> float tensor [n, out_dim].

    An item's row does not depend on the other items of the batch in evaluation mode.
    """

    out_dim: int

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:
        """Feature vectors [n, out_dim] of the items of ``batch``."""


class Modality(ABC, Generic[Item]):
    """One side of a :class:`protclip.model.TwoTower`.

    Attributes
    ----------
    name : str
        Names the modality in options, metrics and model folders, e.g. ``"structure"``.
    encoder : Encoder
        The tower; its parameters are trained and saved unless ``frozen``.
    frozen : bool
        True where the encoder is not trained: its features are then computed once, cached, and the
        projection head is trained on them, with feature dropout as the augmented view.
    pretrained : bool
        True where the encoder starts from pretrained weights, which want a lower learning rate.
    budget : int
        Largest summed :meth:`cost` of an inference batch (padded to its largest item).
    """

    name: str
    budget: ClassVar[int] = 256
    encoder: Encoder
    frozen: bool = False
    pretrained: bool = False

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values (TOML types) from which :meth:`from_config` builds the same modality, untrained."""

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Modality[Any]:
        """Rebuild a modality from :meth:`config`; weights are loaded by the caller."""

    @abstractmethod
    def collate(self, items: Sequence[Item]) -> Batch:
        """Pack items into one batch on the CPU (runs in the loader's workers)."""

    @abstractmethod
    def augment(self, item: Item, rng: np.random.Generator) -> Item:
        """A randomly changed view of one item; all randomness comes from ``rng``."""

    @abstractmethod
    def read(self, source: Any) -> Iterable[tuple[str, Item | Exception]]:
        """Stream ``(id, item)`` from what a user may pass (paths, objects, folders).

        An item that cannot be read is yielded as its :class:`protclip.errors.ProtclipError`, so that
        the caller can count it, list it and go on.
        """

    def accepts(self, path: Path) -> bool:
        """True if a file or folder looks like items of this modality, to spare the user naming it."""
        return False

    def cost(self, item: Item) -> int:
        """Relative cost of an item (tokens, residues), used to form batches of a bounded size."""
        return 1

    def remarks(self, items: Iterable[Item]) -> dict[str, int]:
        """What the user should know of how items are treated, with the number of items concerned."""
        return {}

    def digest(self, item: Item) -> bytes:
        """Bytes that determine the item's embedding; equal bytes are embedded once."""
        raise NotImplementedError

    def encode_residues(self, batch: Any) -> list[Tensor]:
        """Features of the parts of each item (residues, tokens), one [length, d] tensor per item."""
        raise NotImplementedError(f"{self.name} has no per-part features")

    def describe(self) -> dict[str, Any]:
        """Facts for the model card (weight provenance, what the tower sees, number of parameters)."""
        return {"parameters": sum(p.numel() for p in self.encoder.parameters())}


def budget_batches(costs: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of similar cost, each of at most ``budget`` when padded to its largest member.

    Sorting by length leaves almost no padding. An item above the budget makes a batch of its own.

    Examples
    --------
    >>> list(budget_batches([5, 1, 4, 2], budget=8))
    [[1, 3], [2], [0]]
    """
    batch: list[int] = []
    for i in sorted(range(len(costs)), key=lambda i: costs[i]):
        if batch and (len(batch) + 1) * costs[i] > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
