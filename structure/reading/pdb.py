"""PDB format: fixed columns to atoms."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError
from protclip.structure.reading.atoms import UNKNOWN, AtomTable
from protclip.structure.reading.confidence import declares_prediction
from protclip.structure.reading.elements import (
    CARBON,
    HYDROGEN,
    KINDS,
    OTHER,
    is_amino_acid,
    rename_false_alphas,
)
from protclip.structure.reading.elements import UNKNOWN as UNKNOWN_ELEMENT
from protclip.structure.reading.numbers import (
    LAST_DECIMAL,
    ResidueNumbers,
    coordinates,
    short_numbers,
    thousandths,
    whole_number,
)
from protclip.structure.reading.pdb_lines import AtomLines, atom_lines, plain_lines
from protclip.structure.reading.residues import ALPHA_KEY, BACKBONE_KEYS, CODES, Kind, key_name

_BLANK = ord(" ")
_NO_BACKBONE = "".join(str(int(kind)) for kind in (Kind.WATER, Kind.NUCLEIC, Kind.CAP, Kind.ION))

_ALTLOC, _NUMBER, _ICODE = 16, slice(22, 27), 26
_BLANKS, _LOW_BITS, _TOP_BITS = (np.uint64(0x0101010101010101 * byte) for byte in (0x20, 0x7F, 0x80))
_MODRES = re.compile(rb"^MODRES.{6}(...).{9}(...)", re.MULTILINE)


def table_from_pdb(data: bytes, where: str) -> AtomTable:
    """Atoms of the first model that has any.

    Raises
    ------
    StructureError
        With line and field: an atom record that is cut short, a coordinate of a backbone atom or a residue
        number that is no number, a control byte in a name or a number.
    """
    lines = atom_lines(plain_lines(data), where)
    table = _table(lines, where)
    header = lines.data[: int(lines.starts[0])] if len(table) else lines.data
    table.predicted = declares_prediction(header)
    if b"MODRES" in header:
        table.parents = {
            name.strip().decode("ascii", "replace"): parent.strip().decode("ascii", "replace")
            for name, parent in _MODRES.findall(header)
        }
    return table


def _table(lines: AtomLines, where: str) -> AtomTable:
    """The columns of all atoms as arrays, each chain and residue in one piece."""
    text = lines.text
    n = len(text)
    # Columns 13-16 are the name, 18-20 the residue, 21-22 the chain.
    fours, twos = text.view("<u4"), text.view("<u2")
    atom, residue, chain = _keys(fours[:, 3]), _keys(fours[:, 4] >> np.uint32(8)), _keys(twos[:, 10])
    number, icode = _numbers(lines, chain, where)
    hydrogen, atom = _elements(text, residue, atom)
    xyz = _backbone_coordinates(lines, residue, atom, where)
    altloc = text[:, _ALTLOC].copy()
    altloc[altloc == _BLANK] = 0
    occupancy = short_numbers(text[:, 54:60], 1.0)
    _check_occupancy(lines, np.flatnonzero(np.isnan(occupancy) & (altloc != 0)), where)
    table = AtomTable(
        chain=chain,
        residue=residue,
        atom=atom,
        number=number,
        icode=icode,
        altloc=altloc,
        occupancy=occupancy,
        b_factor=short_numbers(text[:, 60:66], np.nan),
        xyz=xyz,
        record=text[:, 0].copy(),
        hydrogen=np.flatnonzero(hydrogen),
        entity=np.full(n, UNKNOWN, np.uint8),
        models=lines.models,
        one_chain=n > 0 and bool((chain == chain[0]).all()),
        stretch=lines.ters if lines.closed else None,
        closed=lines.closed,
        behind_end=lines.behind_end,
    )
    table.group()
    return table


def _keys(words: NDArray[np.unsignedinteger]) -> NDArray[np.uint64]:
    """Names [n] of fields of up to eight characters, as integers, without the blanks around them."""
    key: NDArray[np.uint64] = words.astype(np.uint64)
    full = key ^ _BLANKS
    full = ((full & _LOW_BITS) + _LOW_BITS | full) & _TOP_BITS  # the top bit of every byte that is no blank
    key &= (full >> np.uint64(7)) * np.uint64(255)
    front = (key & np.uint64(255) == 0) & (key != 0)
    while front.any():
        key = np.where(front, key >> np.uint64(8), key)
        front = (key & np.uint64(255) == 0) & (key != 0)
    return key


def _numbers(
    lines: AtomLines, chain: NDArray[np.uint64], where: str
) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Residue numbers and insertion codes [n] of all atoms."""
    text = lines.text
    fours = text.view("<u4")
    words = (fours[:, 5] >> 16).astype(np.uint64) | (fours[:, 6] & 0xFFFFFF).astype(np.uint64) << np.uint64(
        16
    )
    change = np.append(True, (words[1:] != words[:-1]) | (chain[1:] != chain[:-1]))[: len(words)]
    firsts, run = np.flatnonzero(change), np.cumsum(change) - 1
    scaled, valid = thousandths(whole_number(words[firsts]))
    number, icode = (scaled // 1000).astype(np.int32), text[firsts, _ICODE]
    if valid.all() and not (icode - ord("0") < 10).any() and not (number == LAST_DECIMAL).any():
        icode[icode == _BLANK] = 0
        return number[run], icode[run]
    texts = [raw.tobytes() for raw in text[firsts, _NUMBER]]
    numbers = ResidueNumbers(texts)
    found = np.zeros((len(firsts), 2), np.int64)
    for i, (row, raw) in enumerate(zip(firsts.tolist(), texts, strict=True)):
        value = numbers.read(int(chain[row]), raw)
        if value is None:
            name = text[row, 17:20].tobytes().decode("latin-1").strip()
            letter = key_name(int(chain[row])) or "(blank)"
            raise StructureError(
                "the residue number is not a number",
                where=f"{where}:{lines.place(row)}",
                got=f"{raw[:4].decode('latin-1')!r} ({name} in chain {letter})",
                expected="an author residue number in columns 23-26 of every record",
            )
        found[i] = value[0], int.from_bytes(value[1], "little")
    return found[run, 0].astype(np.int32), found[run, 1].astype(np.uint8)


def _check_occupancy(lines: AtomLines, wrong: NDArray[np.intp], where: str) -> None:
    """An occupancy that decides between conformers has to be a number."""
    if len(wrong):
        row = int(wrong[0])
        raise StructureError(
            "the occupancy of an alternate location is not a number",
            where=f"{where}:{lines.place(row)}",
            got=repr(lines.text[row, 54:60].tobytes().decode("latin-1")),
            expected="a number such as 0.50 in columns 55-60",
        )


def _elements(
    text: NDArray[np.uint8], residue: NDArray[np.uint64], atom: NDArray[np.uint64]
) -> tuple[NDArray[np.bool_], NDArray[np.uint64]]:
    """Which atoms [n] are hydrogens, and the names [n] without those that are called CA and are not carbon.

    Columns 77-78 decide where they hold an element. Before 1996 a line number stood there, and many programs
    leave them blank; then the name says it: its first column is kept for elements of two letters.
    """
    twos = text.view("<u2")
    kind = KINDS[twos[:, 38]]
    missing = np.flatnonzero(kind == UNKNOWN_ELEMENT)
    if len(missing):
        first, second, last = text[missing, 12], text[missing, 13], text[missing, 15]
        apart = (first == _BLANK) | (first - ord("0") < 10)
        double = (KINDS[twos[missing, 6]] != UNKNOWN_ELEMENT) & (last == _BLANK)
        letter = np.where(apart, second, np.where(double, _BLANK, first))
        light = (letter == ord("H")) | (letter == ord("D"))
        kind[missing[light]] = HYDROGEN
        for row in missing[(atom[missing] == ALPHA_KEY) & (first != _BLANK)].tolist():
            # Set to the left, a name is careless in an amino acid and says calcium elsewhere.
            kind[row] = CARBON if is_amino_acid(int(residue[row])) else OTHER
    return kind == HYDROGEN, rename_false_alphas(atom, kind)


def _backbone_coordinates(
    lines: AtomLines, residue: NDArray[np.uint64], atom: NDArray[np.uint64], where: str
) -> NDArray[np.float64]:
    """Coordinates [n, 3] of N, CA, C and O; NaN for other atoms, which are not looked at.

    What is no number is refused where it may be the backbone of an amino acid.
    """
    used = atom == BACKBONE_KEYS[0]
    for key in BACKBONE_KEYS[1:]:
        used |= atom == key
    rows = np.flatnonzero(used)
    xyz = np.full((len(atom), 3), np.nan)
    values, valid = coordinates(lines.text[rows, 30:54].view("<u8"))
    xyz[rows] = values
    for i, axis in np.argwhere(~valid).tolist():
        row, column = int(rows[i]), 30 + 8 * axis
        if chr(CODES[int(residue[row])]) not in _NO_BACKBONE:
            raise StructureError(
                f"{'xyz'[axis]} is not a number",
                where=f"{where}:{lines.place(row)}",
                got=repr(lines.text[row, column : column + 8].tobytes().decode("latin-1")),
                expected=f"a coordinate such as -12.345 in columns {column + 1}-{column + 8}",
            )
    return xyz
