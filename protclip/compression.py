"""Compressed content: told by its first bytes, whatever the name, and of bounded size."""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from protclip.errors import DataError, ProtclipError

GZIP, BZIP2, XZ, ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
KINDS = {GZIP: "gzip", BZIP2: "bzip2", XZ: "xz", ZSTD: "zstd"}
SUFFIXES = (".gz", ".bz2", ".xz", ".zst")
"""Of compressed files; they stand behind the suffix that says what is inside."""

GROWTH, SMALL = 200, 64 << 20
"""Text becomes a hundred times smaller at best. Content that is more than GROWTH times as large as what it
was unpacked from, and larger than SMALL (bytes), is refused: it was made to fill a memory or a disk."""

_PIECE = 1 << 18
_XZ_MEMORY = 512 << 20


def compression(head: bytes) -> str | None:
    """How content that begins with ``head`` (six bytes or more) is compressed; None if it is not.

    Examples
    --------
    >>> compression(b"BZh91AY&SY"), compression(b">a\\nMKV")
    ('bzip2', None)
    """
    return next((kind for magic, kind in KINDS.items() if head.startswith(magic)), None)


def without_suffix(name: str) -> str:
    """A file name without the suffix of a compressed file, in any case.

    Examples
    --------
    >>> without_suffix("a.fasta.GZ"), without_suffix("a.fasta")
    ('a.fasta', 'a.fasta')
    """
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def decompress(data: bytes, where: str, error: type[ProtclipError] = DataError) -> bytes:
    """Content that was compressed, in one piece; anything else comes back as it is.

    Raises
    ------
    ProtclipError
        Of the class ``error``: the data is damaged, cut short or too much larger than ``data``.

    Examples
    --------
    >>> decompress(bz2.compress(b"MKV"), "x"), decompress(b"MKV", "x")
    (b'MKV', b'MKV')
    """
    if compression(data[:6]) is None:
        return data
    return b"".join(_pieces(io.BytesIO(data), where, error))


def open_content(stream: BinaryIO, where: str, error: type[ProtclipError] = DataError) -> BinaryIO:
    """A stream of what a stream holds, decompressed if it is compressed; nothing of it is read twice.

    Raises
    ------
    ProtclipError
        On reading, as of :func:`decompress`.
    """
    return io.BufferedReader(_Content(_pieces(stream, where, error)), _PIECE)


class _Content(io.RawIOBase):
    """Pieces of bytes as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        target = memoryview(buffer)
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        size = min(len(target), len(self._rest))
        target[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _pieces(stream: BinaryIO, where: str, error: type[ProtclipError]) -> Iterator[bytes]:
    """What a stream holds, bounded and with every kind of damage as one error."""
    head = stream.read(6)
    while len(head) < 6 and (more := stream.read(6 - len(head))):  # a pipe may give less than was asked for
        head += more
    kind = compression(head)
    if kind is None:
        yield head
        while piece := stream.read(_PIECE):
            yield piece
        return
    source = _Counted(head, stream)
    total = 0
    try:
        for piece in _zstd(source) if kind == "zstd" else _members(source, kind):
            total += len(piece)
            if total > max(SMALL, GROWTH * source.count):
                raise error(
                    "the content is implausibly larger than the compressed file",
                    where=where,
                    got=f"more than {total >> 20} MiB from {source.count} bytes",
                    expected=f"at most {GROWTH} times the size",
                    hint="Decompress it yourself if you know what it is",
                )
            yield piece
    except (EOFError, OSError, zlib.error, lzma.LZMAError, ValueError) as damage:
        raise error(
            f"the {kind} file is damaged or cut off",
            where=where,
            got=" ".join(str(damage).split()) or type(damage).__name__,
            expected=f"a complete {kind} file",
            hint="Fetch or copy it again",
        ) from None


class _Counted(io.RawIOBase):
    """A stream behind bytes that were taken from it, counting what is read."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream, self.count = head, stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data, self._head = (self._head, b"") if self._head else (self._stream.read(max(size, 1)), b"")
        self.count += len(data)
        return data


def _members(source: _Counted, kind: str) -> Iterator[bytes]:
    """Content of gzip, bzip2 and xz files, which may be several one behind the other."""
    new: dict[str, Callable[[], Any]] = {
        "gzip": lambda: zlib.decompressobj(31),
        "bzip2": bz2.BZ2Decompressor,
        "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
    }
    magic = next(key for key, name in KINDS.items() if name == kind)
    data = source.read(_PIECE)
    while data:
        while len(data) < len(magic) and (more := source.read(_PIECE)):
            data += more
        if not data.startswith(magic):
            raise EOFError(f"no {kind} data behind the end of what was compressed")
        member = new[kind]()
        while not member.eof:
            piece = member.decompress(data, _PIECE)
            data = getattr(member, "unconsumed_tail", b"")
            if piece:
                yield piece
            elif not member.eof:
                more = source.read(_PIECE)
                if not more:
                    raise EOFError("the end is missing")
                data += more
        data = member.unused_data.lstrip(b"\0")
        while not data and (more := source.read(_PIECE)):  # archives are padded with zeros
            data = more.lstrip(b"\0")


def _zstd(source: _Counted) -> Iterator[bytes]:
    import pyarrow as pa  # kept out of start-up

    with pa.CompressedInputStream(pa.PythonFile(source, "r"), "zstd") as stream:
        while piece := stream.read(_PIECE):
            yield piece
