"""Structures that other packages hold in memory, known by class name: no package is imported."""

from __future__ import annotations

from typing import Any

from protclip.structure.reading.atoms import AtomTable
from protclip.structure.reading.biopython import is_biopython, table_from_biopython
from protclip.structure.reading.biotite_objects import table_from_biotite
from protclip.structure.reading.gemmi_objects import table_from_gemmi_object

OBJECTS = "a Bio.PDB, gemmi or biotite structure, model or chain"
"""What :func:`is_structure_object` knows, for messages."""


def is_instance_of(value: object, *names: str) -> bool:
    """Whether ``value`` is of one of these classes, named by package and class, or of a class made from one.

    Examples
    --------
    >>> from collections import Counter
    >>> is_instance_of(Counter(), "builtins.dict"), is_instance_of(Counter(), "pandas.Series")
    (True, False)
    """
    return any(
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}" in names for kind in type(value).__mro__
    )


def is_structure_object(value: object) -> bool:
    """Whether :func:`protclip.structure.read_chains` reads this object (or says why it cannot)."""
    return is_biopython(value) or _is_gemmi(value) or _is_biotite(value)


def object_id(source: Any) -> str:
    """What a structure is called, with the chain for a chain of one; empty where it has no name."""
    if _is_biotite(source):
        return ""
    if _is_gemmi(source):
        return "" if is_instance_of(source, "gemmi.Model") else str(source.name).strip()
    names = []
    while source is not None:
        if source.level in ("S", "C"):
            names.append(str(source.id).strip())
        source = source.parent
    return "_".join(filter(None, reversed(names)))


def atoms_from_object(source: Any, chain_ids: str) -> tuple[AtomTable, str, str]:
    """Flat atoms of the first model, the name of the structure (may be empty), and what to call it.

    Raises
    ------
    StructureError
        If there is no chain in it.
    """
    if _is_gemmi(source):
        return *table_from_gemmi_object(source, chain_ids), f"gemmi {type(source).__name__}"
    if _is_biotite(source):
        return table_from_biotite(source), "", f"biotite {type(source).__name__}"
    table, stem = table_from_biopython(source)
    return table, stem, f"Bio.PDB {stem or 'structure'}"


def _is_gemmi(value: object) -> bool:
    return is_instance_of(value, "gemmi.Structure", "gemmi.Model", "gemmi.Chain")


def _is_biotite(value: object) -> bool:
    return is_instance_of(value, "biotite.AtomArray", "biotite.AtomArrayStack")
