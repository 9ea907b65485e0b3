"""The one writer of vector files: HDF5 or Parquet, growing by pieces, whole or not at all.

HDF5: datasets ``ids`` [n] and ``embeddings`` [n, dim], and ``residues/<name>`` [length, d] for each item
whose residues are kept.  The name is the id; but HDF5 takes ``/`` for a path, so it becomes ``_``, and a name
that is taken, or has a meaning of its own, gets a number.  Wherever the name is not the id, the attribute
``id`` of the dataset is.  Parquet: columns ``id`` and ``embedding`` (fixed-size list of float32).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol

import numpy as np

from protclip.data.files.h5 import SteadyFile
from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path
from protclip.typing import Vectors

FORMATS: dict[str, Literal["hdf5", "parquet"]] = {".h5": "hdf5", ".hdf5": "hdf5", ".parquet": "parquet"}
"""File format by the ending of the name."""

FORMAT_VERSION = 1


def format_of(path: Path) -> Literal["hdf5", "parquet"]:
    """Format that the ending of a name asks for.

    Raises
    ------
    ConfigError
        If it is none of ours.
    """
    try:
        return FORMATS[path.suffix]
    except KeyError:
        raise ConfigError(
            "unknown output format", where=f"-o {path}", expected=" or ".join(FORMATS)
        ) from None


class _Grows(Protocol):
    def append(self, ids: Sequence[str], vectors: Vectors, residues: Mapping[str, Vectors]) -> None: ...

    def close(self) -> None: ...


class VectorWriter:
    """Appends ids and vectors to a new file, which appears when the context is left without an error.

    Parameters
    ----------
    path : Path
    dim : int
        Width of the vectors.
    modality : str
    made_by : mapping, optional
        What the vectors were made from, as plain values.
    format : {"hdf5", "parquet"}, optional
        By default that of the name's ending.

    Attributes
    ----------
    rows : int
        Vectors written so far.

    Raises
    ------
    ConfigError
        If the ending of the name is none of ours, or residues are to go to Parquet.
    DataError
        If the file cannot be written, or an id cannot be stored.

    Examples
    --------
    >>> import tempfile
    >>> from protclip.inference.embeddings import Embeddings
    >>> path = Path(tempfile.mkdtemp()) / "vectors.h5"
    >>> with VectorWriter(path, 3, "sequence") as writer:
    ...     writer.append(["a", "b"], np.zeros((2, 3), np.float32))
    ...     writer.append(["c"], np.ones((1, 3), np.float32))
    >>> Embeddings.load(path)
    Embeddings(3 x 3, sequence: a, b, c)
    """

    def __init__(
        self,
        path: Path,
        dim: int,
        modality: str,
        made_by: Mapping[str, Any] | None = None,
        *,
        format: Literal["hdf5", "parquet"] | None = None,
    ) -> None:
        self.path, self.dim, self.rows = path, dim, 0
        self.format = format or format_of(path)
        self.facts = {"modality": modality, **({} if made_by is None else {"made_by": json.dumps(made_by)})}
        self._stack = ExitStack()
        self._file: _Grows

    def __enter__(self) -> VectorWriter:
        partial = self._stack.enter_context(atomic_path(self.path))
        kind = _Hdf5 if self.format == "hdf5" else _Parquet
        try:
            self._file = kind(partial, self.dim, self.facts)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def append(
        self, ids: Sequence[str], vectors: Vectors, residues: Mapping[str, Vectors] | None = None
    ) -> None:
        """Add vectors [len(ids), dim], and residues [length, d] by id."""
        if vectors.shape != (len(ids), self.dim):
            raise DataError(
                "ids and vectors do not fit",
                where=str(self.path),
                got=f"{len(ids)} ids, vectors {vectors.shape}",
                expected=f"vectors of {self.dim} numbers",
            )
        self._file.append(ids, np.asarray(vectors, np.float32), residues or {})
        self.rows += len(ids)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError as late:
            if error is None:
                self._stack.__exit__(type(late), late, late.__traceback__)
                raise
        self._stack.__exit__(kind, error, trace)


class _Hdf5:
    def __init__(self, path: Path, dim: int, facts: Mapping[str, str]) -> None:
        import h5py  # kept out of start-up

        self.stream = SteadyFile(path)
        self.file = h5py.File(self.stream, "w")
        self.file.attrs.update({"format": "protclip embeddings", "format_version": FORMAT_VERSION, **facts})
        self.ids = self.file.create_dataset(
            "ids", (0,), h5py.string_dtype(), maxshape=(None,), chunks=(4096,)
        )
        self.vectors = self.file.create_dataset(
            "embeddings", (0, dim), np.float32, maxshape=(None, dim), chunks=(1024, max(dim, 1))
        )

    def append(self, ids: Sequence[str], vectors: Vectors, residues: Mapping[str, Vectors]) -> None:
        bad = next((id for id in ids if "\0" in id), None)
        if bad is not None:
            raise DataError(
                "HDF5 cannot store an id with a NUL character", got=repr(bad), hint="Write .parquet"
            )
        start, stop = len(self.ids), len(self.ids) + len(ids)
        self.ids.resize(stop, 0)
        self.vectors.resize(stop, 0)
        self.ids[start:], self.vectors[start:] = list(ids), vectors
        for id, rows in residues.items():
            name = self._free_name(id)
            dataset = self.file.create_dataset(f"residues/{name}", data=rows)
            if name != id:
                dataset.attrs["id"] = id
        self.stream.check()

    def _free_name(self, id: str) -> str:
        base = id.replace("/", "_")
        group = self.file.require_group("residues")
        name, number = base, 2
        while name in ("", ".") or name in group:
            name, number = f"{base}~{number}", number + 1
        return name

    def close(self) -> None:
        self.file.close()
        self.stream.close()
        self.stream.check()


class _Parquet:
    def __init__(self, path: Path, dim: int, facts: Mapping[str, str]) -> None:
        import pyarrow as pa  # kept out of start-up
        import pyarrow.parquet as pq

        self.dim = dim
        columns = [("id", pa.string()), ("embedding", pa.list_(pa.float32(), dim))]
        self.schema = pa.schema(columns, metadata=dict(facts))
        # Hardly two values are equal: a dictionary of them takes memory and makes the file a third larger.
        self.writer = pq.ParquetWriter(path, self.schema, use_dictionary=False)

    def append(self, ids: Sequence[str], vectors: Vectors, residues: Mapping[str, Vectors]) -> None:
        import pyarrow as pa

        if residues:
            raise ConfigError("residue features go to HDF5 only", expected=".h5")
        flat = pa.array(np.ascontiguousarray(vectors).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, self.dim)
        self.writer.write_table(pa.table([pa.array(ids, pa.string()), column], schema=self.schema))

    def close(self) -> None:
        self.writer.close()
