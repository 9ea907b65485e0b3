"""A small container of vectors with their ids, and the files it goes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protclip.errors import DataError
from protclip.files import atomic_path
from protclip.scoring.html_table import cut, html_table

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
    vectors: NDArray[np.float32]
    modality: str
    residues: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.ids):
            raise DataError(
                "ids and vectors do not fit", got=f"{len(self.ids)} ids, vectors {self.vectors.shape}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, id: str) -> NDArray[np.float32]:
        """The vector [dim] of one id."""
        try:
            row: NDArray[np.float32] = self.vectors[self.ids.index(id)]
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
        """Write ``ids``, ``embeddings`` and, where present, ``residues/<id>``."""
        import h5py  # kept out of start-up

        with atomic_path(path) as partial, h5py.File(partial, "w") as f:
            f.attrs["format"] = "protclip embeddings"
            f.attrs["format_version"] = 1
            f.attrs["modality"] = self.modality
            f.create_dataset("ids", data=self.ids, dtype=h5py.string_dtype())
            f.create_dataset("embeddings", data=self.vectors)
            for id, rows in self.residues.items():
                f.create_dataset(f"residues/{id.replace('/', '_')}", data=rows)

    def to_parquet(self, path: str | Path) -> None:
        """Write columns ``id`` and ``embedding`` (fixed-size list of float32)."""
        import pyarrow as pa  # kept out of start-up
        import pyarrow.parquet as pq

        flat = pa.array(np.ascontiguousarray(self.vectors).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, self.vectors.shape[1])
        with atomic_path(path) as partial:
            pq.write_table(
                pa.table({"id": pa.array(self.ids), "embedding": column}), partial, use_dictionary=False
            )

    @classmethod
    def from_hdf5(cls, path: str | Path) -> Embeddings:
        """Read what :meth:`to_hdf5` wrote.

        Raises
        ------
        DataError
            If the file is not such a file.
        """
        import h5py  # kept out of start-up

        try:
            with h5py.File(path) as f:
                residues: dict[str, Any] = (
                    {k: v[:] for k, v in f["residues"].items()} if "residues" in f else {}
                )
                return cls(
                    [str(i) for i in f["ids"].asstr()[:]],
                    f["embeddings"][:].astype(np.float32),
                    str(f.attrs["modality"]),
                    residues,
                )
        except (OSError, KeyError) as error:
            raise DataError(f"not an embeddings file ({error})", where=str(path)) from error
