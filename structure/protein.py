"""The one carrier of a protein between files, stores and encoders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError

BACKBONE = ("N", "CA", "C", "O")
"""Order of the atoms along axis 1 of :attr:`Protein.coords`."""

BOND_LENGTH_LIMIT = 4.5
"""Angstrom. Two residues whose C-alphas are closer than this are taken for peptide-bonded
(trans 3.8, cis 2.9, plus coordinate error)."""

UNKNOWN_GAP = 64
"""Step in :attr:`Protein.position` where the numbering runs backwards over a chain break, so that the
true gap is unknown: wider than the sequence window of any published encoder."""


LARGEST_GAP = 10_000
"""Longest step in :attr:`Protein.position`: damaged numbers must not overflow it."""


@dataclass(frozen=True, eq=False)
class Protein:
    """One protein chain or domain of L residues.

    Attributes
    ----------
    id : str
        Domain id, chain id (``1abc_A``) or file stem.
    sequence : str
        L one-letter codes of the observed residues. Modified residues carry their parent's letter
        (MSE is M); B, Z, U, O and J stay as they are; anything else is X.
    coords : float32 array [L, 4, 3]
        N, CA, C, O in Angstrom; NaN where an atom is missing.
    residue_number : int32 array [L]
        Author residue numbers; 1..L where the source has none.
    insertion_code : bytes array ``S1`` [L]
        PDB insertion codes, ``b""`` for none.
    plddt : float32 array [L] or None
        Predicted confidence, 0-100, of a predicted model; None for an experimental one.
    dropped : mapping of str to int
        What reading left out or changed, by kind, e.g. ``{"water": 12, "altloc": 3}``.

    Raises
    ------
    StructureError
        If the lengths of the fields disagree or there is no residue.

    Examples
    --------
    >>> import numpy as np
    >>> ca = np.array([[0, 0, 0], [3.8, 0, 0], [7.6, 0, 0]])
    >>> p = Protein.from_ca("demo", "GAV", ca)
    >>> len(p), p.position.tolist(), p.chain_breaks.tolist()
    (3, [0, 1, 2], [False, False])
    """

    id: str
    sequence: str
    coords: NDArray[np.float32]
    residue_number: NDArray[np.int32]
    insertion_code: NDArray[np.bytes_]
    plddt: NDArray[np.float32] | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.sequence)
        fits = self.coords.shape == (n, 4, 3) and self.residue_number.shape == self.insertion_code.shape == (
            n,
        )
        if n and fits and (self.plddt is None or self.plddt.shape == (n,)):
            return
        if n == 0:
            raise StructureError("no residues", where=self.id, got="0", expected="at least 1")
        shapes = {
            "coords": (self.coords.shape, (n, 4, 3)),
            "residue_number": (self.residue_number.shape, (n,)),
            "insertion_code": (self.insertion_code.shape, (n,)),
        }
        if self.plddt is not None:
            shapes["plddt"] = (self.plddt.shape, (n,))
        for name, (got, expected) in shapes.items():
            if got != expected:
                raise StructureError(
                    f"{name} does not fit the sequence", where=self.id, got=str(got), expected=str(expected)
                )

    @classmethod
    def from_ca(
        cls,
        id: str,
        sequence: str,
        ca: NDArray[np.floating],
        residue_number: NDArray[np.integer] | None = None,
        insertion_code: NDArray[np.bytes_] | None = None,
    ) -> Protein:
        """Make a protein of C-alpha positions [L, 3] in Angstrom alone; the other atoms are NaN."""
        n = len(sequence)
        coords = np.full((n, 4, 3), np.nan, np.float32)
        if ca.shape != (n, 3):
            raise StructureError(
                "ca does not fit the sequence", where=id, got=str(ca.shape), expected=f"({n}, 3)"
            )
        coords[:, 1] = ca
        number = np.arange(1, n + 1) if residue_number is None else residue_number
        codes = np.zeros(n, "S1") if insertion_code is None else insertion_code
        return cls(id, sequence, coords, number.astype(np.int32), codes)

    def __len__(self) -> int:
        return len(self.sequence)

    def __repr__(self) -> str:
        return f"Protein({self.id!r}, {len(self)} residues, {int(self.has_ca.sum())} with C-alpha)"

    @property
    def ca(self) -> NDArray[np.float32]:
        """C-alpha positions [L, 3] in Angstrom, NaN where missing."""
        return self.coords[:, 1]

    @property
    def has_ca(self) -> NDArray[np.bool_]:
        """Mask [L] of residues whose C-alpha is present."""
        return np.asarray(np.isfinite(self.ca).all(-1), np.bool_)

    @property
    def position(self) -> NDArray[np.int32]:
        """Sequence coordinate [L], from 0, strictly increasing: the encoder's sequence offsets.

        Peptide-bonded neighbours are one apart whatever their numbers are (insertion codes, jumps in
        the numbering of a continuous chain). Over a break the author numbering decides, so that
        unobserved loops and the segments of a discontinuous domain keep their gaps.
        """
        if len(self) == 1:
            return np.zeros(1, np.int32)
        step = np.diff(self.residue_number.astype(np.int64))
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(np.diff(self.ca.astype(np.float64), axis=0), axis=-1)
        bonded = distance <= BOND_LENGTH_LIMIT
        # An insertion code changes without the number; a backward jump tells nothing about the gap.
        step = np.where(step == 0, 1, np.where(step < 0, UNKNOWN_GAP, step))
        step = np.where(bonded, 1, np.minimum(step, LARGEST_GAP))
        return np.concatenate([[0], np.cumsum(step)]).astype(np.int32)

    @property
    def chain_breaks(self) -> NDArray[np.bool_]:
        """Mask [L - 1]: True where residue i and i + 1 are not peptide-bonded by distance.

        Where a C-alpha is missing the numbering decides.
        """
        with np.errstate(invalid="ignore"):
            distance = np.linalg.norm(np.diff(self.ca, axis=0), axis=-1)
            far = distance > BOND_LENGTH_LIMIT
        by_number = np.diff(self.position) > 1
        breaks: NDArray[np.bool_] = np.logical_or(far, np.isnan(distance) & by_number)
        return breaks

    def select(self, keep: NDArray[np.bool_] | NDArray[np.integer]) -> Protein:
        """Residues picked by a mask [L] or by indices, with their numbers."""
        index = np.flatnonzero(keep) if keep.dtype == bool else keep
        return Protein(
            self.id,
            "".join(self.sequence[i] for i in index),
            self.coords[index],
            self.residue_number[index],
            self.insertion_code[index],
            None if self.plddt is None else self.plddt[index],
            self.dropped,
        )
