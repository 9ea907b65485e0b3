"""Precomputed per-protein embeddings in HDF5, whatever model they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protclip.data.files.h5 import LazyH5
from protclip.errors import DataError

Layout = Literal["per id", "ids+embeddings", "id+row+vectors"]


LONGEST = 1_000_000
"""Numbers of a vector; a damaged or made-up file can announce any number of columns without holding them."""


class VectorFile(LazyH5):
    """Embeddings by protein id, read when asked for; can be pickled and used after a fork.

    Three layouts are told apart by the names of their datasets:

    ``ids``, ``embeddings``
        n ids and a matrix [n, d]: what ``protclip embed`` writes.
    ``id``, ``row``, ``vectors``
        n ids, a row number for each, and a matrix [m, d]: several ids may share a vector.
    anything else
        One dataset [d] or [1, d] for each id; its attribute ``original_id`` goes before its name.

    Attributes
    ----------
    ids : list of str
        Protein ids in file order.
    dim : int
        Length d of a vector.

    Examples
    --------
    >>> import h5py, tempfile
    >>> file = Path(tempfile.mkdtemp()) / "vectors.h5"
    >>> with h5py.File(file, "w") as f:
    ...     f["a"], f["b"] = np.zeros(3), np.ones(3)
    >>> vectors = VectorFile.open(file)
    >>> vectors.ids, vectors.dim, vectors[["b"]].tolist()
    (['a', 'b'], 3, [[1.0, 1.0, 1.0]])
    """

    what = "embedding file"

    def __init__(self, path: str | Path) -> None:
        super().__init__(path)
        self.layout: Layout = "per id"
        self.dim = 0
        self._where: dict[str, Any] = {}

    @classmethod
    def open(cls, path: str | Path) -> VectorFile:
        """Open an embedding file and find its layout.

        Raises
        ------
        DataError
            If the file is missing, damaged or empty, an id occurs twice, or it holds no vector per protein
            (per-residue matrices [L, d], text, whole numbers beyond float32), or vectors are absurdly long.
        """
        vectors = cls(path)
        try:
            with vectors._damage():
                vectors._index()
                if vectors.dim > LONGEST:
                    raise DataError(
                        "the vectors are too long",
                        where=str(path),
                        got=f"{vectors.dim} numbers each",
                        expected=f"at most {LONGEST}",
                    )
        except DataError:
            vectors.close()
            raise
        return vectors

    @property
    def ids(self) -> list[str]:
        """Protein ids in file order."""
        return list(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, id: str) -> bool:
        return id in self._where

    def __repr__(self) -> str:
        return f"VectorFile({str(self.path)!r}, {len(self)} x {self.dim}, {self.layout})"

    def _index(self) -> None:
        names = set(self.file)
        if {"ids", "embeddings"} <= names:
            self.layout, (id_name, matrix) = "ids+embeddings", ("ids", "embeddings")
        elif {"id", "row", "vectors"} <= names:
            self.layout, (id_name, matrix) = "id+row+vectors", ("id", "vectors")
        else:
            self._index_datasets()
            return
        ids = self.file[id_name].asstr()[()].tolist()
        rows = (
            self.file["row"][()].astype(np.int64).tolist() if matrix == "vectors" else list(range(len(ids)))
        )
        shape = self.file[matrix].shape
        if len(shape) != 2 or shape[1] < 1 or self.file[matrix].dtype.kind not in "fiu":
            raise self._wrong(matrix, f"{self.file[matrix].dtype} {list(shape)}", "numbers [n, d]")
        if len(ids) != len(rows) or (matrix == "embeddings" and len(ids) != shape[0]):
            raise self._wrong(
                matrix, f"{len(ids)} ids for {len(rows) if matrix == 'vectors' else shape[0]} rows", "as many"
            )
        if rows and not 0 <= min(rows) <= max(rows) < shape[0]:
            raise self._wrong("row", f"{min(rows)} to {max(rows)}", f"0 to {shape[0] - 1}")
        self.dim = int(shape[1])
        self._fill(zip(ids, rows, strict=True))

    def _index_datasets(self) -> None:
        import h5py  # lazy: not needed to show a help text

        items = list(self.file)
        if not items:
            raise self._wrong("/", "nothing", "one dataset for each protein")
        first = self.file[items[0]]
        if not isinstance(first, h5py.Dataset):
            raise self._wrong(items[0], "a group", "one dataset for each protein")
        self.dim = self._one_dimension(items[0], first)
        renamed = "original_id" in first.attrs
        self._fill((str(self.file[name].attrs["original_id"]) if renamed else name, name) for name in items)

    def _fill(self, items: Any) -> None:
        for id, place in items:
            if id in self._where:
                raise self._wrong("ids", f"{id!r} twice", "unique ids")
            self._where[id] = place
        if not self._where:
            raise self._wrong("ids", "none", "at least one")

    def _one_dimension(self, name: str, dataset: Any) -> int:
        shape = getattr(dataset, "shape", None)
        if shape is None or dataset.dtype.kind not in "fiu":
            raise self._wrong(name, f"{getattr(dataset, 'dtype', 'a group')}", "numbers [d]")
        if len(shape) == 2 and shape[0] != 1:
            raise DataError(
                "this holds one vector per residue, not one per protein",
                where=f"{self.path}:{name}",
                got=str(list(shape)),
                expected="[d] or [1, d]",
                hint="Average over the residues first",
            )
        if len(shape) not in (1, 2) or shape[-1] < 1:
            raise self._wrong(name, str(list(shape)), "[d] or [1, d]")
        return int(shape[-1])

    def _wrong(self, name: str, got: str, expected: str) -> DataError:
        return DataError(
            "not an embedding file of a known layout", where=f"{self.path}:{name}", got=got, expected=expected
        )

    def missing(self, ids: Sequence[str]) -> list[str]:
        """Those of `ids` that the file does not have."""
        return [id for id in ids if id not in self._where]

    def __getitem__(self, ids: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of these proteins, float32 [len(ids), dim], in the order asked for.

        Raises
        ------
        DataError
            If an id is missing, or a vector has another length or is not finite.
        """
        if isinstance(ids, str):
            raise DataError("ids come in a list", where=str(self.path), got=repr(ids), expected=f"[{ids!r}]")
        if missing := self.missing(ids):
            raise DataError(
                f"{len(missing)} of {len(ids)} proteins have no vector",
                where=str(self.path),
                got=", ".join(missing[:5]),
                expected=f"ids such as {', '.join(self.ids[:3])}",
            )
        vectors = np.empty((len(ids), self.dim), np.float32)
        with self._damage(), np.errstate(over="ignore"):
            if self.layout == "per id":
                for i, id in enumerate(ids):
                    dataset = self.file[self._where[id]]
                    if self._one_dimension(id, dataset) != self.dim:
                        raise self._wrong(
                            id, f"{dataset.shape[-1]} numbers", f"{self.dim} like the first protein"
                        )
                    vectors[i] = dataset[()].reshape(-1)
            elif len(ids):
                matrix = self.file["vectors" if self.layout == "id+row+vectors" else "embeddings"]
                rows = np.array([self._where[id] for id in ids])
                for block in _blocks(np.unique(rows)):
                    # A slice over near neighbours is much faster than picking rows one by one.
                    part = matrix[int(block[0]) : int(block[-1]) + 1]
                    mine = (rows >= block[0]) & (rows <= block[-1])
                    vectors[mine] = part[rows[mine] - block[0]]
        if not np.isfinite(vectors).all():
            bad = ids[int(np.flatnonzero(~np.isfinite(vectors).all(1))[0])]
            raise DataError(
                "vector is not finite",
                where=f"{self.path}:{bad}",
                got="NaN or infinity",
                expected="finite float32",
            )
        return vectors


def _blocks(rows: NDArray[np.int64], gap: int = 16, most: int = 4096) -> Iterator[NDArray[np.int64]]:
    """Cut sorted rows where they lie far apart, and into pieces of bounded span."""
    cuts = np.flatnonzero((np.diff(rows) > gap) | (np.diff(rows // most) > 0)) + 1
    yield from np.split(rows, cuts)
