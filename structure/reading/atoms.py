"""The atoms of one model as flat arrays, whatever file or object they came from."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from protclip.structure.reading.residues import ALPHA_KEY, NOT_ALPHA, name_key

UNKNOWN, POLYMER, WATER = 0, 1, 4
"""Values of :attr:`AtomTable.entity` that matter here; the numbers are gemmi's ``EntityType``."""

ATOM, HETATM = ord("A"), ord("H")
"""Values of :attr:`AtomTable.record`."""

_COLUMNS = (
    "chain", "residue", "atom", "number", "icode", "altloc", "occupancy", "b_factor", "xyz", "record",
    "entity",
)  # fmt: skip
_UNKNOWN_ELEMENT, _CARBON = 0, 6
_HYDROGEN, _DEUTERIUM = 1, 119  # gemmi's element codes


@dataclass
class AtomTable:
    """n atoms of the first model, ordered by chain, then residue.

    Names of chains, residues and atoms are integers (:func:`protclip.structure.reading.residues.name_key`),
    so that comparing them costs no text handling.

    Attributes
    ----------
    chain, residue, atom : uint64 array [n]
    number : int32 array [n]
        Author residue numbers.
    icode, altloc : uint8 array [n]
        One ASCII character; 0 for none (a blank is none too in ``icode``).
    occupancy, b_factor : float32 array [n]
    xyz : float64 array [n, 3]
        Angstrom.
    record : uint8 array [n]
        :data:`ATOM` or :data:`HETATM`.
    hydrogen : int array
        Rows of hydrogens and deuteriums.
    entity : uint8 array [n]
        What the file says about the molecule: unknown, polymer, not a polymer, water.
    long_names : mapping of int to str
        Chain ids that do not fit eight bytes.
    parents : mapping of str to str
        Parent names of modified residues that the file itself declares.
    models : int
        Number of models in the source.
    predicted : bool or None
        Whether B-factors are declared to be pLDDT; None where nothing is declared.
    one_chain : bool
        All atoms are known to be of one chain.
    stretch : int32 array [n] or None
        Number of TER records in front of each atom; None where there are none.
    closed : int
        Stretches below this are closed by a TER.
    behind_end : int
        Records of atoms behind END, which are not read.
    """

    chain: NDArray[np.uint64]
    residue: NDArray[np.uint64]
    atom: NDArray[np.uint64]
    number: NDArray[np.int32]
    icode: NDArray[np.uint8]
    altloc: NDArray[np.uint8]
    occupancy: NDArray[np.float32]
    b_factor: NDArray[np.float32]
    xyz: NDArray[np.float64]
    record: NDArray[np.uint8]
    hydrogen: NDArray[np.intp]
    entity: NDArray[np.uint8]
    long_names: Mapping[int, str] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    models: int = 1
    predicted: bool | None = None
    one_chain: bool = False
    stretch: NDArray[np.int32] | None = None
    closed: int = 0
    behind_end: int = 0

    def __len__(self) -> int:
        return len(self.number)

    def group(self) -> None:
        """Put (in place) the atoms of each chain, and in it of each residue, side by side.

        They come in the order of their first appearance.
        """
        columns = (self.chain, self.number, self.icode, self.residue)
        change = np.append(True, np.zeros(max(len(self) - 1, 0), bool))[: len(self)]
        for column in columns:
            change[1:] |= column[1:] != column[:-1]
        runs = np.flatnonzero(change)
        chain, number = self.chain[runs], self.number[runs]
        onward = chain[1:] == chain[:-1]
        if (onward <= (number[1:] > number[:-1])).all() and (
            self.one_chain or len(np.unique(chain)) == len(onward) - np.count_nonzero(onward) + 1
        ):
            return  # numbers rise in every chain: the usual file
        keys = list(zip(*(column[runs].tolist() for column in columns), strict=True))
        place: dict[tuple[int, ...], int] = {}
        chains: dict[int, int] = {}
        order = [(chains.setdefault(key[0], len(chains)), place.setdefault(key, len(place))) for key in keys]
        if all(a <= b for a, b in itertools.pairwise(order)):
            return
        rank = np.repeat(np.array(order, np.intp).reshape(-1, 2), np.diff(runs, append=len(self)), axis=0)
        rows = np.lexsort(rank.T[::-1])
        self.select(rows)

    def select(self, rows: NDArray[np.intp]) -> None:
        """Keep (in place) the given rows, in the given order."""
        hydrogen = np.zeros(len(self), bool)
        hydrogen[self.hydrogen] = True
        self.hydrogen = np.flatnonzero(hydrogen[rows])
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[rows])
        if self.stretch is not None:
            self.stretch = self.stretch[rows]


