"""The adapter contract: all that a new domain has to write.

A modality says how to load items from a source, how to collate items into one batch, which encoder
turns a batch into feature vectors, and what an augmented view of an item is.  The model, the losses, the
sampler and the training loop use nothing else, and know no modality by name.
"""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from protclip.data.files.spans import Shard, Span
from protclip.errors import ConfigError, ProtclipError

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


class TensorBatch:
    """The plainest batch: equally long tensors, first dimension the items.

    Examples
    --------
    >>> len(TensorBatch(torch.zeros(3, 2), torch.ones(3)).to("cpu"))
    3
    """

    def __init__(self, *tensors: Tensor) -> None:
        self.tensors = tensors

    def __len__(self) -> int:
        return len(self.tensors[0])

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TensorBatch:
        """Return the batch on ``device``."""
        return TensorBatch(*(tensor.to(device, non_blocking=non_blocking) for tensor in self.tensors))

    def pin_memory(self) -> TensorBatch:
        """Return the batch in page-locked memory, for transfers that overlap with computation."""
        return TensorBatch(*(tensor.pin_memory() for tensor in self.tensors))


class Encoder(nn.Module, ABC):
    """A tower: batch of n items -> float tensor [n, out_dim].

    An item's row does not depend on the other items of the batch in evaluation mode.
    """

    out_dim: int

    @abstractmethod
    def forward(self, batch: Any) -> Tensor:
        """Feature vectors [n, out_dim] of the items of ``batch``."""


class Modality(ABC, Generic[Item]):
    """One side of a :class:`protclip.model.two_tower.TwoTower`.

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
    equal_items_leak : bool
        True where two equal items (by :meth:`digest`) are copies of one thing, which must not be trained on
        and held out at once; False where different things often share an item, as short texts do.
    has_keywords : bool
        True where :meth:`keywords` may find some.
    takes : str
        For messages, which objects :meth:`recognises` knows.
    """

    name: str
    budget: ClassVar[int] = 256
    equal_items_leak: ClassVar[bool] = True
    encoder: Encoder
    frozen: bool = False
    pretrained: bool = False
    has_keywords: bool = False
    takes: ClassVar[str] = ""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values (TOML types) from which :meth:`from_config` builds the same modality, untrained."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Modality[Any]:
        """Rebuild a modality from :meth:`config`; weights are loaded by the caller."""
        return cls(**config)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], *, source: Any = None, seed: int = 0) -> Modality[Any]:
        """Build a new modality as a user asks for it; by default the options are the constructor's.

        Parameters
        ----------
        options : mapping
            What the user gave as NAME=VALUE, values as TOML reads them.
        source
            What :meth:`read` will be given, for an adapter that has to look at its items first.
        seed : int
            Of random weights.

        Raises
        ------
        ConfigError
            If an option is unknown or missing.
        """
        side: Modality[Any] = call_with_options(cls, options, where=f"options of {cls.__name__}")
        return side

    def resolved(self) -> dict[str, Any]:
        """Options of :meth:`from_options` that were left to the program, as they turned out.

        The run's configuration has them, so that it is repeated with the same tower even where other weights
        are at hand.
        """
        return {}

    def prepare(self, items: Sequence[Item]) -> None:
        """Learn from the training items what must be known before training (a vocabulary, a mean)."""

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

    def read_paths(self, paths: Sequence[Path]) -> Iterable[tuple[str, Item | Exception]]:
        """Stream the items of several paths, whose ids may depend on each other."""
        for path in paths:
            yield from self.read(path)

    def files(self, path: Path) -> list[Path]:
        """Files of an input, always in the same order; shards are cut out of them."""
        return [path]

    def read_span(self, span: Span) -> Iterable[tuple[str, Item | Exception]]:
        """Stream the items that begin in a stretch of a file.

        As it stands, a file cannot be entered in the middle: all its items come with its first byte.
        """
        return self.read(span.path) if span.start == 0 else ()

    def stream(self, source: Any) -> Iterator[tuple[str, Item | Exception]]:
        """What :meth:`read` gives, or the items of a shard; there an unreadable file is one failed item."""
        if not isinstance(source, Shard):
            yield from self.read(source)
            return
        for span in source.spans:
            try:
                yield from self.read_span(span)
            except ProtclipError as error:
                yield span.path.name, error

    def accepts(self, path: Path) -> bool:
        """True if a file or folder looks like items of this modality, to spare the user naming it."""
        return False

    def recognises(self, value: object, *, named: bool = False) -> bool | None:
        """Whether an object in memory is or holds an item, so that :meth:`read` takes it in a mapping by id.

        Parameters
        ----------
        value : object
            No path: those are for :meth:`accepts`.
        named : bool
            The user has named the modality, so that what would be doubtful otherwise is an item.

        Returns
        -------
        bool or None
            None where an adapter does not say; :meth:`read` is then given whole inputs as they are, and only
            where the modality is named.
        """
        return None

    def own_id(self, value: Any) -> str:
        """The id that an object which :meth:`recognises` knows carries itself; empty where it has none."""
        return ""

    def cost(self, item: Item) -> int:
        """Relative cost of an item (tokens, residues), used to form batches of a bounded size."""
        return 1

    def remarks(self, items: Iterable[Item]) -> dict[str, int]:
        """What the user should know of how items are treated, with the number of items concerned."""
        return {}

    def keywords(self, item: Item) -> list[str]:
        """Keywords of an item, the candidates of partial labels; none where ``has_keywords`` is False."""
        return []

    def keyword_item(self, word: str) -> Item:
        """An item that stands for a keyword, such as a sentence that says it."""
        raise NotImplementedError(f"{self.name} has no keywords")

    def digest(self, item: Item) -> bytes:
        """Bytes that determine the item's embedding; equal bytes are embedded once.

        Text, bytes and numeric arrays are hashed as they are; other kinds of items say it themselves.
        """
        return hash_item(item)

    def encode_residues(self, batch: Any) -> list[Tensor]:
        """Features of the parts of each item (residues, tokens), one [length, d] tensor per item."""
        raise NotImplementedError(f"{self.name} has no per-part features")

    def describe(self) -> dict[str, Any]:
        """Facts for the model card (weight provenance, what the tower sees, number of parameters)."""
        return {"parameters": sum(p.numel() for p in self.encoder.parameters())}


