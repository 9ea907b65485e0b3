"""A small container of vectors with their ids, and the files it goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from protclip.errors import DataError
from protclip.inference.vector_writer import VectorWriter
from protclip.scoring.html_table import cut, html_table
from protclip.typing import Vectors

if TYPE_CHECKING:
    import pandas as pd

_SHOWN_ROWS, _SHOWN_NUMBERS = 5, 4
"""Of the table in a notebook."""


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of n items.

    Attributes
    ----------
    ids : list of str
    vectors : float32 array [n, dim]
        Unit vectors of the shared space: the dot product of two rows is their cosine similarity.
    modality : str
        Side of the model that made them.
    residues : mapping of str to float32 array [length, d]
        Tower features of the residues of each item, where asked for.
    failed : mapping of str to str
        Inputs that could not be embedded, with the reason.

    Examples
    --------
    >>> found = Embeddings(["a", "b"], np.eye(2, 256, dtype=np.float32), "sequence")
    >>> found
    Embeddings(2 x 256, sequence: a, b)
    >>> found["b"].shape, found.to_pandas().shape
    ((256,), (2, 256))
    """

    ids: list[str]
    vectors: Vectors
    modality: str
    residues: Mapping[str, Vectors] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise DataError(
                "ids and vectors do not fit", got=f"{len(self.ids)} ids, vectors {self.vectors.shape}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, id: str) -> Vectors:
        """The vector [dim] of one id."""
        try:
            row: Vectors = self.vectors[self.ids.index(id)]
            return row
        except ValueError:
            raise DataError("no such id among the embeddings", got=repr(id)) from None

    def __repr__(self) -> str:
        shown = ", ".join(map(cut, self.ids[:3])) + (", ..." if len(self) > 3 else "")
        failed = f"; {len(self.failed)} failed" if self.failed else ""
        return f"Embeddings({len(self)} x {self.vectors.shape[1]}, {self.modality}: {shown}{failed})"

    def _repr_html_(self) -> str:
        dim = self.vectors.shape[1]
        title = f"{len(self)} embeddings of {dim} dimensions, {self.modality}"
        if self.failed:
            title += f"; {len(self.failed)} inputs failed, see .failed"
        cells, rows = min(dim, _SHOWN_NUMBERS), min(len(self), _SHOWN_ROWS)
        table = [
            [id, *map(float, vector[:cells]), *(["..."] if dim > cells else [])]
            for id, vector in zip(self.ids[:rows], self.vectors[:rows], strict=True)
        ]
        header = ["id", *map(str, range(cells)), *([""] if dim > cells else [])]
        if len(self) > rows:
            table.append([f"... {len(self) - rows} more", *([""] * (len(header) - 1))])
        return html_table(title, header, table)

    def to_pandas(self) -> pd.DataFrame:
        """One row per id, one column per dimension."""
        import pandas as pd  # kept out of start-up

        return pd.DataFrame(self.vectors, index=pd.Index(self.ids, name="id"))

    def to_hdf5(self, path: str | Path) -> None:
        """Write ``ids``, ``embeddings`` and, where present, ``residues``.

        See :mod:`protclip.inference.vector_writer` for the layout.
        """
        self._write(Path(path), "hdf5")

    def to_parquet(self, path: str | Path) -> None:
        """Write columns ``id`` and ``embedding`` (fixed-size list of float32); residues are left out."""
        self._write(Path(path), "parquet")

    def _write(self, path: Path, format: Literal["hdf5", "parquet"]) -> None:
        residues = self.residues if format == "hdf5" else {}
        with VectorWriter(path, self.vectors.shape[1], self.modality, format=format) as writer:
            writer.append(self.ids, self.vectors, residues)

    @classmethod
    def load(cls, path: str | Path) -> Embeddings:
        """Read a file of ours, HDF5 or Parquet, whatever its name.

        Raises
        ------
        DataError
            If the file is not such a file, or an id stands in it twice.
        """
        path = Path(path)
        try:
            with path.open("rb") as stream:
                start = stream.read(4)
        except OSError as error:
            raise DataError("cannot be read", where=str(path), got=error.strerror) from None
        found = cls._from_parquet(path) if start == b"PAR1" else cls.from_hdf5(path)
        first: dict[str, int] = {}
        for row, id in enumerate(found.ids):
            if first.setdefault(id, row) != row:
                raise DataError(
                    "an id stands in two places",
                    where=str(path),
                    got=f"{id!r} in rows {first[id]} and {row}",
                )
        return found

    @classmethod
    def from_hdf5(cls, path: str | Path) -> Embeddings:
        """Read what :meth:`to_hdf5` or ``protclip embed`` wrote.

        Raises
        ------
        DataError
            If the file is not such a file.
        """
        import h5py  # kept out of start-up

        try:
            with h5py.File(path) as f:
                ids = [str(i) for i in f["ids"].asstr()[:]]
                known = set(ids)
                # Older files do not say which id a changed name stands for.
                older = {id.replace("/", "_"): id for id in ids}
                rows = {
                    str(v.attrs["id"]) if "id" in v.attrs else k if k in known else older.get(k, k): v[:]
                    for k, v in (f["residues"].items() if "residues" in f else ())
                }
                ordered = {id: rows.pop(id) for id in ids if id in rows}
                vectors = f["embeddings"][:].astype(np.float32)
                return cls(ids, vectors, str(f.attrs["modality"]), {**ordered, **rows})
        except (OSError, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise DataError(f"not an embeddings file ({error})", where=str(path)) from error

    @classmethod
    def _from_parquet(cls, path: Path) -> Embeddings:
        import pyarrow as pa  # kept out of start-up
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path)
            facts = table.schema.metadata or {}
            ids = [str(id) for id in table["id"].to_pylist()]
            kind = table["embedding"].type
            flat = table["embedding"].combine_chunks().flatten().to_numpy()
            vectors = flat.astype(np.float32).reshape(len(ids), kind.list_size)
        except (pa.ArrowException, OSError, KeyError, ValueError, AttributeError) as error:
            raise DataError(
                f"not an embeddings file ({' '.join(str(error).split())[:200]})", where=str(path)
            ) from error
        return cls(ids, vectors, facts.get(b"modality", b"").decode())
