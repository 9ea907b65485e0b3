"""Proteins to and from torchdrug (the optional extra ``protclip[torchdrug]``), residues and backbone atoms.

torchdrug is imported by the first call, and torch stays as it is
(:mod:`protclip.structure.torchdrug_import`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.errors import StructureError
from protclip.structure.protein import BACKBONE, Protein
from protclip.structure.torchdrug_import import MissingTorchdrugError, import_torchdrug
from protclip.typing import Indices

__all__ = ["MissingTorchdrugError", "from_torchdrug", "to_torchdrug"]

ATOMIC_NUMBERS = (7, 6, 6, 8)
"""Of :data:`protclip.structure.protein.BACKBONE`."""

_BONDS = (("N", "CA", "SINGLE"), ("CA", "C", "SINGLE"), ("C", "O", "DOUBLE"))
_CHAIN = re.compile(r"_([A-Za-z0-9])$")
_BLANK = " "


def to_torchdrug(protein: Protein, *, chain: str | None = None) -> Any:
    """A ``torchdrug.data.Protein`` of the residues and backbone atoms of ``protein``, in residue view.

    Atoms that are missing are left out, residues never.  Bonds are those of the backbone, peptide bonds
    between neighbours of bonding distance included.  ``residue_feature`` is torchdrug's default, one-hot
    with 21 columns; letters other than the twenty are glycine in ``residue_type``, as torchdrug has it, and
    the last column here. ``b_factor`` holds the predicted confidence where there is one.

    Parameters
    ----------
    protein : Protein
    chain : str, optional
        One letter or digit, or a blank. By default the one at the end of an id such as ``1abc_A``, else a
        blank.

    Returns
    -------
    torchdrug.data.Protein
        On the CPU.

    Raises
    ------
    StructureError
        If ``chain`` or an insertion code is nothing that torchdrug can hold.
    MissingTorchdrugError
        If torchdrug is not installed.
    """
    data = import_torchdrug("the conversion of proteins").data
    kind = data.Protein
    n = len(protein)
    if chain is None:
        found = _CHAIN.search(protein.id)
        chain = found.group(1) if found else _BLANK
    if chain not in kind.alphabet2id:
        raise StructureError(
            "torchdrug holds chain ids of one letter or digit",
            where=protein.id,
            got=repr(chain),
            hint="Pass another one as chain=",
        )
    codes = [code.decode("latin-1") or _BLANK for code in protein.insertion_code.tolist()]
    if strange := sorted(set(codes) - set(kind.alphabet2id)):
        raise StructureError(
            "torchdrug holds insertion codes of one letter or digit", where=protein.id, got=repr(strange[0])
        )
    residue, atom = np.nonzero(np.isfinite(protein.coords).all(-1))
    place = np.full((n, len(BACKBONE)), -1)
    place[residue, atom] = np.arange(len(residue))
    edges = _bonds(place, ~protein.chain_breaks, data.Molecule.bond2id)
    unknown = len(kind.residue_symbol2id)
    column = torch.tensor([kind.residue_symbol2id.get(letter, unknown) for letter in protein.sequence])
    names = np.array([kind.atom_name2id[name] for name in BACKBONE])
    return kind(
        edge_list=edges,
        num_node=len(residue),
        atom_type=np.array(ATOMIC_NUMBERS)[atom],
        bond_type=edges[:, 2],
        residue_type=torch.where(column == unknown, 0, column),
        view="residue",
        atom_name=names[atom],
        atom2residue=residue,
        residue_feature=torch.nn.functional.one_hot(column, unknown + 1).float(),
        b_factor=None if protein.plddt is None else protein.plddt[residue],
        residue_number=protein.residue_number.astype(np.int64),
        insertion_code=[kind.alphabet2id[code] for code in codes],
        chain_id=[kind.alphabet2id[chain]] * n,
        node_position=torch.from_numpy(np.ascontiguousarray(protein.coords[residue, atom])),
    )


def _bonds(place: Indices, bonded: NDArray[np.bool_], bond_id: dict[str, int]) -> Tensor:
    """Edges [E, 3] of the backbone, both ways; ``place`` [L, 4] is the row of every atom, -1 if missing."""
    parts = []
    for one, other, name in _BONDS:
        pair = place[:, [BACKBONE.index(one), BACKBONE.index(other)]]
        parts.append((pair, bond_id[name]))
    carbon, nitrogen = BACKBONE.index("C"), BACKBONE.index("N")
    peptide = np.stack([place[:-1, carbon], place[1:, nitrogen]], 1)[bonded]
    parts.append((peptide, bond_id["SINGLE"]))
    rows = np.concatenate([np.column_stack([pair, np.full(len(pair), bond)]) for pair, bond in parts])
    rows = rows[(rows[:, :2] >= 0).all(1)]
    return torch.from_numpy(np.concatenate([rows, rows[:, [1, 0, 2]]]))


def from_torchdrug(
    protein: Any, *, id: str = "torchdrug", chain: str | None = None, confidence: bool = False
) -> Protein:
    """A :class:`Protein` of one chain of a ``torchdrug.data.Protein``.

    Takes residue types, numbers, insertion codes and the atoms N, CA, C and O.  Side chains, hetero atoms
    within residues and features are left behind.  Where ``residue_feature`` marks a residue as none of the
    twenty, it is X.

    Parameters
    ----------
    protein : torchdrug.data.Protein
        On any device.
    id : str
        Of the result.
    chain : str, optional
        Which chain; needed only where there are several.
    confidence : bool
        True if ``b_factor`` is the predicted confidence (pLDDT) of a model.

    Raises
    ------
    StructureError
        If it is no single protein, has no coordinates, several chains and none was chosen, or not the
        chosen one.
    MissingTorchdrugError
        If torchdrug is not installed.
    """
    data = import_torchdrug("the conversion of proteins").data
    kind = data.Protein
    if not isinstance(protein, kind) or isinstance(protein, data.PackedProtein):
        raise StructureError(
            "not a torchdrug protein",
            where=id,
            got=type(protein).__name__,
            expected="torchdrug.data.Protein",
            hint="Convert the members of a batch one by one"
            if isinstance(protein, data.PackedProtein)
            else None,
        )
    if not hasattr(protein, "node_position"):
        raise StructureError(
            "the torchdrug protein has no coordinates",
            where=id,
            expected="node_position, as torchdrug.data.Protein.from_pdb gives it",
        )
    rows = _chain_rows(protein, kind, id, chain)
    n = len(rows)
    if n == 0:
        raise StructureError("no residues", where=id, got="0", expected="at least 1")
    place = np.full(int(protein.num_residue), -1)
    place[rows] = np.arange(n)
    coords = np.full((n, len(BACKBONE), 3), np.nan, np.float32)
    # An atom that is there twice (alternative locations): the first one.
    names, owner = _array(protein.atom_name)[::-1], _array(protein.atom2residue)[::-1]
    position, factor = _array(protein.node_position)[::-1], _array(protein.b_factor)[::-1]
    plddt = np.full(n, np.nan, np.float32)
    held = (owner >= 0) & (place[owner] >= 0)
    for column, name in enumerate(BACKBONE):
        atoms = np.flatnonzero(held & (names == kind.atom_name2id[name]))
        coords[place[owner[atoms]], column] = position[atoms]
        plddt[place[owner[atoms]]] = factor[atoms]
    codes = [kind.id2alphabet[int(code)].strip().encode() for code in _array(protein.insertion_code)[rows]]
    return Protein(
        id,
        _letters(protein, kind, rows),
        coords,
        _array(protein.residue_number)[rows].astype(np.int32),
        np.array(codes, "S1"),
        plddt if confidence else None,
    )


def _chain_rows(protein: Any, kind: Any, where: str, chain: str | None) -> Indices:
    """Residues of the chain that was asked for, or of the only one."""
    chains = [kind.id2alphabet[int(code)] for code in _array(protein.chain_id)]
    present = list(dict.fromkeys(chains))
    if chain is None and len(present) > 1:
        raise StructureError(
            "several chains", where=where, got=", ".join(map(repr, present)), hint="Choose one with chain="
        )
    if chain is not None and chain not in present:
        raise StructureError(
            "no such chain", where=where, got=repr(chain), expected=" or ".join(map(repr, present))
        )
    return np.flatnonzero([chain in (None, one) for one in chains])


def _letters(protein: Any, kind: Any, rows: Indices) -> str:
    letters = [kind.id2residue_symbol[int(index)] for index in _array(protein.residue_type)[rows]]
    feature = getattr(protein, "residue_feature", None)
    if feature is not None and feature.ndim == 2 and feature.shape[1] == len(kind.residue_symbol2id) + 1:
        unknown = _array(feature)[rows, -1] == 1
        letters = ["X" if strange else letter for letter, strange in zip(letters, unknown, strict=True)]
    return "".join(letters)


def _array(tensor: Tensor) -> NDArray[Any]:
    values: NDArray[Any] = tensor.detach().cpu().numpy()
    return values
