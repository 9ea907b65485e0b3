"""BinaryCIF, through biotite (the optional extra ``protclip[bcif]``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atom_site import table_from_atom_site
from protclip.structure.reading.atoms import AtomTable


def table_from_bcif(data: bytes, where: str, chain_ids: str) -> AtomTable:
    """Flat atoms of the first model of the first block that has atoms.

    Raises
    ------
    StructureError
        If biotite is not installed or the content is damaged.
    """
    try:
        import msgpack  # type: ignore[import-untyped]  # lazy: comes with biotite, the optional extra
        from biotite.structure.io.pdbx import BinaryCIFFile
    except ImportError:
        raise StructureError(
            "BinaryCIF needs biotite",
            where=where,
            got="biotite is not installed",
            expected="the extra 'bcif'",
            hint="pip install 'protclip[bcif]', or convert the file to mmCIF",
        ) from None
    try:
        content = msgpack.unpackb(data, use_list=True, raw=False)
        for block in content["dataBlocks"]:
            for category in block["categories"]:
                _check_sizes(category, where, len(data))
        file = BinaryCIFFile.deserialize(content)
        for name in file:
            if "atom_site" in file[name]:
                return table_from_atom_site(_BinaryBlock(file[name], where), chain_ids)
    except StructureError:
        raise
    except Exception as error:  # msgpack and biotite let any built-in exception through on damaged input
        raise StructureError(
            "cannot parse this BinaryCIF file",
            where=where,
            got=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            expected="a complete, well-formed file",
        ) from None
    raise StructureError("no atoms", where=where, got="no atom_site category", expected="a protein structure")


def _check_sizes(category: dict[str, Any], where: str, size_of_file: int) -> None:
    """Refuse a category whose decoded size does not fit its row count, or this the size of the file.

    A damaged size field would otherwise allocate gigabytes.
    """
    rows = int(category["rowCount"])
    # Run-length codes hold two numbers for a run; a string column has no more strings than rows.
    limit = 2 * rows + 2
    pending: list[Any] = [category["columns"]]
    while pending:
        item = pending.pop()
        if isinstance(item, list):
            pending.extend(item)
        elif isinstance(item, dict):
            pending.extend(v for v in item.values() if isinstance(v, list | dict))
            size = item.get("srcSize", None if item.get("kind") == "RunLength" else 0)
            # No table of atoms takes less than a byte for each row.
            if not isinstance(size, int) or not 0 <= size <= limit or rows > size_of_file:
                raise StructureError(
                    "BinaryCIF sizes contradict each other",
                    where=where,
                    got=f"{size!r} values in a table of {rows} rows",
                    expected=f"at most {limit}, in a file of {size_of_file} bytes",
                )


class _BinaryBlock:
    """Columns of a decoded block."""

    def __init__(self, block: Any, where: str) -> None:
        self._block, self.where = block, where

    def _column(self, category: str, column: str) -> Any:
        return (
            self._block[category][column]
            if category in self._block and column in self._block[category]
            else None
        )

    def text(self, category: str, column: str) -> NDArray[np.str_] | None:
        """Values of a column, "" for missing ones; None if there is no such column."""
        found = self._column(category, column)
        if found is None:
            return None
        values: NDArray[np.str_] = found.as_array(str, masked_value="")
        return np.where((values == ".") | (values == "?"), "", values)

    def reals(self, category: str, column: str) -> NDArray[np.float64] | None:
        """Numbers of a column that is stored as numbers, NaN for missing ones; else None."""
        found = self._column(category, column)
        if found is None or found.data.array.dtype.kind not in "iuf":
            return None
        return np.asarray(found.as_array(np.float64, masked_value=np.nan))
