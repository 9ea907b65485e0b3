"""mmCIF: usual files through gemmi's reader, others column by column."""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atom_site import NO_NUMBER, table_from_atom_site
from protclip.structure.reading.atoms import AtomTable, table_from_gemmi
from protclip.structure.reading.confidence import declares_prediction, local_plddt

_USUAL = {
    f"_atom_site.{name}"
    for name in (
        "id",
        "type_symbol",
        "label_atom_id",
        "label_comp_id",
        "label_asym_id",
        "auth_asym_id",
        "auth_seq_id",
    )
}
"""With these columns, gemmi and the column by column reading mean the same."""
_MOST_DIGITS = 9  # of a number that fits 32 bits whatever the digits are


def table_from_mmcif(data: bytes, where: str, chain_ids: str) -> AtomTable:
    """Atoms of the first model in the first data block that has any.

    Raises
    ------
    StructureError
        If there is no such block, a column is missing, or a number is none.
    RuntimeError, ValueError
        From gemmi, if the syntax is wrong.
    """
    document = gemmi.cif.read_string(_utf8(data))
    block = next((block for block in document if block.find_values("_atom_site.Cartn_x")), None)
    if block is None:
        tables = ", ".join(sorted({name for b in document for name in b.get_mmcif_category_names()})[:5])
        raise StructureError(
            "no atoms",
            where=where,
            got=f"no column atom_site.Cartn_x (tables: {tables or 'none'})",
            expected="a protein structure",
        )
    table = _usual(block, chain_ids, data)
    return table_from_atom_site(CifBlock(block, where), chain_ids) if table is None else table


def _utf8(data: bytes) -> bytes:
    """Text in UTF-8; other bytes are taken for Latin-1, which old titles and names are written in."""
    if data.isascii():
        return data
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1").encode("utf-8")
    return data


def _usual(block: gemmi.cif.Block, chain_ids: str, data: bytes) -> AtomTable | None:
    """The atoms as gemmi reads them; None where it would take for a value what is none."""
    loop = block.find_loop("_atom_site.Cartn_x").get_loop()
    if chain_ids == "label" or loop is None or not _USUAL.issubset(loop.tags):
        return None
    if _has_long_number(data) and max(map(len, block.find_loop("_atom_site.auth_seq_id"))) > _MOST_DIGITS:
        return None
    structure = gemmi.make_structure_from_block(block)
    if len(structure) == 0 or not all(chain.name for chain in structure[0]):
        return None
    parents = {m.res_id.name: m.parent_comp_id for m in structure.mod_residues}
    # Read before the flat table: long chain ids are renamed there.
    confidence = local_plddt(block, structure) if b"_ma_qa_metric" in data else None
    table = table_from_gemmi(structure, chain_ids)
    if not np.isfinite(table.xyz).all() or (table.number == NO_NUMBER).any():
        return None
    table.group()
    table.parents = parents
    if confidence is not None:
        table.b_factor, table.predicted = confidence, True
    else:
        table.predicted = declares_prediction(block)
    return table


def _has_long_number(data: bytes) -> bool:
    """Whether ten digits stand side by side anywhere, in a few passes over the bytes."""
    run = np.frombuffer(data, np.uint8) - ord("0") < 10
    for step in (1, 2, 4, 2):  # runs of 2, 4, 8 and 10
        run = run[:-step] & run[step:]
    return bool(run.any())


class CifBlock:
    """Columns of a block that gemmi has parsed.

    Parameters
    ----------
    block : gemmi.cif.Block
    where : str
        The file, for messages.
    """

    def __init__(self, block: gemmi.cif.Block, where: str) -> None:
        self._block, self.where = block, where

    def text(self, category: str, column: str) -> NDArray[np.str_] | None:
        """Values of a column, "" for ``.`` and ``?``; None if there is no such column."""
        values = self._block.find_values(f"_{category}.{column}")
        if not values:
            return None
        text = ["" if value in (".", "?") else gemmi.cif.as_string(value) for value in values]
        return np.array(text, np.str_)

    def reals(self, category: str, column: str) -> NDArray[np.float64] | None:
        """None: the numbers of a text file are text."""
        return None
