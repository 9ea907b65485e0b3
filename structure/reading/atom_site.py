"""The atom_site table of mmCIF and BinaryCIF: columns to atoms, one rule for both formats.

Names and numbers are the authors', and those of the archive (``label_``) where a value is missing; with
``chain_ids="label"`` chains are named the other way round.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atoms import ATOM, HETATM, POLYMER, UNKNOWN, WATER, AtomTable
from protclip.structure.reading.blocks import Block
from protclip.structure.reading.confidence import table_confidence
from protclip.structure.reading.elements import HYDROGEN, KINDS, guess_symbol, rename_false_alphas
from protclip.structure.reading.residues import name_key

NO_NUMBER = -(2**31)
"""Stands for a residue number that is not given."""

_NOT_POLYMER = 2
_ENTITY = {
    "polymer": POLYMER,
    "water": WATER,
    "non-polymer": _NOT_POLYMER,
    "branched": 3,
    "macrolide": _NOT_POLYMER,
}
_REAL = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?(?:\([0-9]+\))?|[-+]?nan", re.I)
_SEQUENCE_ID = re.compile(r"([-+]?[0-9]+)([A-Za-z]?)")


class AtomSite:
    """Columns of the atom_site table of a block.

    Parameters
    ----------
    block : Block
    """

    def __init__(self, block: Block) -> None:
        self.block, self.where = block, block.where
        x = block.text("atom_site", "Cartn_x")
        self.rows = 0 if x is None else len(x)

    def text(self, *names: str, missing: str = "") -> NDArray[np.str_]:
        """The first of the columns, its missing values from the next, and so on."""
        result: NDArray[np.str_] | None = None
        for name in names:
            column = self.block.text("atom_site", name)
            if column is not None:
                result = column if result is None else np.where(result == "", column, result)
        if result is None:
            return np.full(self.rows, missing)
        return np.where(result == "", missing, result) if missing else result

    def required(self, *names: str) -> NDArray[np.str_]:
        """As :meth:`text`, of columns one of which has to be there.

        Raises
        ------
        StructureError
            If none of them is.
        """
        if all(self.block.text("atom_site", name) is None for name in names):
            raise StructureError(
                "a column of the atom table is missing",
                where=self.where,
                got=f"no atom_site.{names[0]}",
                expected=" or ".join(f"atom_site.{name}" for name in names),
            )
        return self.text(*names)

    def numbers(self, name: str, default: float) -> NDArray[np.float64]:
        """A column of real numbers; missing values are ``default``.

        Raises
        ------
        StructureError
            With row and column, if a value is no number.
        """
        stored = self.block.reals("atom_site", name)
        if stored is not None:
            if np.isinf(stored).any():
                self._refuse(name, "inf", int(np.flatnonzero(np.isinf(stored))[0]), "a number")
            return np.where(np.isnan(stored), default, stored)
        text = self.text(name)
        values = np.full(len(text), default)
        for i, value in enumerate(text.tolist()):
            if value:
                if not _REAL.fullmatch(value):
                    self._refuse(name, value, i, "a number such as -12.345")
                values[i] = float(value.partition("(")[0])
        return values

    def sequence_ids(self, *names: str) -> tuple[NDArray[np.int32], NDArray[np.str_]]:
        """Residue numbers of columns as of :meth:`required`, and the letters that may stand behind them.

        Missing numbers are :data:`NO_NUMBER`. Authors' numbers are text in the dictionary, so that some files
        have the insertion code in them (``52A``).

        Raises
        ------
        StructureError
            With row and column, if a value is no integer of 32 bits with at most a letter behind.
        """
        text = self.required(*names)
        values = np.full(len(text), NO_NUMBER, np.int32)
        letters = np.full(len(text), "", "U1")
        for i, value in enumerate(text.tolist()):
            if value:
                match = _SEQUENCE_ID.fullmatch(value)
                if match is None or not abs(int(match[1][:20])) < 2**31:
                    self._refuse(names[0], value, i, "an integer of at most 32 bits")
                else:
                    values[i], letters[i] = int(match[1]), match[2]
        return values, letters

    def _refuse(self, name: str, value: str, row: int, expected: str) -> None:
        atom = self.text("id")[row]
        raise StructureError(
            f"{name} is not a number",
            where=f"{self.where} atom_site row {row + 1}" + (f" (id {atom})" if atom else ""),
            got=repr(value[:40]),
            expected=expected,
        )


def table_from_atom_site(block: Block, chain_ids: str) -> AtomTable:
    """Atoms of the first model.

    Raises
    ------
    StructureError
        If a column is missing that nothing can replace, or a value that should be a number is none.
    """
    site = AtomSite(block)
    xyz = np.stack([_axis(site, f"Cartn_{axis}") for axis in "xyz"], 1)
    asym = ("label_asym_id", "auth_asym_id") if chain_ids == "label" else ("auth_asym_id", "label_asym_id")
    atom, residue = (
        site.required("auth_atom_id", "label_atom_id"),
        site.required("auth_comp_id", "label_comp_id"),
    )
    chain, long_names = chain_keys(site.text(*asym))
    kinds = _entities(block)
    symbol = _symbols(site, atom, residue)
    kind = KINDS[name_keys(symbol) & 0xFFFF]
    model = site.text("pdbx_PDB_model_num")
    number, letter = site.sequence_ids("auth_seq_id", "label_seq_id")
    code = site.text("pdbx_PDB_ins_code")
    table = AtomTable(
        chain=chain,
        residue=name_keys(residue),
        atom=rename_false_alphas(name_keys(atom), kind),
        number=number,
        icode=characters(np.where(code == "", letter, code)),
        altloc=characters(site.text("label_alt_id")),
        occupancy=site.numbers("occupancy", 1.0).astype(np.float32),
        b_factor=site.numbers("B_iso_or_equiv", np.nan).astype(np.float32),
        xyz=xyz,
        record=np.where(site.text("group_PDB") == "HETATM", HETATM, ATOM).astype(np.uint8),
        hydrogen=np.flatnonzero(kind == HYDROGEN),
        entity=np.array([kinds.get(e, UNKNOWN) for e in site.text("label_entity_id").tolist()], np.uint8),
        long_names=long_names,
        models=len(np.unique(model)) if site.rows else 1,
    )
    table.parents = modified_parents(block)
    plddt, table.predicted = table_confidence(block, site.text("label_asym_id"), site.text("label_seq_id"))
    if plddt is not None:
        table.b_factor = plddt
    table.select(np.flatnonzero(model == model[0]) if site.rows else np.zeros(0, np.intp))
    table.group()
    return table


def _axis(site: AtomSite, name: str) -> NDArray[np.float64]:
    site.required(name)
    return site.numbers(name, np.nan)


def _symbols(site: AtomSite, atom: NDArray[np.str_], residue: NDArray[np.str_]) -> NDArray[np.str_]:
    """Elements in capitals, guessed from the names where they are not given."""
    symbol = np.char.upper(site.text("type_symbol"))
    missing = symbol == ""
    if missing.any():
        symbol = symbol.astype("U4")
        names = zip(atom[missing].tolist(), residue[missing].tolist(), strict=True)
        symbol[missing] = [guess_symbol(*pair) for pair in names]
    return symbol


def modified_parents(block: Block) -> Mapping[str, str]:
    """Parents of the modified residues that a file declares."""
    parents = block.text("pdbx_struct_mod_residue", "parent_comp_id")
    for column in ("auth_comp_id", "label_comp_id"):
        names = block.text("pdbx_struct_mod_residue", column)
        if names is not None and parents is not None:
            return dict(zip(names.tolist(), parents.tolist(), strict=True))
    return {}


def name_keys(names: NDArray[np.str_]) -> NDArray[np.uint64]:
    """Names as :func:`protclip.structure.reading.residues.name_key` has them."""
    keys: NDArray[np.uint64] = np.char.encode(names, "ascii", "replace").astype("S8").view("<u8")
    return keys


def characters(text: NDArray[np.str_]) -> NDArray[np.uint8]:
    """The first character of each text [n]; 0 for none."""
    return np.char.encode(text, "ascii", "replace").astype("S1").view(np.uint8)


def chain_keys(labels: NDArray[np.str_]) -> tuple[NDArray[np.uint64], dict[int, str]]:
    """Keys [n] of chain names, and the names behind the keys where they do not fit in."""
    names, inverse = np.unique(labels, return_inverse=True)
    if max((len(name) for name in names), default=0) <= 8 and all(name.isascii() for name in names.tolist()):
        return name_keys(labels), {}
    short = np.array([name_key(f"~{i:x}") for i in range(len(names))], np.uint64)
    return short[inverse], {int(key): str(name) for key, name in zip(short, names, strict=True)}


def _entities(block: Block) -> dict[str, int]:
    ids, kinds = block.text("entity", "id"), block.text("entity", "type")
    if ids is None or kinds is None:
        return {}
    return {
        i: _ENTITY.get(kind.lower(), UNKNOWN) for i, kind in zip(ids.tolist(), kinds.tolist(), strict=True)
    }
