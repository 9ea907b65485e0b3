"""What a corpus file looks like inside; shared by its reader and its writer.

A corpus of n proteins with R residues in all::

    offset            int64  [n + 1]    residues of protein i are offset[i]:offset[i + 1]
    ca                int32  [R, 3]     C-alpha, 0.001 Angstrom
    backbone          int32  [R, 3, 3]  N, C, O, 0.001 Angstrom (chunks without any atom are not stored)
    sequence          uint8  [R]        ASCII letters
    residue_number    int32  [R]
    insertion_code    uint8  [R]        0 for none
    plddt             float32 [R]       NaN where there is none
    has_plddt         bool   [n]
    id, code          bytes  [n]        code is C.A.T.H or empty
    s35 ... s100      int32  [n]        0 where unknown
    resolution        float32 [n]
    dropped           int32  [k, 3]     protein, kind (index into the attribute dropped_kinds), count

Attributes: format, format_version, fingerprint, provenance (JSON), dropped_kinds (JSON). PDB coordinates have
three decimals, so thousandths of an Angstrom in int32 keep them exactly. Every dataset carries Fletcher-32
checksums and the file's metadata are checksummed by HDF5, so that damage is noticed when it is read.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

FORMAT = "protclip-corpus"
FORMAT_VERSION = 1
MISSING = np.int32(np.iinfo(np.int32).min)
"""Stored in place of each coordinate of a missing atom."""

SCALE = 1000.0
CHUNK = 4096
"""Residues in a chunk: 48 KB of C-alphas."""

PER_RESIDUE: dict[str, tuple[tuple[int, ...], str, int | float]] = {
    "ca": ((3,), "<i4", int(MISSING)),
    "backbone": ((3, 3), "<i4", int(MISSING)),
    "sequence": ((), "u1", 0),
    "residue_number": ((), "<i4", 0),
    "insertion_code": ((), "u1", 0),
    "plddt": ((), "<f4", float("nan")),
}
"""Name -> shape of one residue's entry, dtype, fill value."""

CLUSTER_LEVELS = ("s35", "s60", "s95", "s100")
N_C_O = (0, 2, 3)
"""Where N, C and O stand in ``Protein.coords``."""


def to_int(coords: NDArray[np.float32]) -> NDArray[np.int32]:
    """Angstrom to thousandths, atoms [..., 3]; a coordinate that is not finite makes its atom missing.

    Raises
    ------
    OverflowError
        If a coordinate lies beyond +-2,147 kilo-Angstrom.
    """
    scaled = np.rint(coords.astype(np.float64) * SCALE)
    missing = ~np.isfinite(scaled).all(-1)
    scaled[missing] = MISSING
    if (np.abs(scaled[~missing]) > np.iinfo(np.int32).max).any():
        raise OverflowError(f"a coordinate of {np.abs(scaled[~missing]).max() / SCALE:g} Angstrom")
    return scaled.astype(np.int32)


def to_float(stored: NDArray[np.int32]) -> NDArray[np.float32]:
    """Thousandths back to Angstrom; NaN for missing atoms."""
    coords = (stored / SCALE).astype(np.float32)
    coords[stored == MISSING] = np.nan
    return coords


class Fingerprint:
    """SHA-256 over what a corpus says, whatever the file's chunks and the machine's byte order."""

    def __init__(self) -> None:
        self._residues = {name: hashlib.sha256() for name in PER_RESIDUE}
        self._proteins = hashlib.sha256()

    def add_residues(self, name: str, values: NDArray[np.generic]) -> None:
        """Append residues of one per-residue dataset."""
        self._residues[name].update(np.ascontiguousarray(values, PER_RESIDUE[name][1]).reshape(-1).data)

    def add_protein(self, id: str, length: int, label: tuple[object, ...]) -> None:
        """Append one protein's id, length and labels."""
        self._proteins.update(repr((id, length, *label)).encode())

    def hexdigest(self) -> str:
        """Digest over everything added, in hexadecimal."""
        whole = hashlib.sha256(self._proteins.digest())
        for name in PER_RESIDUE:
            whole.update(self._residues[name].digest())
        return whole.hexdigest()
