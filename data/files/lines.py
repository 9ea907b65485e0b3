"""Reading line-based files, plain or compressed, with errors that name the file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

from protclip.compression import open_content
from protclip.data.files.pipes import open_input
from protclip.errors import DataError

LONGEST = 1 << 28
"""Characters of the longest line that is read: the largest chromosome has fewer."""

_UNDECODABLE = re.compile("[\udc80-\udcff]")


def numbered_lines(path: str | Path, *, latin1: bool = False) -> Iterator[tuple[int, str]]:
    r"""Lines of a text file, pipe or standard input (``-``) with their numbers, from 1, without line ends.

    Compression is recognised by content, not by name; Unix, Windows and old Mac line ends and a byte order
    mark are accepted.

    Parameters
    ----------
    path
    latin1
        Take bytes that are not UTF-8 for Latin-1, as old files have it, instead of refusing them.

    Raises
    ------
    DataError
        If the file is missing, unreadable, truncated, or not text.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.txt"
    >>> _ = file.write_bytes(b"one\r\ntwo")
    >>> list(numbered_lines(file))
    [(1, 'one'), (2, 'two')]
    """
    number = 0
    try:
        with open_input(path) as raw:
            # Undecodable bytes come through as lone surrogates, so that their line is known.
            text = io.TextIOWrapper(
                open_content(raw, str(path)), encoding="utf-8-sig", errors="surrogateescape"
            )
            while line := text.readline(LONGEST):
                number += 1
                yield number, checked_line(line, f"{path}:{number}", latin1=latin1)
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None


def checked_line(line: str, where: str, *, latin1: bool = False) -> str:
    """A line, decoded with ``surrogateescape``, as text without its end.

    Raises
    ------
    DataError
        If it is not UTF-8 (unless ``latin1`` takes the bytes for that), holds a NUL or is too long.
    """
    if not line.isascii() and (bad := _UNDECODABLE.search(line)):
        if not latin1:
            got = f"byte 0x{ord(bad[0]) - 0xDC00:02x}"
            raise DataError("this is not UTF-8 text", where=where, got=got)
        line = _UNDECODABLE.sub(lambda match: chr(ord(match[0]) - 0xDC00), line)
    if "\0" in line:
        raise DataError("this is not a text file", where=where, got="a NUL byte")
    if len(line) >= LONGEST:
        raise DataError("a line without an end", where=where, got=f"{len(line)} characters")
    return line.rstrip("\r\n")