def call_with_options(
    make: Callable[..., Any], options: Mapping[str, Any], *, where: str, passes_on: Any = None, **more: Any
) -> Any:
    """``make(**options, **more)``; options that it does not take, or lacks, are a :class:`ConfigError`.

    ``passes_on`` is the callable to which ``make`` hands the options that it does not know itself.

    Examples
    --------
    >>> call_with_options(lambda size=1: size, {"sise": 2}, where="options of demo")
    Traceback (most recent call last):
    protclip.errors.ConfigError: options of demo: unknown or missing option; got sise, expected size
    """
    signature = inspect.signature(make)
    names = [*signature.parameters, *(inspect.signature(passes_on).parameters if passes_on else ())]
    takes_any = [p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD]
    known = [name for name in dict.fromkeys(names) if name not in {*more, *takes_any, "self", "cls"}]
    try:
        signature.bind(**options, **more)
        unknown = set() if takes_any and passes_on is None else set(options) - set(known)
    except TypeError:
        unknown = set(options) - set(known) or set(options) or {"none"}
    if unknown:
        raise ConfigError(
            "unknown or missing option",
            where=where,
            got=", ".join(sorted(unknown)),
            expected=", ".join(known) or "none",
        )
    return make(**options, **more)


def hash_item(item: Any) -> bytes:
    """SHA-256 of a text, of bytes, or of an array with its type and shape.

    Raises
    ------
    NotImplementedError
        For any other kind of item.

    Examples
    --------
    >>> hash_item("ab") == hash_item("ab"), hash_item(np.zeros(2)) == hash_item(np.zeros((2, 1)))
    (True, False)
    """
    if isinstance(item, str):
        return hashlib.sha256(item.encode()).digest()
    if isinstance(item, bytes):
        return hashlib.sha256(item).digest()
    if isinstance(item, np.ndarray) and item.dtype.kind in "biufc":
        head = f"{item.dtype.str} {item.shape} ".encode()
        return hashlib.sha256(head + np.ascontiguousarray(item).tobytes()).digest()
    raise NotImplementedError(f"say in digest() which bytes determine a {type(item).__name__}")


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
