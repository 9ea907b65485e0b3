"""Elements of atoms whose files do not say them."""

from __future__ import annotations

import gemmi
import numpy as np
from numpy.typing import NDArray

from protclip.structure.reading.residues import ALPHA_KEY, CODES, NOT_ALPHA

UNKNOWN, CARBON, HYDROGEN, OTHER = range(4)


def _kinds() -> NDArray[np.uint8]:
    kinds = np.zeros(1 << 16, np.uint8)
    symbols = {gemmi.Element(number).name: OTHER for number in range(1, 119)}
    for symbol, kind in (symbols | {"C": CARBON, "H": HYDROGEN, "D": HYDROGEN}).items():
        for text in (symbol, symbol.upper(), symbol.lower(), symbol.swapcase()):
            for field in {text.ljust(2, "\0"), text.ljust(2), text.rjust(2)}:
                kinds[int.from_bytes(field.encode(), "little")] = kind
    return kinds


KINDS = _kinds()
"""What a symbol stands for, by its two characters as an integer, in any case, with blanks around it."""


def is_amino_acid(residue: int) -> bool:
    """Whether a residue name (as its key) is an amino acid of a known type."""
    return chr(CODES[residue]) not in "0123456789X"


def rename_false_alphas(atom: NDArray[np.uint64], kind: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Names [n] as keys; atoms called CA that are of another element become ``NOT_ALPHA``."""
    alphas = np.flatnonzero(atom == ALPHA_KEY)
    wrong = alphas[(kind[alphas] != CARBON) & (kind[alphas] != UNKNOWN)]
    if len(wrong):
        atom = atom.copy()
        atom[wrong] = NOT_ALPHA
    return atom


def guess_symbol(atom: str, residue: str) -> str:
    """Element of an atom from its name, where the columns of the name say nothing; "" if that is unclear.

    Examples
    --------
    >>> [guess_symbol(*names) for names in (("CA", "ALA"), ("CA", "CA"), ("1HB", "ALA"), ("ZN", "ZN"))]
    ['C', 'CA', 'H', 'ZN']
    """
    letters = atom.upper().lstrip("0123456789'\"")
    pair = int.from_bytes(letters[:2].encode("ascii", "replace"), "little")
    alone = residue.upper().rstrip("0123456789+-") == letters.rstrip("0123456789+-")
    if len(letters) > 1 and KINDS[pair] != UNKNOWN and alone:
        return letters[:2]  # an ion carries the name of its residue
    return letters[:1] if letters[:1].isalpha() else ""
