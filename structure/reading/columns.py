"""Plain domain files by their columns, without building a model of every atom.

Most files of a domain collection hold one chain of ordinary residues, each beginning with N, CA, C, O.
Such a file is a table of characters, and its backbone is read from it in a few array operations, faster than
a general reader can make its atoms. Anything out of the ordinary (alternate
locations, modified residues, missing atoms, further records, an odd number) makes :func:`plain_backbone`
decline, and the general reader takes the file; where both read it, they agree to the bit.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.structure.reading.confidence import declares_prediction
from protclip.structure.reading.numbers import LAST_DECIMAL, thousandths, whole_number

_SHORTEST = 66  # columns up to the B-factor
_FAR = 9_999_000  # thousandths of an Angstrom: an atom that was never placed
_NAMES = np.array(
    [int.from_bytes(name, "little") for name in (b" N  ", b" CA ", b" C  ", b" O  ")], np.uint64
)
_ALTERNATE = 0xFF00000000
_ATOM, _SIX = int.from_bytes(b"ATOM  ", "little"), (1 << 48) - 1  # a record name and its six columns
_XYZ = np.array([30, 38, 46])
_FIRST, _FOUR = np.zeros(1, np.int64), np.arange(4)
_HEAVY = np.zeros(256, np.bool_)
_HEAVY[list(b"CNOS")] = True
_BLANK = ord(" ")
_TWO_BLANKS, _HYDROGEN = _BLANK << 8 | _BLANK, ord("H") << 8 | _BLANK


def _letters() -> NDArray[np.uint8]:
    """One-letter codes by five bits of each letter of the residue name; 0 for other names."""
    table = np.zeros(32**3, np.uint8)
    names = "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL"
    for name, letter in zip(names.split(), "ARNDCQEGHILKMFPSTWYV", strict=True):
        a, b, c = (ord(character) % 32 for character in name)
        table[a + 32 * b + 1024 * c] = ord(letter)
    return table


_LETTERS = _letters()


class PlainBackbone(NamedTuple):
    """R residues of one chain, with all four backbone atoms.

    Attributes
    ----------
    chain : str
        Its name, empty where the column is blank.
    sequence : str
    coords : float64 array [R, 4, 3]
        N, CA, C, O in Angstrom.
    number : int32 array [R]
    icode : bytes array S1 [R]
        Empty for none.
    hydrogens : int
        Hydrogen atoms in the file.
    """

    chain: str
    sequence: str
    coords: NDArray[np.float64]
    number: NDArray[np.int32]
    icode: NDArray[np.bytes_]
    hydrogens: int


def plain_backbone(data: bytes) -> PlainBackbone | None:
    """The backbone of a plain domain file in PDB format; None for every other file.

    Parameters
    ----------
    data : bytes
        Content of the file.

    Examples
    --------
    >>> from pathlib import Path
    >>> found = plain_backbone(Path("data/cath/dompdb/1ubiA00").read_bytes())
    >>> found.chain, found.sequence[:5], found.coords[0, 1].tolist()
    ('A', 'MQIFV', [26.381, 25.361, 2.894])
    >>> plain_backbone(b"data_") is None
    True
    """
    if data[:6] not in (b"ATOM  ", b"REMARK") or len(data) < _SHORTEST or not data.isascii():
        return None
    found = _atom_lines(data)
    if found is None:
        return None
    lines, widths = found
    # Columns 13 to 20: name, alternate location, residue name. 21 to 27: chain, number, insertion code.
    atom = _field(data, lines + 12, "<u8")
    hydrogens = _count_hydrogens(data, lines, widths, atom)
    if hydrogens is None:
        return None
    place = _field(data, lines + 20, "<u8") & 0x00FFFFFFFFFFFFFF
    name, residue = atom & 0xFFFFFFFF, atom >> 40
    change = (residue[1:] != residue[:-1]) | (place[1:] != place[:-1])
    starts = np.concatenate([_FIRST, np.flatnonzero(change) + 1])
    count = len(starts)
    if starts[-1] + 4 > len(lines):
        return None
    backbone = starts[:, None] + _FOUR
    if not (name[backbone] == _NAMES).all() or any(np.count_nonzero(name == n) != count for n in _NAMES):
        return None
    residue, place = residue[starts], place[starts]
    letters = _LETTERS[(residue & 31) | (residue >> 3 & 992) | (residue >> 6 & 31744)]
    in_chain = place & 0xFFFF
    if not letters.all() or (residue & 0xE0E0E0 != 0x404040).any():
        return None
    if (in_chain != in_chain[0]).any() or in_chain[0] & 0xFF != _BLANK:
        return None
    words = np.concatenate(
        [
            whole_number(place >> 16),
            _field(data, lines[backbone, None] + _XYZ, "<u8").reshape(-1),
        ]
    )
    values, valid = thousandths(words)
    if not valid.all():
        return None
    number, coords = values[:count] // 1000, values[count:].reshape(count, 4, 3)
    icode = (place >> 48).astype(np.uint8)
    icode[icode == _BLANK] = 0
    # A digit there may belong to the number, and behind the last number of four columns files differ.
    if (icode.any() and (icode - ord("0") < 10).any()) or number.max() >= LAST_DECIMAL:
        return None
    # Nothing far away, and no more than one atom at the origin: the general reader knows what to do there.
    if abs(coords).max() >= _FAR or np.count_nonzero(coords) <= coords.size - 6:
        return None
    if not _each_once(number, icode):
        return None
    return PlainBackbone(
        chr(in_chain[0] >> 8).strip(),
        letters.tobytes().decode("ascii"),
        # A quotient of exact integers is the double nearest to the decimal number.
        coords / 1000.0,
        number.astype(np.int32),
        icode.view("S1"),
        hydrogens,
    )


def _atom_lines(data: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Begin and width [n] of the lines of atoms, if there is nothing else but remarks in front and ends."""
    characters = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(characters < _BLANK)
    if (characters[ends] != ord("\n")).any():
        return None
    begins = np.concatenate([_FIRST, ends[:-1] + 1])[: len(ends)]
    # Short lines at the very end are no atoms; reading past them would be reading past the file.
    whole = np.searchsorted(begins, len(data) - 8, "right")
    atoms = np.flatnonzero(_field(data, begins[:whole], "<u8") & _SIX == _ATOM)
    if not len(atoms) or atoms[-1] - atoms[0] + 1 != len(atoms):
        return None
    block = slice(atoms[0], atoms[-1] + 1)
    lines = begins[block]
    widths = ends[block] - lines
    if widths.min() < _SHORTEST:
        return None
    first, last = int(lines[0]), int(ends[atoms[-1]])
    return (lines, widths) if _only_remarks(data[:first]) and _only_ends(data[last + 1 :]) else None


