"""Numbers in fixed columns: what is one, and what is not.

Eight characters are read at a time, as the bytes of one integer, the first character lowest. Only text of
another
form than ``%8.3f`` or ``%4d`` is looked at character by character; what is no number is left to the caller
to refuse.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_ZEROS = 0x3030303030303030
_CARRY = 0x7676767676767676  # lifts every byte above 9 over 127
_TOPS = 0x8080808080808080
_AFTER_POINT = int.from_bytes(b"\0\0\0\0.\0\0\0", "little")
_WHOLE = int.from_bytes(b"\0\0\0\0.000", "little")
_FRONTS = tuple(int.from_bytes(text, "little") for text in (b"", b" ", b"  ", b"   ", b"-", b" -", b"  -"))
"""What may stand in front of the digits of a right-aligned number of four columns."""
_MINUS = 0x080808  # bits that tell a minus from a blank

# Five digits before the point do not fit the columns of a coordinate: such a number ran over from its
# neighbour.
_COORDINATE = re.compile(rb" *(?:[-+]?(?:[0-9]{1,4}(?:\.[0-9]*)?|\.[0-9]+)|[-+]?nan) *", re.IGNORECASE)
_PLAIN = re.compile(rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_DECIMAL = re.compile(rb"-?[0-9]+")
_FIVE = re.compile(rb"[-0-9][0-9]{4}")
_HEX = re.compile(rb"[0-9a-f]{4}|[0-9A-F]{4}")
_HYBRID = re.compile(rb"[A-Z][0-9A-Z]{3}|[a-z][0-9a-z]{3}")
LAST_DECIMAL = 9999
"""Largest residue number that fits four columns: behind it files go on in ways of their own."""


def thousandths(text: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of eight characters with four before the point and three after it, times 1000.

    Returns
    -------
    values : int64 array
    valid : bool array
        False where the text is not blanks, at most one minus, digits, the point and three digits; the value
        there means nothing.

    Examples
    --------
    >>> values, valid = thousandths(np.frombuffer(b"  -1.250 104.003********", "<u8"))
    >>> values[:2].tolist(), valid.tolist()
    ([-1250, 104003], [True, True, False])
    """
    digits = text ^ _ZEROS
    others = digits + _CARRY
    others &= _TOPS
    others >>= 7
    others *= 255
    front = (text & others) ^ _AFTER_POINT
    valid = front == 0
    for other in _FRONTS[1:]:
        valid |= front == other
    digits &= ~others
    # Neighbouring digits to pairs, and pairs to the four before and the three after the point.
    digits = (digits * (10 << 8 | 1) >> 8) & 0x00FF00FF00FF00FF
    digits = (digits * (100 << 16 | 1) >> 16) & 0x0000FFFF0000FFFF
    value = (digits * (1000 << 32 | 1) >> 32).view(np.int64)
    np.negative(value, where=(front & _MINUS) != 0, out=value)
    return value, valid


