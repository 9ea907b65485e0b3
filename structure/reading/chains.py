"""From flat atoms to the residues and coordinates of every protein chain."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.protein import BOND_LENGTH_LIMIT
from protclip.structure.reading.atoms import HETATM, POLYMER, UNKNOWN, WATER, AtomTable
from protclip.structure.reading.conformers import Groups, backbone_rows, count_alternates, heterogeneous
from protclip.structure.reading.polymer import belongs_to_chain
from protclip.structure.reading.residues import BACKBONE_KEYS, CODES, NOT_ALPHA, Kind, classify, key_name

UNPLACED = 9999.0
"""Angstrom. Refinement programs write 9999.000 for atoms that they never placed, and no real model lies so
far from the origin."""

_UPPER = 0xDF  # clears the bit that makes an ASCII letter lower-case
_NO_NUMBER = -(2**31)  # gemmi's mark
_BLANK = 32  # an empty insertion code in PDB columns
_N, _CA, _C, _O = range(4)

_REASONS = (
    "", "water", "ligand", "nucleic acid", "cap", "unknown residue", "no backbone", "microheterogeneity",
    "duplicate residue",
)  # fmt: skip
_WATER, _LIGAND, _NUCLEIC, _CAP, _STRANGE, _BARE, _HETERO, _DUPLICATE = range(1, 9)


@dataclass
class ResidueTable:
    """R residues of a file, of every kind.

    ``drop[i]`` is 0 for a protein residue that is kept, else the number of the reason in ``_REASONS``.
    ``ca_row`` is the atom that speaks for the residue: the C-alpha, or the first atom where there is none.
    ``atom_counts`` holds per-residue tallies of atoms left out: alternates, duplicates, hydrogens, unplaced.
    """

    chain: NDArray[np.uint64]
    number: NDArray[np.int32]
    icode: NDArray[np.uint8]
    letter: NDArray[np.uint8]
    coords: NDArray[np.float64]
    ca_row: NDArray[np.intp]
    drop: NDArray[np.uint8]
    atom_counts: dict[str, NDArray[np.intp]]
    groups: Groups
    modified: NDArray[np.bool_] | None = None
    plain: bool = True
    """Nothing was left out or changed."""

    NUCLEIC: ClassVar[int] = 3  # the reason "nucleic acid"

    def dropped(self, index: NDArray[np.intp]) -> dict[str, int]:
        """What was left out of or changed in the residues ``index``, by kind."""
        tally: Counter[str] = Counter()
        reasons = self.drop[index]
        kept = reasons == 0
        if not kept.all():
            for reason, count in enumerate(np.bincount(reasons, minlength=len(_REASONS)).tolist()):
                if reason and count:
                    tally[_REASONS[reason]] = count
            index = index[kept]
        for kind, per_residue in self.atom_counts.items():
            tally[kind] = int(per_residue[index].sum())
        if self.modified is not None:
            tally["modified residue"] = int(self.modified[index].sum())
        missing = np.isnan(self.coords[index, _CA, 0])
        if missing.any():
            tally["no C-alpha"] = int(missing.sum())
        return {kind: count for kind, count in tally.items() if count}


def residue_table(table: AtomTable, altloc: str, where: str) -> ResidueTable:
    """Group atoms into residues, pick conformers and decide which residues are protein.

    Raises
    ------
    StructureError
        If one chain id stands for several molecules.
    """
    groups = Groups.of(table)
    starts, n = groups.starts, len(groups)
    codes = bytes(map(CODES.__getitem__, table.residue[starts].tolist()))

    backbone = backbone_rows(table, groups, BACKBONE_KEYS, altloc)
    present = backbone.present
    coords = table.xyz.take(backbone.rows, 0)
    coords += 0.0  # -0.0 is 0.0, which not every reader tells apart
    unplaced = _mask_unplaced(coords, present, backbone.complete)
    icode = table.icode[starts]
    icode[icode == _BLANK] = 0
    het = table.record[starts] == HETATM

    residues = ResidueTable(
        chain=table.chain[starts],
        number=table.number[starts],
        icode=icode,
        letter=np.frombuffer(codes, np.uint8),
        coords=coords,
        ca_row=backbone.rows[:, _CA],
        drop=np.zeros(n, np.uint8),
        atom_counts={},
        groups=groups,
    )
    if not (codes.isalpha() and codes.isupper()) or het.any():
        _classify(residues, het, table, present)
    if not backbone.complete:
        residues.plain = False
        bare = ~present.any(1) & (residues.drop == 0)
        residues.drop[bare] = _BARE
        ions = np.flatnonzero(table.atom == NOT_ALPHA)
        if len(ions):
            residues.drop[bare & (groups.count(ions) > 0)] = _LIGAND
    if groups.alternates:
        residues.atom_counts["altloc"] = count_alternates(table, groups, altloc)
    if len(table.hydrogen):
        residues.atom_counts["hydrogen"] = groups.count(table.hydrogen)
    if unplaced is not None:
        residues.atom_counts["unplaced atom"] = unplaced
    if backbone.repeats is not None:
        residues.atom_counts["duplicate atom"] = backbone.repeats
    residues.plain &= not residues.atom_counts
    _resolve_repeats(residues, table, backbone.moved, where)
    return residues


def _mask_unplaced(
    coords: NDArray[np.float64], present: NDArray[np.bool_], complete: bool
) -> NDArray[np.intp] | None:
    """Blank (in place) the atoms without a position; how many per residue, None if none."""
    if not complete:
        coords[~present] = np.nan
    elif coords.min() > -UNPLACED and coords.max() < UNPLACED and np.count_nonzero(coords) > coords.size - 6:
        return None  # the usual case: nothing missing, nothing far away, no two atoms at the origin
    with np.errstate(invalid="ignore"):
        placed = (np.abs(coords) < UNPLACED).all(-1)
    origin = (coords == 0).all(-1)
    if np.count_nonzero(origin) > 1:  # two atoms cannot share a place: the origin stands for "unknown"
        placed &= ~origin
    lost = present & ~placed
    if not lost.any():
        return None
    coords[lost] = np.nan
    count: NDArray[np.intp] = lost.sum(1)
    return count


def _classify(
    residues: ResidueTable,
    het: NDArray[np.bool_],
    table: AtomTable,
    present: NDArray[np.bool_],
) -> None:
    """Set ``drop`` of everything that is not a residue of a protein."""
    drop, starts = residues.drop, residues.groups.starts
    residues.plain = False
    residues.modified, kind = _unpack(residues.letter)
    residues.letter = np.where(kind >= Kind.MODIFIED, residues.letter & _UPPER, ord("X"))
    entity = table.entity[starts]
    drop[(kind == Kind.WATER) | (entity == WATER)] = _WATER
    drop[kind == Kind.NUCLEIC] = _NUCLEIC
    drop[kind == Kind.CAP] = _CAP
    drop[kind == Kind.ION] = _LIGAND
    # A name outside the tables is judged by its atoms: a backbone, or a C-alpha trace in ATOM records.
    strange = kind == Kind.UNKNOWN
    if strange.any():
        lone = np.diff(np.append(starts, len(table))) == 1
        backbone = present[:, _CA] & (present[:, _N] | present[:, _C] | (lone & ~het))
        drop[strange & ~backbone & het] = _LIGAND
        drop[strange & ~backbone & ~het] = _STRANGE
        residues.modified |= strange & backbone
        for i in np.flatnonzero(strange & backbone):
            parent = table.parents.get(key_name(int(table.residue[starts[i]])))
            if parent:
                residues.letter[i] = ord(classify(parent)[0])
    doubtful = het & (drop == 0) & (entity != POLYMER)
    if not doubtful.any():
        return
    # HETATM: a modified residue of the chain, or a free amino acid? The file's own entity decides, then bonds
    # and the continuity of the chain.
    drop[doubtful & (entity != UNKNOWN)] = _LIGAND
    index = np.flatnonzero(drop == 0)
    stretch = None if table.stretch is None else table.stretch[starts[index]]
    kept = belongs_to_chain(
        residues.coords[index],
        residues.chain[index],
        residues.number[index],
        doubtful[index],
        stretch,
        table.closed,
    )
    drop[index[~kept]] = _LIGAND


def _unpack(codes: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Which residues are modified, and the kind of each, from the characters of ``CODES``."""
    kind = np.where(codes < ord("A"), codes - ord("0"), Kind.AMINO).astype(np.uint8)
    modified = codes >= ord("a")
    kind[modified] = Kind.MODIFIED
    return modified, kind


