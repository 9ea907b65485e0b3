"""What the training loop gets from a data source: items of two modalities, matches, pools, galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from protclip.config.pretraining import DataConfig
from protclip.errors import DataError
from protclip.modalities.base import Modality
from protclip.scoring.galleries import Gallery
from protclip.typing import Indices, Say


@dataclass(frozen=True)
class AlignmentData:
    """Two sequences of items and what is known of their matching.

    Attributes
    ----------
    left, right : sequences of items
        Indexable, may read lazily from disk; safe to send to loader workers.
    pairs : int64 array [P, 2]
        Known matches as (left index, right index).
    left_pool, right_pool : int64 arrays
        Unpaired training items.
    valid, test : Gallery
        Held-out matched items. ``valid`` may be empty: the last epoch is then kept.
    facts : dict
        Counts and provenance for config, split file and model card (TOML values).
    notices : list of str
        What the user should know before training starts (items left out and why).
    """

    left: Sequence[Any]
    right: Sequence[Any]
    pairs: Indices
    left_pool: Indices
    right_pool: Indices
    valid: Gallery
    test: Gallery
    facts: dict[str, Any] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    split: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, index, items in (
            ("pairs (left)", self.pairs[:, 0], self.left),
            ("pairs (right)", self.pairs[:, 1], self.right),
            ("left_pool", self.left_pool, self.left),
            ("right_pool", self.right_pool, self.right),
        ):
            if len(index) and (index.min() < 0 or index.max() >= len(items)):
                raise DataError(f"{name} points outside the items", got=f"{index.max()} of {len(items)}")


@dataclass(frozen=True)
class Setup:
    """Untrained sides with the data to train them on.

    Attributes
    ----------
    left, right : Modality
    data : AlignmentData
    resolved : dict
        Options of the source that were left to the program, as they turned out; the run's config has them.
    remarks : list of str
        Sentences that belong into that config beside them.
    """

    left: Modality[Any]
    right: Modality[Any]
    data: AlignmentData
    resolved: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


class HeldOut(NamedTuple):
    """Matched items to score a trained model on."""

    gallery: Gallery
    left: Sequence[Any]
    right: Sequence[Any]


class Source(Protocol):
    """Where items of two modalities come from and which of them match; made from its options."""

    def setup(self, division: DataConfig, *, all_paired: bool, seed: int, say: Say) -> Setup:
        """Build both sides and divide the items.

        Parameters
        ----------
        division : DataConfig
        all_paired : bool
            Pair everything, whatever ``division.paired`` says.
        seed : int
            Decides which items keep their pairing; the held-out split has ``division.split_seed``.
        say : callable
            Gets sentences for the user while it works; see also ``AlignmentData.notices``.
        """
        ...

    def held_out(
        self, sides: tuple[Modality[Any], Modality[Any]], facts: Mapping[str, Any], *, split: str, say: Say
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