def whole_number(text: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Integers of four characters in the form that :func:`thousandths` takes."""
    number: NDArray[np.uint64] = text & np.uint64(0xFFFFFFFF) | np.uint64(_WHOLE)
    return number


def coordinates(text: NDArray[np.uint64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Numbers of eight columns as the doubles nearest to them, and which of them are numbers.

    A ``nan``, which some programs write for an atom without a place, is NaN. Blanks, asterisks, letters and
    five digits before the point are no numbers of these columns.

    Examples
    --------
    >>> values, valid = coordinates(np.frombuffer(b"  -1.250    1.5 12345.67********", "<u8"))
    >>> values[:2].tolist(), valid.tolist()
    ([-1.25, 1.5], [True, True, False, False])
    """
    scaled, valid = thousandths(text.reshape(-1))
    values = scaled / 1000.0  # a quotient of exact integers is the double nearest to the decimal number
    for i in np.flatnonzero(~valid).tolist():
        raw = int(text.flat[i]).to_bytes(8, "little")
        valid[i] = _COORDINATE.fullmatch(raw) is not None
        values[i] = float(raw) if valid[i] else np.nan
    return values.reshape(text.shape), valid.reshape(text.shape)


def short_numbers(field: NDArray[np.uint8], default: float) -> NDArray[np.float32]:
    """Numbers [n] of six columns [n, 6]; blank ones are ``default``, other text is NaN.

    Examples
    --------
    >>> field = np.frombuffer(b"  1.00" b"      " b"******" b" 0.125", np.uint8).reshape(4, 6)
    >>> short_numbers(field, 1.0).tolist()
    [1.0, 1.0, nan, 0.125]
    """
    words = np.empty((len(field), 8), np.uint8)
    words[:, 0], words[:, 1:7], words[:, 7] = ord(" "), field, ord("0")
    text: NDArray[np.uint64] = words.view("<u8")[:, 0]
    scaled, valid = thousandths(text)
    values = (scaled / 1000.0).astype(np.float32)
    if valid.all():
        return values
    odd = np.flatnonzero(~valid)
    found, place = np.unique(text[odd], return_inverse=True)
    others = [_short_number(word.to_bytes(8, "little")[1:7].strip(), default) for word in found.tolist()]
    values[odd] = np.array(others, np.float32)[place]
    return values


def _short_number(text: bytes, default: float) -> float:
    if not text:
        return default
    return float(text) if _PLAIN.fullmatch(text) else np.nan


class ResidueNumbers:
    """Residue numbers of one file, in the ways in which programs write them.

    Four columns hold a decimal number. Behind 9999 real files go on with hybrid-36 (``A000``), with
    hexadecimal
    numbers (``2710``, by VMD), with the column of the insertion code as a fifth digit, or from 0 again.

    Parameters
    ----------
    texts : sequence of bytes
        Columns 23-27 of all residues, to see whether five columns are used throughout.

    Examples
    --------
    >>> texts = [b"9999 ", b"2710 ", b"271a ", b"10011", b"  52A"]
    >>> numbers = ResidueNumbers(texts)
    >>> [numbers.read("A", text) for text in texts]
    [(9999, b''), (10000, b''), (10010, b''), (10011, b''), (52, b'A')]
    >>> numbers.read("B", b"A000 "), numbers.read("B", b"**** ")
    ((10000, b''), None)
    """

    def __init__(self, texts: Sequence[bytes]) -> None:
        # Insertion codes are letters; a few digits among them may be meant as such, digits throughout are
        # not.
        digit = [text[4:].isdigit() for text in texts]
        blank = any(last and not text[:4].strip() for last, text in zip(digit, texts, strict=True))
        self.five = blank or (all(digit) and len(digit) > 0)
        self._last: dict[object, int] = {}
        self._hex: set[object] = set()
        self._turns: dict[object, int] = {}

    def read(self, chain: object, text: bytes) -> tuple[int, bytes] | None:
        """Number and insertion code of the next residue of a chain; None if the text is no number."""
        if _FIVE.fullmatch(text) or (self.five and _DECIMAL.fullmatch(text.strip()) and text[4:].isdigit()):
            value: int | None = int(text)
            code = b""
        else:
            value, code = self._four(chain, text[:4].strip()), text[4:].strip()
        if value is None:
            return None
        self._last[chain] = value
        return value, code

    def _four(self, chain: object, text: bytes) -> int | None:
        after_last = self._last.get(chain, 0) == LAST_DECIMAL + 10_000 * self._turns.get(chain, 0)
        if after_last and text == b"%x" % (LAST_DECIMAL + 1) and chain not in self._turns:
            self._hex.add(chain)
        if chain in self._hex and _HEX.fullmatch(text) and int(text, 16) > LAST_DECIMAL:
            return int(text, 16)
        if _DECIMAL.fullmatch(text):
            self._hex.discard(chain)  # numbering began anew
            if after_last and text == b"0":
                self._turns[chain] = self._turns.get(chain, 0) + 1
            return int(text) + 10_000 * self._turns.get(chain, 0)
        if _HEX.fullmatch(text) and text[:1].isdigit():
            self._hex.add(chain)
            return int(text, 16)
        if _HYBRID.fullmatch(text):
            first = 10 * 36**3
            return int(text, 36) - first + 10_000 + (26 * 36**3 if text[:1].islower() else 0)
        return None
