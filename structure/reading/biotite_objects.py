"""biotite atom arrays as flat atoms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atom_site import chain_keys, characters, name_keys
from protclip.structure.reading.atoms import ATOM, HETATM, UNKNOWN, AtomTable
from protclip.structure.reading.elements import HYDROGEN, KINDS, rename_false_alphas


def table_from_biotite(source: Any) -> AtomTable:
    """Flat atoms of an ``AtomArray``, or of the first model of an ``AtomArrayStack``.

    Alternate locations, occupancies and B-factors are there where the array was loaded with them.

    Raises
    ------
    StructureError
        If a stack has no model.
    """
    models = 1
    if source.coord is not None and np.ndim(source.coord) == 3:
        models = len(source.coord)
        if models == 0:
            raise StructureError(
                "stack without a model", where="biotite AtomArrayStack", got="0", expected="1 or more"
            )
    n = source.array_length()
    known = set(source.get_annotation_categories())

    def text(name: str) -> NDArray[np.str_]:
        return np.asarray(source.get_annotation(name)).astype(str) if name in known else np.full(n, "")

    def number(name: str, default: float) -> NDArray[np.float32]:
        if name not in known:
            return np.full(n, default, np.float32)
        return np.asarray(source.get_annotation(name), np.float32)

    chain, long_names = chain_keys(text("chain_id"))
    kind = KINDS[name_keys(text("element")) & np.uint64(0xFFFF)]
    table = AtomTable(
        chain=chain,
        residue=name_keys(text("res_name")),
        atom=rename_false_alphas(name_keys(text("atom_name")), kind),
        number=np.asarray(source.res_id, np.int32),
        icode=characters(np.char.strip(text("ins_code"))),
        altloc=characters(np.char.strip(np.where(text("altloc_id") == ".", "", text("altloc_id")))),
        occupancy=number("occupancy", 1.0),
        b_factor=number("b_factor", np.nan),
        xyz=np.asarray(source.coord, np.float64).reshape(-1, n, 3)[0] if n else np.zeros((0, 3)),
        record=np.where(np.asarray(source.hetero, bool), HETATM, ATOM).astype(np.uint8),
        hydrogen=np.flatnonzero(kind == HYDROGEN),
        entity=np.full(n, UNKNOWN, np.uint8),
        long_names=long_names,
        models=models,
    )
    table.group()
    return table
