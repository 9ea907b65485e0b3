"""Precomputed per-protein embeddings as a modality, so that any model can be one side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError
from protclip.modalities.base import Encoder, Modality, call_with_options

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class VectorBatch:
    """Vectors of n proteins.

    Attributes
    ----------
    vectors : float32 tensor [n, d]
    """

    vectors: Tensor

    def __len__(self) -> int:
        return len(self.vectors)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> VectorBatch:
        """Return the batch on ``device``."""
        return VectorBatch(self.vectors.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> VectorBatch:
        """Return the batch in page-locked memory."""
        return VectorBatch(self.vectors.pin_memory())


class VectorEncoder(Encoder):
    """Passes vectors on, less a mean and divided by a deviation that are saved with the model.

    Parameters
    ----------
    dim : int
        Length of the vectors.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out_dim = dim
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("deviation", torch.ones(dim))

    def forward(self, batch: VectorBatch) -> Tensor:
        """Standardised vectors [n, dim]."""
        return (batch.vectors - self.mean) / self.deviation


class VectorsModality(Modality[Vector]):
    """Vectors that another model has computed; nothing but the projection head is trained.

    Parameters
    ----------
    dim : int
        Length of the vectors.
    stands_for : str
        What they are embeddings of: the name of this side in options and metrics.
    dropout : float
        Share of features zeroed in the augmented view; the others grow by 1 / (1 - dropout).
    source : str
        Where they are from, for the model card.

    Raises
    ------
    ConfigError
        If an option is out of range.

    Examples
    --------
    >>> side = VectorsModality(3)
    >>> side.fit(np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 5.0]]))
    >>> side.encoder(side.collate([np.array([2.0, 1.0, 5.0], np.float32)])).tolist()
    [[1.0, -1.0, 0.0]]
    """

    budget: ClassVar[int] = 4096
    frozen = True

    def __init__(
        self, dim: int, *, stands_for: str = "sequence", dropout: float = 0.3, source: str = ""
    ) -> None:
        if dim < 1:
            raise ConfigError("out of range", where="dim", got=str(dim), expected="1 or more")
        if not 0 <= dropout < 1:
            raise ConfigError("out of range", where="dropout", got=str(dropout), expected="0 to 1")
        self.name = stands_for
        self.dim = dim
        self.dropout = dropout
        self.source = source
        self.encoder: VectorEncoder = VectorEncoder(dim)

    def fit(self, vectors: ArrayLike) -> None:
        """Mean and standard deviation of training vectors [n, dim]; constant features keep their scale.

        Raises
        ------
        DataError
            If the shape is wrong or a value is not finite.
        """
        x = np.asarray(vectors, np.float64)
        if x.ndim != 2 or x.shape[1] != self.dim or len(x) < 1 or not np.isfinite(x).all():
            raise DataError(
                "cannot standardise on these vectors",
                got=f"{list(x.shape)}{'' if np.isfinite(x).all() else ' with NaN or infinity'}",
                expected=f"finite numbers [n, {self.dim}]",
            )
        spread = x.std(0)
        mean = x.mean(0)
        # Rounding leaves a tiny spread in a constant column, which must not be blown up to unit size.
        spread[spread <= 1e-6 * np.abs(mean)] = 1.0
        spread[spread == 0] = 1.0
        device = self.encoder.mean.device
        self.encoder.mean.copy_(torch.from_numpy(mean).float().to(device))
        self.encoder.deviation.copy_(torch.from_numpy(spread).float().to(device))

    @classmethod
    def from_options(
        cls, options: Mapping[str, Any], *, source: Any = None, seed: int = 0
    ) -> VectorsModality:
        """The constructor's options; ``dim`` and ``source`` are taken from a file of vectors."""
        given = dict(options)
        if isinstance(source, (str, Path)):
            given = {"dim": VectorFile.open(source).dim, "source": Path(source).name, **given}
        side: VectorsModality = call_with_options(cls, given, where="options of vectors")
        return side

    def config(self) -> dict[str, Any]:
        """Options of the constructor."""
        return {"dim": self.dim, "stands_for": self.name, "dropout": self.dropout, "source": self.source}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> VectorsModality:
        """Rebuild from :meth:`config`; mean and deviation come with the weights."""
        return cls(**config)

    def accepts(self, path: Path) -> bool:
        """An HDF5 file."""
        return path.is_file() and path.suffix.lower() in (".h5", ".hdf5")

    def collate(self, items: Sequence[Vector]) -> VectorBatch:
        """Stack vectors [d] into a batch [n, d]."""
        if not len(items):
            return VectorBatch(torch.zeros(0, self.dim))
        return VectorBatch(torch.from_numpy(np.stack([np.asarray(item, np.float32) for item in items])))

    def augment(self, item: Vector, rng: np.random.Generator) -> Vector:
        """Feature dropout around the mean, so that a dropped feature tells nothing."""
        keep = (rng.random(len(item)) >= self.dropout) / np.float32(1 - self.dropout)
        mean = self.encoder.mean.numpy(force=True)
        return np.asarray(mean + (item - mean) * keep, np.float32)

    def digest(self, item: Vector) -> bytes:
        """Hash of the values."""
        return hashlib.sha256(np.ascontiguousarray(item, np.float32).tobytes()).digest()

    def read(self, source: Any) -> Iterable[tuple[str, Vector | Exception]]:
        """Vectors from an HDF5 path, a VectorFile, a mapping by id, a pair (ids, array), or an array [n, d].

        Rows of a plain array are numbered from 0. A vector of another length or with NaN comes as its
        :class:`DataError`.

        Raises
        ------
        DataError
            If the file cannot be read, or ``source`` is of another type.
        """
        for id, value in self._stream(source):
            if isinstance(value, Exception):
                yield id, value
                continue
            try:
                vector = np.asarray(value, np.float32)
            except (TypeError, ValueError):
                vector = np.empty(0, np.float32)
            if vector.shape != (self.dim,):
                yield (
                    id,
                    DataError(
                        "not a vector of this model",
                        where=id,
                        got=str(list(np.shape(vector))),
                        expected=f"[{self.dim}] numbers",
                    ),
                )
            elif not np.isfinite(vector).all():
                yield (
                    id,
                    DataError(
                        "vector is not finite", where=id, got="NaN or infinity", expected="finite float32"
                    ),
                )
            else:
                yield id, vector

    def _stream(self, source: Any) -> Iterator[tuple[str, Any]]:
        if isinstance(source, (str, Path)):
            source = VectorFile.open(source)
        if isinstance(source, VectorFile):
            yield from _file_rows(source)
        elif isinstance(source, Mapping):
            yield from ((str(id), value) for id, value in source.items())
        elif isinstance(source, tuple) and len(source) == 2 and len(source[0]) == len(source[1]):
            yield from ((str(id), value) for id, value in zip(*source, strict=True))
        elif isinstance(source, (np.ndarray, list)):
            yield from ((str(i), value) for i, value in enumerate(source))
        else:
            raise DataError(
                "cannot be read as vectors",
                got=type(source).__name__,
                expected="an HDF5 path, a mapping of ids to vectors, (ids, array) or an array [n, d]",
            )

    def describe(self) -> dict[str, Any]:
        """Where the vectors are from and how long they are."""
        facts = {"tower": "precomputed vectors", "source": self.source, "dimensions": self.dim}
        return {key: value for key, value in facts.items() if value != ""} | super().describe()


def _file_rows(vectors: VectorFile, block: int = 1024) -> Iterator[tuple[str, Any]]:
    """Rows in blocks; a block with a bad row is read again one by one, so that only that row is lost."""
    ids = vectors.ids
    for start in range(0, len(ids), block):
        part = ids[start : start + block]
        try:
            yield from zip(part, vectors[part], strict=True)
            continue
        except DataError:
            pass
        for id in part:
            try:
                yield id, vectors[[id]][0]
            except DataError as error:
                yield id, error
