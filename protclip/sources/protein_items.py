"""Items of the protein source: those of a corpus, read when asked for, and unpaired ones from files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.corpus.build import cached_corpus, sample_corpus_dir
from protclip.data.corpus.store import Corpus
from protclip.data.files.vector_file import VectorFile
from protclip.errors import ConfigError, DataError, ProtclipError
from protclip.modalities.base import Modality
from protclip.modalities.structure import StructureModality
from protclip.typing import Indices, Say


class CorpusStructures(Sequence[Any]):
    """Structures of a corpus, read when asked for."""

    def __init__(self, corpus: Corpus, rows: Indices) -> None:
        self.corpus, self.rows = corpus, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.corpus[int(self.rows[index])]

    def take(self, index: Indices) -> list[Any]:
        """Several structures, read in one call."""
        return self.corpus.proteins(self.rows[index])


class VectorItems(Sequence[Any]):
    """Precomputed vectors by id, all read when the first is asked for.

    They are kept: whoever trains on vectors holds the features of all items anyway, and a file whose chunks
    are compressed takes a hundred times longer row by row.
    """

    def __init__(self, vectors: VectorFile, ids: Sequence[str]) -> None:
        self.vectors, self.ids = vectors, list(ids)
        self._rows: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Any) -> Any:
        if self._rows is None:
            self._rows = self.vectors[self.ids]
        return self._rows[index]

    def take(self, index: Indices) -> list[Any]:
        """Several vectors, read in one call."""
        return list(self[index])

    def __getstate__(self) -> dict[str, Any]:
        # A worker reads the file itself: cheaper than sending the rows.
        return {**self.__dict__, "_rows": None}


def open_corpus(cath: str, *, min_plddt: float = 0.0, say: Say = lambda text: None) -> Corpus:
    """The corpus of a CATH folder (built and cached when needed), of a store file, or the shipped one.

    Raises
    ------
    DataError
        If the path is neither.
    """
    path = Path(cath) if cath else sample_corpus_dir()
    if not path.exists():
        raise DataError(
            "no such file or folder",
            where=f"--cath {path}",
            expected="a CATH folder (with dompdb/) or a corpus file of `protclip data build`",
            hint="Leave --cath out to use the small corpus that ships with protclip",
        )
    if path.is_file():
        return Corpus.open(path)
    return Corpus.open(cached_corpus(path, min_plddt=min_plddt or None, say=say))


def extra_structures(
    side: StructureModality, source: str, held: AbstractSet[str]
) -> tuple[list[Any], list[str]]:
    """Unpaired structures of a folder that equal no held-out sequence, with sentences on those left out."""
    if not source:
        return [], []
    items, notes = _read_all(side.read(source), f"--unpaired-structures {source}")
    kept = [item for item in items if item.has_ca.any() and item.sequence not in held]
    return kept, notes + _left_out(items, kept, source)


def extra_others(
    side: Modality[Any], source: str, vectors: VectorFile | None, held: AbstractSet[str]
) -> tuple[list[Any], list[str]]:
    """Unpaired sequences (or vectors) of a file that equal no held-out one, with such sentences."""
    if not source:
        return [], []
    if vectors is not None and Path(source).suffix not in (".h5", ".hdf5"):
        raise ConfigError(
            "sequences cannot join precomputed vectors",
            where=f"--unpaired-sequences {source}",
            expected="an HDF5 file of vectors of the same kind, since --vectors is given",
        )
    items, notes = _read_all(side.read(source), f"--unpaired-sequences {source}")
    kept = [item for item in items if not (isinstance(item, str) and item in held)]
    return kept, notes + _left_out(items, kept, source)


def _read_all(stream: Iterable[tuple[str, Any]], where: str) -> tuple[list[Any], list[str]]:
    items: list[Any] = []
    failed: Counter[str] = Counter()
    for _, item in stream:
        if isinstance(item, ProtclipError):
            failed[item.message] += 1
        elif isinstance(item, Exception):
            raise item
        else:
            items.append(item)
    if not items:
        raise DataError("nothing readable", where=where, got=f"{sum(failed.values())} unreadable items")
    return items, [f"{where}: {count} left out ({reason})" for reason, count in failed.items()]


def _left_out(items: Sequence[Any], kept: Sequence[Any], source: str) -> list[str]:
    if len(kept) == len(items):
        return []
    return [
        f"{source}: {len(items) - len(kept)} items left out (equal to a held-out domain, or without C-alpha)"
    ]
