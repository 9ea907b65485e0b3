"""What a run learns from: two sides with their items, which of these match, and the held-out galleries."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from torch import Tensor

from protclip.config.pretraining import DataConfig
from protclip.errors import DataError
from protclip.modalities.base import Modality
from protclip.modalities.items import take
from protclip.scoring.galleries import Gallery
from protclip.typing import Indices, Say


@dataclass
class Side:
    """One modality in a run.

    Attributes
    ----------
    modality : Modality
        Reads, collates and encodes the items.
    items : sequence of n items
        Indexable, may read lazily from disk; safe to send to loader workers.
    pool : int64 array
        Numbers of the training items that have no partner.
    features : float32 tensor [n, d] or None
        Of all items by the tower, where it is not trained; None where it is.
    """

    modality: Modality[Any]
    items: Sequence[Any]
    pool: Indices = field(default_factory=lambda: np.zeros(0, np.int64))
    features: Tensor | None = None

    @property
    def name(self) -> str:
        """Name of the modality."""
        return self.modality.name

    @cached_property
    def mean_feature(self) -> Tensor:
        """Float32 [d], the mean of the features."""
        if self.features is None:
            raise DataError("the tower is trained and so has no features", where=self.name)
        return self.features.mean(0)


@dataclass(frozen=True)
class AlignmentData:
    """Two sides and what is known of their matching.

    Attributes
    ----------
    sides : two of Side
    pairs : int64 array [P, 2]
        Known matches: numbers of an item of the first side and one of the second.
    valid, test : Gallery
        Held-out matched items. ``valid`` may be empty: the last epoch is then kept.
    facts : dict
        Counts and provenance for config, split file and model card (TOML values).
    notices : list of str
        What the user should know before training starts (items left out and why).
    split : dict
        Ids of every part, for ``split.json``.
    resolved : dict
        Options of the source that were left to the program, as they turned out; the run's config has them.
    remarks : list of str
        Sentences that belong into that config beside them.

    Raises
    ------
    DataError
        If there are not two sides of different names, or a number points outside the items.
    """

    sides: tuple[Side, Side]
    pairs: Indices
    valid: Gallery
    test: Gallery
    facts: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    split: dict[str, Any] = field(default_factory=dict)
    resolved: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if len(self.sides) != 2:
            raise DataError("alignment is between two sides", got=str(len(self.sides)), expected="2")
        for side, members in zip(self.sides, self.pairs.T, strict=True):
            for what, index in (("pairs", members), ("pool", side.pool)):
                if len(index) and (index.min() < 0 or index.max() >= len(side.items)):
                    raise DataError(
                        f"{what} of {side.name} point outside the items",
                        got=f"{index.max()} of {len(side.items)}",
                    )

    @property
    def names(self) -> tuple[str, str]:
        """Names of the two modalities."""
        first, second = self.sides
        return first.name, second.name

    def training_items(self, number: int) -> Indices:
        """Items of side ``number`` (0 or 1) that are trained on: those of the pairs, then the pool."""
        return np.concatenate([self.pairs[:, number], self.sides[number].pool])

    def __len__(self) -> int:
        """Training items: pairs, and the larger of the two pools."""
        return len(self.pairs) + max(len(side.pool) for side in self.sides)

    def with_features(self, compute: Callable[[Side], Tensor]) -> AlignmentData:
        """The same data with the features of both sides, computed where they are missing."""
        first, second = (
            side if side.features is not None else dataclasses.replace(side, features=compute(side))
            for side in self.sides
        )
        return dataclasses.replace(self, sides=(first, second))


class HeldOut(NamedTuple):
    """Matched items to score a trained model on, and the items of both sides."""

    gallery: Gallery
    items: tuple[Sequence[Any], Sequence[Any]]


class Source(Protocol):
    """Where items of two modalities come from and which of them match; made from its options."""

    def setup(self, split: DataConfig, *, seed: int, say: Say) -> AlignmentData:
        """Build both sides and split the items.

        Parameters
        ----------
        split : DataConfig
            What is held out, and which share of the rest stays paired.
        seed : int
            Decides which items keep their pairing; the held-out split has ``split.split_seed``.
        say : callable
            Gets sentences for the user while it works; see also ``AlignmentData.notices``.
        """
        ...

    def held_out(
        self, sides: Sequence[Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
    ) -> HeldOut:
        """Items that a trained model has not seen (``split="auto"``), or all of them (``"all"``).

        ``facts`` are those that :meth:`setup` gave when the model was trained.
        """
        ...


class ListItems(Sequence[Any]):
    """Several item sequences one after the other, without copying them."""

    def __init__(self, *parts: Sequence[Any]) -> None:
        self.parts = [part for part in parts if len(part)]
        self.ends = np.cumsum([len(part) for part in self.parts])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = int(np.searchsorted(self.ends, index, side="right"))
        start = self.ends[part - 1] if part else 0
        return self.parts[part][index - start]

    def take(self, index: Indices) -> list[Any]:
        """Items at some places, each part read in one call."""
        parts = np.searchsorted(self.ends, index, side="right")
        found: list[Any] = [None] * len(index)
        for part in np.unique(parts):
            places = np.flatnonzero(parts == part)
            start = self.ends[part - 1] if part else 0
            items = take(self.parts[part], index[places] - start)
            for place, item in zip(places, items, strict=True):
                found[place] = item
        return found
