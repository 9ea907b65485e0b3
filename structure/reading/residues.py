"""Which residue names are amino acids, and the letter each one gets."""

from __future__ import annotations

from enum import IntEnum

import gemmi
import numpy as np

from protclip.structure.protein import BACKBONE


class Kind(IntEnum):
    """What a residue name stands for; ``UNKNOWN`` names are judged by their atoms."""

    UNKNOWN = 0
    WATER = 1
    NUCLEIC = 2
    CAP = 3
    ION = 4
    MODIFIED = 5
    AMINO = 6


_STANDARD = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E", "GLY": "G",
    "HIS": "H", "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F", "PRO": "P", "SER": "S",
    "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
    "ASX": "B", "GLX": "Z", "SEC": "U", "PYL": "O", "XLE": "J", "UNK": "X",
}  # fmt: skip

# Protonation states and disulfide cysteines as Amber, CHARMM and GROMACS name them: ordinary residues.
_FORCE_FIELD = {
    "HID": "H", "HIE": "H", "HIP": "H", "HSD": "H", "HSE": "H", "HSP": "H", "HISD": "H", "HISE": "H",
    "HISH": "H", "CYX": "C", "CYM": "C", "CYS2": "C", "ASH": "D", "ASPH": "D", "GLH": "E", "GLUH": "E",
    "LYN": "K", "LYSH": "K",
}  # fmt: skip

# Groups that end a peptide without being residues of it.
_CAPS = frozenset({"ACE", "FOR", "NH2", "NME", "NMA", "NHE", "BOC", "CBZ", "TFA", "AMD"})

_WATERS = frozenset({"TIP3", "TIP4", "TIP", "TP3", "SOL", "SPC", "W"})


def name_key(name: str | bytes) -> int:
    """A name of at most eight bytes as the integer that gemmi's flat character arrays show for it.

    >>> name_key("CA") == int.from_bytes(b"CA", "little")
    True
    """
    raw = name.encode("ascii", "replace") if isinstance(name, str) else name
    return int.from_bytes(raw[:8].ljust(8, b"\0"), "little")


ALPHA_KEY = name_key("CA")
NOT_ALPHA = name_key("~CA")
"""Stands for the name of an atom that is called CA and is not carbon: calcium, in most cases."""

BACKBONE_KEYS = np.array([name_key(name) for name in BACKBONE], np.uint64)
"""Names of the atoms of :attr:`protclip.structure.protein.Protein.coords`."""


def key_name(key: int) -> str:
    """The name behind :func:`name_key`."""
    return int(key).to_bytes(8, "little").rstrip(b"\0").decode("ascii", "replace")


def classify(name: str) -> tuple[str, Kind]:
    """One-letter code and kind of a residue name.

    Standard residues and B, Z, U, O, J, X have their own letter, modified ones that gemmi tabulates
    their parent's. Lower-case names, as some modelling programs write them, are the same names.

    Examples
    --------
    >>> classify("MSE"), classify("GLX"), classify("HOH")
    (('M', <Kind.MODIFIED: 5>), ('Z', <Kind.AMINO: 6>), ('X', <Kind.WATER: 1>))
    """
    name = name.upper()
    letter = _STANDARD.get(name) or _FORCE_FIELD.get(name)
    if letter:
        return letter, Kind.AMINO
    if name in _CAPS:
        return "X", Kind.CAP
    if name in _WATERS:
        return "X", Kind.WATER
    info = gemmi.find_tabulated_residue(name)
    if not info.found():
        return "X", Kind.UNKNOWN
    if info.is_water():
        return "X", Kind.WATER
    if info.is_nucleic_acid():
        return "X", Kind.NUCLEIC
    if info.is_amino_acid():
        parent = info.one_letter_code.upper()
        return (parent if parent.isalpha() else "X"), Kind.MODIFIED
    return "X", Kind.ION if info.kind == gemmi.ResidueKind.BUF else Kind.UNKNOWN


class _Codes(dict[int, int]):
    """Name key -> one character, filled on first sight: a file has few distinct names.

    The character is the letter of a standard residue, the lower-case letter of a modified one's parent, and
    the digit of the kind of everything else, so that the codes of a plain chain are its sequence.
    """

    def __missing__(self, key: int) -> int:
        letter, kind = classify(key_name(key))
        code = ord({Kind.AMINO: letter, Kind.MODIFIED: letter.lower()}.get(kind, str(int(kind))))
        if len(self) < 10_000:  # damaged files can hold any number of different names
            self[key] = code
        return code


CODES = _Codes()
