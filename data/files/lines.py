"""Reading line-based files, plain or gzipped, with errors that name the file."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from protclip.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
_UNDECODABLE = re.compile("[\udc80-\udcff]")


def numbered_lines(path: str | Path) -> Iterator[tuple[int, str]]:
    r"""Lines of a text file with their numbers, from 1, without line ends.

    Gzip is recognised by content, not by name; Unix, Windows and old Mac line ends and a byte order
    mark are accepted.

    Raises
    ------
    DataError
        If the file is missing, unreadable, truncated, or not UTF-8 text.

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
        with Path(path).open("rb") as raw:
            head = raw.read(2)
            raw.seek(0)
            stream = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if head == GZIP_MAGIC else raw
            # Undecodable bytes come through as lone surrogates, so that their line is known.
            text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape")
            for number, line in enumerate(text, 1):
                if not line.isascii() and (bad := _UNDECODABLE.search(line)):
                    got = f"byte 0x{ord(bad[0]) - 0xDC00:02x}"
                    raise DataError("this is not UTF-8 text", where=f"{path}:{number}", got=got)
                if "\0" in line:
                    raise DataError("this is not a text file", where=f"{path}:{number}", got="a NUL byte")
                yield number, line.rstrip("\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            "the gzip file is damaged or cut off",
            where=f"{path}:{number + 1}",
            got=str(error),
            hint="Fetch or copy it again",
        ) from None
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
