"""Domain boundaries: segments of a chain by author residue numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from protclip.errors import StructureError

_END = r"(-?\d{1,9})(?:\(([A-Za-z0-9])\)|([A-Za-z]))?"
_SEGMENT = re.compile(
    rf"\s*(?:(?P<front>[A-Za-z0-9]{{1,8}}):)?{_END}(?:-{_END})?(?::(?P<back>[A-Za-z0-9]{{1,8}}))?\s*"
)

_EXAMPLE = "segments such as 1-86,147-242 or -1-115:A,200A-210:A"


class Segment(NamedTuple):
    """A stretch of a chain, both ends included.

    Attributes
    ----------
    start, end : int
        Author residue numbers.
    start_icode, end_icode : str
        Insertion codes, ``""`` for none.
    chain : str or None
        Chain id, None where the boundary list does not say.
    """

    start: int
    start_icode: str
    end: int
    end_icode: str
    chain: str | None

    def __str__(self) -> str:
        text = f"{self.start}{self.start_icode}-{self.end}{self.end_icode}"
        return text if self.chain is None else f"{text}:{self.chain}"


def parse_chopping(text: str) -> tuple[Segment, ...]:
    """Read a CATH chopping.

    Segments are separated by commas, semicolons or underscores. A chain may stand behind (CATH,
    ``1-86:A``) or in front (SCOP, ``A:1-86``); numbers may be negative and carry an insertion code
    (``200A`` or ``200(A)``); one number alone is a segment of one residue.

    Raises
    ------
    StructureError
        If the text is not a chopping or a segment ends before it starts.

    Examples
    --------
    >>> [str(s) for s in parse_chopping("-1-115:A,200A-210:A")]
    ['-1-115:A', '200A-210:A']
    >>> parse_chopping("7-9")[0]
    Segment(start=7, start_icode='', end=9, end_icode='', chain=None)
    """
    if not isinstance(text, str):
        raise StructureError("chopping is not text", got=type(text).__name__, expected=_EXAMPLE)
    segments = []
    for part in re.split(r"[,;_]", text.strip()):
        match = _SEGMENT.fullmatch(part)
        if match is None:
            raise StructureError("not a chopping", where=repr(text), got=repr(part), expected=_EXAMPLE)
        start, icode_a, icode_b, end, icode_c, icode_d = match.groups()[1:7]
        segment = Segment(
            int(start),
            icode_a or icode_b or "",
            int(start if end is None else end),
            (icode_a or icode_b or "") if end is None else (icode_c or icode_d or ""),
            match["back"] or match["front"],
        )
        if segment.end < segment.start:
            raise StructureError(
                "segment ends before it starts", where=repr(text), got=str(segment), expected="start <= end"
            )
        segments.append(segment)
    return tuple(segments)


def as_segments(segments: str | Iterable[Segment] | None) -> tuple[Segment, ...] | None:
    """The ``segments=`` argument of the readers in one form: text is parsed, None stays None."""
    if segments is None:
        return None
    if isinstance(segments, str):
        return parse_chopping(segments)
    result = tuple(segments)
    if not result or not all(isinstance(s, Segment) for s in result):
        raise StructureError("segments are neither a chopping nor Segment objects", expected=_EXAMPLE)
    return result


def segment_mask(
    number: NDArray[np.int32], icode: NDArray[np.bytes_], segments: Iterable[Segment], where: str
) -> NDArray[np.bool_]:
    """Residues [L] that lie in any of the segments.

    An observed boundary residue counts by its place in the file, because insertion codes run
    backwards in some families (1H ... 1A, 1 in thrombin). An unobserved one counts by its number.

    Raises
    ------
    StructureError
        If a segment holds no residue or two segments overlap.
    """
    inside = np.zeros(len(number), bool)
    place = np.arange(len(number))
    for segment in segments:
        first = _find(number, icode, segment.start, segment.start_icode)
        last = _find(number, icode, segment.end, segment.end_icode)
        after = (
            place >= first
            if first is not None
            else (number > segment.start)
            | ((number == segment.start) & (icode >= segment.start_icode.encode()))
        )
        before = (
            place <= last
            if last is not None
            else (number < segment.end) | ((number == segment.end) & (icode <= segment.end_icode.encode()))
        )
        mask = after & before
        if not mask.any():
            raise StructureError(
                "segment holds no residue",
                where=where,
                got=str(segment),
                expected=f"numbers within {number.min()} to {number.max()}",
                hint="Boundaries are author residue numbers; check the chain and the numbering scheme",
            )
        if (mask & inside).any():
            raise StructureError(
                "segments overlap", where=where, got=str(segment), expected="disjoint segments"
            )
        inside |= mask
    return inside


def _find(number: NDArray[np.int32], icode: NDArray[np.bytes_], value: int, code: str) -> int | None:
    hits = np.flatnonzero((number == value) & (icode == code.encode()))
    return int(hits[0]) if len(hits) else None