def _only_remarks(head: bytes) -> bool:
    """Whether there is nothing in front but remarks that do not speak of a prediction."""
    if not head:
        return True
    return all(line[:6] == b"REMARK" for line in head.splitlines()) and declares_prediction(head) is None


def _only_ends(tail: bytes) -> bool:
    """Whether there is nothing behind but TER and END; a model that ends is another matter."""
    return all(line[:6].rstrip() in (b"TER", b"END") for line in tail.splitlines())


def _count_hydrogens(
    data: bytes, lines: NDArray[np.int64], widths: NDArray[np.int64], atom: NDArray[np.uint64]
) -> int | None:
    """Number of hydrogens if all other atoms are C, N, O, S and none has an alternate location; else None."""
    if (atom & _ALTERNATE != _BLANK << 32).any():
        return None
    kind = atom >> 8 & 0xFF
    heavy = _HEAVY[kind] & (atom & 0xFF == _BLANK)
    # Lines may end before the element; where it is given, it has to fit the name, and no charge may follow.
    given = widths > 76
    if not given.all():
        if not heavy[~given].all():
            return None
        lines, widths, kind, heavy = lines[given], widths[given], kind[given], heavy[given]
    charged = lines[widths != 78]
    if (widths[widths != 78] != 80).any() or (_field(data, charged + 78, "<u2") != _TWO_BLANKS).any():
        return None
    element = _field(data, lines + 76, "<u2")
    fits = ((element == (kind << 8) + _BLANK) | (element == _TWO_BLANKS)) & heavy
    if fits.all():
        return 0
    hydrogen = (element == _HYDROGEN) & ~heavy
    return int(np.count_nonzero(hydrogen)) if (fits | hydrogen).all() else None


def _field(data: bytes, places: NDArray[np.int64], dtype: str) -> NDArray[np.uint64]:
    """The characters from each place on, as one integer each: any byte of the file is the start of one."""
    width = np.dtype(dtype).itemsize
    overlapping: NDArray[np.uint64] = np.ndarray((len(data) - width + 1,), dtype, data, 0, (1,))
    return overlapping[places]


def _each_once(number: NDArray[np.int64], icode: NDArray[np.uint8]) -> bool:
    """Whether no two residues share number and insertion code."""
    if (number[1:] > number[:-1]).all():
        return True
    key = np.sort((number << 8) + icode)
    return bool((key[1:] != key[:-1]).all())