def table_from_gemmi(structure: gemmi.Structure, chain_ids: str) -> AtomTable:
    """Flat arrays of the first model of a gemmi structure."""
    models = len(structure)
    while len(structure) > 1:
        del structure[-1]
    try:
        flat = gemmi.FlatStructure(structure)
        long_names: dict[int, str] = {}
    except RuntimeError:  # a chain id of eight or more characters
        long_names = _shorten_names(structure)
        flat = gemmi.FlatStructure(structure)
    one_chain = models > 0 and chain_ids == "author" and len(structure[0]) == 1
    if one_chain:
        # Most domain files; a column less to copy.
        key = name_key(structure[0][0].name)
        chain = np.full(len(flat), key, np.uint64)
    else:
        columns: Any = flat.subchains if chain_ids == "label" else flat.chain_ids
        chain = columns.view("<u8")[:, 0]
    residues: Any = flat.residue_names
    names: Any = flat.atom_names
    atom = names.view("<u8")[:, 0]
    elements = flat.elements.tobytes()
    return AtomTable(
        chain=chain,
        residue=residues.view("<u8")[:, 0],
        atom=_without_false_alphas(atom, elements),
        number=flat.resnums,
        icode=flat.icodes.view(np.uint8),
        altloc=flat.altlocs.astype(np.uint8),  # a copy in one piece: flat columns lie far apart in memory
        occupancy=flat.occ,
        b_factor=flat.b_iso,
        xyz=flat.pos,
        record=flat.het_flags.view(np.uint8),
        hydrogen=_hydrogens(elements),
        entity=flat.entity_type,
        long_names=long_names,
        models=models,
        one_chain=one_chain,
    )


def _without_false_alphas(atom: NDArray[np.uint64], elements: bytes) -> NDArray[np.uint64]:
    """Names [n], those of atoms called CA whose element is given and is not carbon changed."""
    codes = np.frombuffer(elements, np.uint8)
    wrong = (atom == ALPHA_KEY) & (codes != _CARBON) & (codes != _UNKNOWN_ELEMENT)
    return np.where(wrong, np.uint64(NOT_ALPHA), atom) if wrong.any() else atom


def _hydrogens(elements: bytes) -> NDArray[np.intp]:
    if _HYDROGEN not in elements and _DEUTERIUM not in elements:
        return np.zeros(0, np.intp)
    codes = np.frombuffer(elements, np.uint8)
    return np.flatnonzero((codes == _HYDROGEN) | (codes == _DEUTERIUM))


def _shorten_names(structure: gemmi.Structure) -> dict[int, str]:
    """Rename chains to ``~0``, ``~1``, ... and return what they were called, by key."""
    known: dict[str, str] = {}
    for chain in structure[0]:
        chain.name = known.setdefault(chain.name, f"~{len(known):x}")
        for residue in chain:
            if residue.subchain:
                residue.subchain = known.setdefault(residue.subchain, f"~{len(known):x}")
            residue.entity_id = residue.entity_id[:7]
            residue.name = residue.name[:7]
            for atom in residue:
                atom.name = atom.name[:7]
    return {name_key(short): name for name, short in known.items()}