def _resolve_repeats(
    residues: ResidueTable,
    table: AtomTable,
    moved: NDArray[np.bool_] | None,
    where: str,
) -> None:
    """Count each residue number once: microheterogeneity, repeated residues, mixed-up molecules."""
    number, chain, index = residues.number, residues.chain, np.arange(len(residues.drop))
    if residues.drop.any():
        index = np.flatnonzero(residues.drop == 0)
        number, chain = number[index], chain[index]
    rising = number[1:] > number[:-1]
    if moved is None and table.one_chain and rising.all() and _NO_NUMBER not in number[:1]:
        return  # the usual domain file
    _check_numbers(residues, table, where)
    if moved is None and _unique(number, chain, residues.icode[index]):
        return
    key = np.stack(
        [chain, number.view(np.uint32), residues.icode[index]], 1, dtype=np.uint64, casting="unsafe"
    )
    same = (key[1:] == key[:-1]).all(1)
    if same.any():
        lost = heterogeneous(residues.coords[index, _CA], same, table, index, residues.groups)
        residues.drop[index[lost]] = _HETERO
        residues.plain = False
        index, key = index[~lost], key[~lost]
    extra = _repeated(key.tolist(), residues.coords[index, _CA])
    residues.drop[index[extra]] = _DUPLICATE
    residues.plain &= not extra
    conflicts = Counter(residues.chain[index[extra]].tolist())
    if moved is not None:
        conflicts += Counter(residues.chain[np.flatnonzero(moved & (residues.drop == 0))].tolist())
    if not conflicts:
        return
    size = Counter(residues.chain[index].tolist())
    for chain_key, count in conflicts.items():
        if count > max(5, size[chain_key] // 5):
            name = _name(table, chain_key)
            raise StructureError(
                "one chain id stands for several molecules",
                where=f"{where} chain {name or '(blank)'}",
                got=f"{count} residue numbers used more than once",
                expected="every residue number once in a chain",
                hint="Give each molecule its own chain id",
            )


def _name(table: AtomTable, chain_key: int) -> str:
    return table.long_names.get(chain_key) or key_name(chain_key)


def _unique(number: NDArray[np.int32], chain: NDArray[np.uint64], icode: NDArray[np.uint8]) -> bool:
    rank = np.unique(chain, return_inverse=True)[1] if len(chain) else chain
    key = (rank.astype(np.int64) << 40) + (number.astype(np.int64) << 8) + icode
    key.sort()
    return bool((key[1:] != key[:-1]).all())


def _check_numbers(residues: ResidueTable, table: AtomTable, where: str) -> None:
    i = int(residues.number.argmin())
    if residues.number[i] != _NO_NUMBER:
        return
    before = residues.number[i - 1] if i else "nothing"
    raise StructureError(
        "residue without a number",
        where=f"{where} chain {_name(table, int(residues.chain[i])) or '(blank)'}",
        got=f"{key_name(int(table.residue[residues.groups.starts[i]]))} after {before}",
        expected="an author residue number in every record",
    )


def _repeated(keys: list[list[int]], ca: NDArray[np.float64]) -> list[int]:
    """Residues whose number was used before, but not by the bonded residue right before them.

    Where insertion codes were stripped, neighbours share a number and are residues in their own right.
    """
    seen: dict[tuple[int, ...], int] = {}
    extra = []
    for i, key in enumerate(map(tuple, keys)):
        last = seen.get(key)
        if last is None or (last == i - 1 and np.linalg.norm(ca[i] - ca[last]) <= BOND_LENGTH_LIMIT):
            seen[key] = i
        else:
            extra.append(i)
    return extra
