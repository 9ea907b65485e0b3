"""PDB format: from text to the lines of the atoms that are read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError

WIDTH = 80
_SHORTEST = 54  # columns up to z
_BLANK = ord(" ")
_POINTS = np.array([34, 42, 50])
"""Where the points of the coordinates stand."""
_MATTERS = np.zeros(WIDTH, np.bool_)
"""Columns of names, numbers and coordinates, in which a control character means damage."""
_MATTERS[12:27] = _MATTERS[30:54] = True


@dataclass
class AtomLines:
    """The lines of the atoms of the first model that has any.

    Attributes
    ----------
    data : bytes
        The file, with line feeds.
    starts : int array [n]
        Where each line begins.
    text : uint8 array [n, 80]
        Its columns.
    ters : int32 array [n]
        TER records of this model in front of each line.
    closed : int
        TER records of this model.
    models : int
        Models with atoms.
    behind_end : int
        Atoms behind END.
    """

    data: bytes
    starts: NDArray[np.int64]
    text: NDArray[np.uint8]
    ters: NDArray[np.int32]
    closed: int
    models: int
    behind_end: int

    def place(self, row: int) -> str:
        """Line number, from 1, of an atom, as messages have it."""
        return str(self.data.count(b"\n", 0, int(self.starts[row])) + 1)


def plain_lines(data: bytes) -> bytes:
    """Text without a byte order mark, its lines ended by line feeds."""
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data


def atom_lines(data: bytes, where: str) -> AtomLines:
    """Lines of the first model that has atoms.

    A model begins at MODEL and ends at ENDMDL or the next MODEL; END ends the entry.

    Raises
    ------
    StructureError
        If a line is cut short, or has a control character in a name or number.
    """
    padded = data + b"\n" + b" " * WIDTH
    ends = np.flatnonzero(np.frombuffer(padded, np.uint8, len(data) + 1) == ord("\n"))
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])
    heads: NDArray[np.uint64] = np.ndarray((len(padded) - 7,), "<u8", padded, 0, (1,))[begins]
    three, four = heads & 0xFFFFFF, heads & 0xFFFFFFFF
    atoms = np.flatnonzero((four == _word(b"ATOM")) | (heads & 0xFFFFFFFFFFFF == _word(b"HETATM")))
    breaks = np.flatnonzero((three == _word(b"END")) | (heads & 0xFFFFFFFFFF == _word(b"MODEL")))
    first, models, behind = len(atoms), int(len(atoms) > 0), 0
    if len(breaks) and len(atoms):
        # The number of breaks in front says to which stretch of the file an atom belongs.
        stretch = np.searchsorted(breaks, atoms)
        last = [data[begins[i] : ends[i]][3:6].strip() == b"" and three[i] == _word(b"END") for i in breaks]
        end = next((i for i, found in enumerate(last) if found and i >= stretch[0]), len(breaks))
        first = int(np.searchsorted(stretch, stretch[0], "right"))
        behind = len(atoms) - int(np.searchsorted(stretch, end, "right"))
        models = len(np.unique(stretch[stretch <= end]))
    rows = atoms[:first]
    starts, widths = begins[rows], ends[rows] - begins[rows]
    ters = np.flatnonzero(three == _word(b"TER"))
    if len(rows):
        stop = atoms[first] if first < len(atoms) else len(begins)
        ters = ters[(ters > rows[0]) & (ters < stop)]
    window: NDArray[np.uint8] = np.ndarray((len(padded) - WIDTH + 1, WIDTH), np.uint8, padded, 0, (1, 1))
    text = _columns(window, starts, widths)
    lines = AtomLines(
        data, starts, text, np.searchsorted(ters, rows).astype(np.int32), len(ters), models, behind
    )
    _check_widths(lines, widths, where)
    _realign(window, starts, text)
    _check_controls(lines, where)
    return lines


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


def _check_widths(lines: AtomLines, widths: NDArray[np.int64], where: str) -> None:
    short = np.flatnonzero(widths < _SHORTEST)
    if len(short):
        raise StructureError(
            "an atom record is cut short",
            where=f"{where}:{lines.place(short[0])}",
            got=f"{widths[short[0]]} columns",
            expected=f"at least {_SHORTEST}, up to the z coordinate",
            hint="Fetch or copy the file again",
        )


def _check_controls(lines: AtomLines, where: str) -> None:
    """Refuse control characters where they matter, and blank them (in place) elsewhere."""
    control = lines.text < _BLANK
    if not control.any():
        return
    rows, columns = np.nonzero(control & _MATTERS)
    if len(rows):
        raise StructureError(
            "a control character in a name or number",
            where=f"{where}:{lines.place(rows[0])}",
            got=f"byte 0x{lines.text[rows[0], columns[0]]:02x} in column {columns[0] + 1}",
            expected="columns filled with blanks",
        )
    lines.text[control] = _BLANK


def _columns(
    window: NDArray[np.uint8], starts: NDArray[np.int64], widths: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """The eighty columns [n, 80] of lines, short ones filled up with blanks."""
    n = len(starts)
    if n > 1 and (widths == widths[0]).all() and starts[-1] - starts[0] == (n - 1) * (widths[0] + 1):
        # Lines of one width, one behind the other: a table already.
        width = min(int(widths[0]), WIDTH)
        text = np.full((n, WIDTH), _BLANK, np.uint8)
        text[:, :width] = window[starts[0] : starts[-1] + 1 : widths[0] + 1, :width]
        return text
    text = window[starts]
    if n and (narrow := int(widths.min())) < WIDTH:
        text[:, narrow:][np.arange(narrow, WIDTH) >= widths[:, None]] = _BLANK
    return text


def _realign(window: NDArray[np.uint8], starts: NDArray[np.int64], text: NDArray[np.uint8]) -> None:
    """Move (in place) the columns behind serial numbers that are written wider than five columns."""
    odd = np.flatnonzero(text[:, 11] - ord("0") < 10)
    odd = odd[(text[odd][:, _POINTS] != ord(".")).any(1)]
    for shift in (1, 2, 3):
        if not len(odd):
            return
        rows = odd[starts[odd] + shift < len(window)]
        serial = window[starts[rows], 6 : 11 + shift]
        moved = window[starts[rows] + shift]
        fits = (serial - ord("0") < 10).all(1) & (moved[:, _POINTS] == ord(".")).all(1)
        ends = np.cumsum(moved == ord("\n"), 1) > 0
        moved[ends] = _BLANK
        text[rows[fits], 11:] = moved[fits, 11:]
        odd = np.setdiff1d(odd, rows[fits])
