"""Which residues in HETATM records belong to a chain: modified residues, and no free amino acids.

A record of the end of a chain (TER) alone decides nothing: programs write it at gaps, and behind every
molecule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from protclip.structure.protein import BACKBONE, BOND_LENGTH_LIMIT, UNKNOWN_GAP

_N, _CA, _C = (BACKBONE.index(name) for name in ("N", "CA", "C"))
_C_N_LIMIT = 2.0  # Angstrom: a peptide bond is 1.33


def belongs_to_chain(
    coords: NDArray[np.float64],
    chain: NDArray[np.uint64],
    number: NDArray[np.int32],
    het: NDArray[np.bool_],
    stretch: NDArray[np.int32] | None,
    closed: int,
) -> NDArray[np.bool_]:
    """Which of R amino-acid residues, in the order of the file, are residues of a polymer.

    A residue in ATOM records is. One in HETATM records is if peptide bonds join it to such a residue, or to
    others
    of a chain that has none; or if it continues the chain over a gap: it stands among the chain's residues
    in ATOM
    records (before the last of them, or before the TER that closes them), and so near to its neighbour in
    the file that the residues which the numbers leave out can reach it.

    Parameters
    ----------
    coords : float array [R, 4, 3]
        N, CA, C, O in Angstrom; NaN where missing.
    chain, number : int arrays [R]
    het : bool array [R]
        In HETATM records.
    stretch : int array [R] or None
        Number of TER records in front of each residue.
    closed : int
        Stretches below this end in a TER.
    """
    result = np.ones(len(het), bool)
    if not het.any() or het.all():  # a file of HETATM alone is taken at its word
        return result
    bonded = _bonds(coords, chain)
    molecule = np.append(0, np.cumsum(~bonded))
    for key in np.unique(chain[het]).tolist():
        own = np.flatnonzero(chain == key)
        fixed = own[~het[own]]
        if not len(fixed):
            sizes = np.bincount(molecule[own], minlength=molecule[-1] + 1)
            result[own] = sizes[molecule[own]] > 1
            continue
        joined = np.isin(molecule[own], molecule[fixed])
        among = own < fixed[-1]
        if stretch is not None:
            among |= np.isin(stretch[own], stretch[fixed]) & (stretch[own] < closed)
        doubtful = np.flatnonzero(~joined)
        result[own[doubtful]] = [
            among[i] and _reaches(coords, number, own, int(i)) for i in doubtful.tolist()
        ]
    return result


def _bonds(coords: NDArray[np.float64], chain: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Peptide bonds [R - 1] between neighbours; by the C-alphas where C or N is missing."""
    with np.errstate(invalid="ignore"):
        trace = np.linalg.norm(np.diff(coords[:, _CA], axis=0), axis=-1) <= BOND_LENGTH_LIMIT
        length = np.linalg.norm(coords[1:, _N] - coords[:-1, _C], axis=-1)
    link: NDArray[np.bool_] = np.where(np.isnan(length), trace, length <= _C_N_LIMIT)
    link &= chain[1:] == chain[:-1]
    return link


def _reaches(coords: NDArray[np.float64], number: NDArray[np.int32], own: NDArray[np.intp], i: int) -> bool:
    """Whether residue ``own[i]`` can be joined to the one before it (or after it, for the first)."""
    a, b = (own[i - 1], own[i]) if i else (own[0], own[1])
    step = int(number[b]) - int(number[a])
    distance = float(np.linalg.norm(coords[b, _CA] - coords[a, _CA]))
    # Backward numbers say nothing of the gap; neither does a missing C-alpha (NaN).
    return not distance > BOND_LENGTH_LIMIT * (step if step > 0 else UNKNOWN_GAP)
