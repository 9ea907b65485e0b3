"""Alternate locations and microheterogeneity: one conformer of one residue at each position."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from protclip.structure.reading.atoms import AtomTable

_SAME_PLACE = (
    2.0  # Angstrom: alternatives of one residue overlap, neighbours along a chain are 2.8 or more apart
)


@dataclass
class Groups:
    """Which rows of an atom table make up which residue.

    Attributes
    ----------
    starts : int array [R]
        First row of every residue.
    atoms : int
        Number of rows.
    alternates : bool
        Whether any atom has an alternate location.
    """

    starts: NDArray[np.intp]
    atoms: int
    alternates: bool
    _chosen: NDArray[np.uint8] | None = None

    @classmethod
    def of(cls, table: AtomTable) -> Groups:
        """A residue ends where chain, number, insertion code or residue name change."""
        first = np.empty(len(table), bool)
        first[0] = True
        change = np.not_equal(table.number[1:], table.number[:-1], out=first[1:])
        change |= table.residue[1:] != table.residue[:-1]
        change |= table.icode[1:] != table.icode[:-1]
        if not table.one_chain:
            change |= table.chain[1:] != table.chain[:-1]
        return cls(first.nonzero()[0], len(table), bool(table.altloc.any()))

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        """Atoms [R] of each residue."""
        return np.diff(self.starts, append=self.atoms)

    @cached_property
    def residue_of_atom(self) -> NDArray[np.intp]:
        """Residue [n] of each atom."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def chosen(self, table: AtomTable, altloc: str) -> NDArray[np.uint8]:
        """:func:`chosen_altloc`, worked out once."""
        if self._chosen is None:
            self._chosen = chosen_altloc(table, self, altloc)
        return self._chosen

    def count(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """How many of the given rows lie in each residue, [R]."""
        counts: NDArray[np.intp] = np.bincount(self.residue_of_atom[rows], minlength=len(self))
        return counts


@dataclass
class Backbone:
    """Which atom row stands for each of K backbone atoms of R residues.

    Attributes
    ----------
    rows : int array [R, K]
        Row in the table; the first row of the residue where the atom is not present.
    present : bool array [R, K]
    complete : bool
        All are known to be present, once each and without alternates.
    repeats : int array [R] or None
        Atoms whose residue, name and label came before; None if there are none.
    moved : bool array [R] or None
        Whether a repeated atom lies somewhere else than the first.
    """

    rows: NDArray[np.intp]
    present: NDArray[np.bool_]
    complete: bool = False
    repeats: NDArray[np.intp] | None = None
    moved: NDArray[np.bool_] | None = None


def _occupancy(table: AtomTable, rows: NDArray[np.intp] | slice) -> NDArray[np.float64]:
    """Occupancies within 0 to 1, whatever the file says."""
    value = table.occupancy[rows].astype(np.float64)
    return np.clip(np.nan_to_num(value), 0.0, 1.0)


def chosen_altloc(table: AtomTable, groups: Groups, altloc: str) -> NDArray[np.uint8]:
    """The conformer [n] of every residue, 0 where it has no alternates.

    ``altloc="occupancy"`` takes the label with the largest summed occupancy in the residue, ties to the label
    that comes first in the file; ``"first"`` the label that comes first.
    """
    rows = np.flatnonzero(table.altloc)
    residue = groups.residue_of_atom[rows]
    pairs, first, inverse = np.unique(
        residue * 256 + table.altloc[rows], return_index=True, return_inverse=True
    )
    # Occupancies have two decimals; float sums must not break ties.
    occupancy = _occupancy(table, rows) if altloc == "occupancy" else np.zeros(len(rows))
    weight = np.round(np.bincount(inverse, occupancy, minlength=len(pairs)), 3)
    # lexsort: the last key leads. The winner of each residue is written last.
    order = np.lexsort((-first, weight, pairs // 256))
    chosen = np.zeros(len(groups), np.uint8)
    chosen[pairs[order] // 256] = pairs[order] % 256
    return chosen


def count_alternates(table: AtomTable, groups: Groups, altloc: str) -> NDArray[np.intp]:
    """Atoms [R] of conformers that were not chosen, per residue."""
    rows = np.flatnonzero(table.altloc)
    chosen = groups.chosen(table, altloc)[groups.residue_of_atom[rows]]
    return groups.count(rows[table.altloc[rows] != chosen])


def backbone_rows(table: AtomTable, groups: Groups, keys: NDArray[np.uint64], altloc: str) -> Backbone:
    """Find the backbone atoms ``keys`` of every residue.

    Where there are several, the chosen conformer leads, then atoms without a label, then the highest
    occupancy, then the first in the file.
    """
    n = len(groups)
    starts = groups.starts
    # Nearly every file lists N, CA, C, O first in each residue and once: look there before searching.
    if not groups.alternates and starts[-1] + len(keys) <= groups.atoms:
        rows = starts[:, None] + np.arange(len(keys))
        if (table.atom[rows] == keys).all() and all(np.count_nonzero(table.atom == key) == n for key in keys):
            return Backbone(rows, np.ones(rows.shape, bool), True)
    width = len(keys)
    column = np.full(groups.atoms, -1, np.int8)
    for k, key in enumerate(keys):
        column[table.atom == key] = k
    hits = np.flatnonzero(column >= 0)
    slot = groups.residue_of_atom[hits] * width + column[hits]
    result = Backbone(np.repeat(starts, width), np.zeros(n * width, bool))
    if len(hits) and np.bincount(slot).max() > 1:
        hits, slot = _leading(table, groups, hits, slot, width, altloc, result)
    result.rows[slot] = hits
    result.present[slot] = True
    result.rows, result.present = result.rows.reshape(n, width), result.present.reshape(n, width)
    return result


def _leading(
    table: AtomTable,
    groups: Groups,
    hits: NDArray[np.intp],
    slot: NDArray[np.intp],
    width: int,
    altloc: str,
    result: Backbone,
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One row for each slot (``residue * width + atom``), and the slots; notes repeats in ``result``."""
    label = table.altloc[hits]
    chosen = groups.chosen(table, altloc)[slot // width] if groups.alternates else 0
    rank = np.where(label == chosen, 0, np.where(label == 0, 1, 2))
    occupancy = _occupancy(table, hits) * (rank == 2)
    order = np.lexsort((hits, -occupancy, rank, slot))
    hits, slot, label = hits[order], slot[order], label[order]
    again = slot[1:] == slot[:-1]
    repeat = np.flatnonzero(again & (label[1:] == label[:-1])) + 1
    if len(repeat):
        result.repeats, result.moved = groups.count(hits[repeat]), np.zeros(len(groups), bool)
        with np.errstate(invalid="ignore"):
            shift = np.linalg.norm(table.xyz[hits[repeat]] - table.xyz[hits[repeat - 1]], axis=-1)
        result.moved[slot[repeat[shift > _SAME_PLACE]] // width] = True
    first = np.flatnonzero(np.append(True, ~again))
    return hits[first], slot[first]


def heterogeneous(
    ca: NDArray[np.float64],
    same: NDArray[np.bool_],
    table: AtomTable,
    index: NDArray[np.intp],
    groups: Groups,
) -> NDArray[np.bool_]:
    """Mask of the residues that lose against another type at the same position.

    ``same[i]`` says that residues i and i + 1 share chain, number and insertion code. They are alternatives
    if they are labelled as such or lie on top of each other; the highest mean occupancy wins, ties to the
    first. Otherwise they are two residues that a careless numbering gave one number; both stay.
    """
    starts = groups.starts
    ends = starts + groups.sizes
    lost = np.zeros(len(index), bool)
    best = 0
    for i in range(1, len(index)):
        if not same[i - 1]:
            best = i
            continue
        labelled = table.altloc[starts[index[i]]] != 0
        with np.errstate(invalid="ignore"):
            apart = float(np.linalg.norm(ca[i] - ca[best]))
        if not labelled and not apart <= _SAME_PLACE:
            best = i
            continue
        mean = [float(np.mean(_occupancy(table, slice(starts[index[j]], ends[index[j]])))) for j in (best, i)]
        if mean[1] > mean[0] + 1e-6:
            lost[best], best = True, i
        else:
            lost[i] = True
    return lost
