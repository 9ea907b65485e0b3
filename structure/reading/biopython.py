"""Bio.PDB objects as flat atoms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from protclip.errors import StructureError
from protclip.structure.reading.atoms import ATOM, HETATM, AtomTable
from protclip.structure.reading.elements import HYDROGEN, KINDS, rename_false_alphas
from protclip.structure.reading.residues import name_key


def is_biopython(source: object) -> bool:
    """Whether this is a Bio.PDB entity, without importing Biopython."""
    return type(source).__module__.startswith("Bio.PDB")


def table_from_biopython(source: Any) -> tuple[AtomTable, str]:
    """Flat atoms of the first model, and the id of the structure.

    Raises
    ------
    StructureError
        If the entity is smaller than a chain or has no model.
    """
    level = getattr(source, "level", None)
    models = 1
    if level == "S":
        models = len(source)
        if models == 0:
            raise StructureError(
                "structure without a model", where=f"Bio.PDB {source.id}", got="0", expected="1"
            )
        chains = list(next(iter(source)))
    elif level == "M":
        chains = list(source)
    elif level == "C":
        chains = [source]
    else:
        raise StructureError(
            "cannot read a protein from this Bio.PDB object",
            got=type(source).__name__,
            expected="a Structure, Model or Chain",
        )
    root = source
    while root.parent is not None:
        root = root.parent
    stem = str(root.id) if root.level == "S" else ""
    rows = [row for i, chain in enumerate(chains) for row in _rows(i, chain)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * 11
    kind = np.array(columns[10], np.uint8)
    table = AtomTable(
        chain=np.array([name_key(f"~{i:x}") for i in columns[0]], np.uint64),
        number=np.array(columns[1], np.int32),
        icode=np.array(columns[2], np.uint8),
        residue=np.array([name_key(name) for name in columns[3]], np.uint64),
        record=np.array(columns[4], np.uint8),
        atom=rename_false_alphas(np.array([name_key(name) for name in columns[5]], np.uint64), kind),
        altloc=np.array(columns[6], np.uint8),
        occupancy=np.array(columns[7], np.float32),
        b_factor=np.array(columns[8], np.float32),
        xyz=np.array(columns[9], np.float64).reshape(-1, 3),
        hydrogen=np.flatnonzero(kind == HYDROGEN),
        entity=np.zeros(len(rows), np.uint8),
        long_names={name_key(f"~{i:x}"): str(chain.id).strip() for i, chain in enumerate(chains)},
        models=models,
    )
    return table, stem


def _rows(index: int, chain: Any) -> Iterator[tuple[Any, ...]]:
    for position in chain:
        # A point mutation (microheterogeneity) holds one residue for each type.
        residues = position.disordered_get_list() if position.is_disordered() == 2 else [position]
        for residue in residues:
            flag, number, icode = residue.id
            for slot in residue:
                atoms = slot.disordered_get_list() if slot.is_disordered() == 2 else [slot]
                for atom in atoms:
                    occupancy = atom.get_occupancy()
                    yield (
                        index,
                        number,
                        ord(icode) if icode.strip() else 0,
                        residue.resname.strip(),
                        ATOM if flag == " " else HETATM,
                        atom.name.strip(),
                        ord(atom.altloc) if atom.altloc.strip() else 0,
                        1.0 if occupancy is None else occupancy,
                        np.nan if atom.bfactor is None else atom.bfactor,
                        atom.coord,
                        KINDS[name_key(atom.element or "") & 0xFFFF],
                    )
