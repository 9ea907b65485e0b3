"""Input that can be read once: standard input and named pipes.

A pipe is opened once, when somebody first asks what it holds; whoever then reads it gets all of it, what was
looked at included.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from protclip.compression import open_content
from protclip.errors import DataError

STANDARD_INPUT = frozenset({"-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"})

_LOOK = 1 << 16
_opened: dict[str, BinaryIO] = {}


def is_pipe(path: str | Path) -> bool:
    """Whether a path stands for standard input, or is a named pipe or a device."""
    if str(path) in STANDARD_INPUT:
        return True
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def exists(path: Path) -> bool:
    """Whether there is something to read: a file, a folder, or standard input."""
    return is_pipe(path) or path.exists()


def pipe_name(path: str | Path) -> str:
    """What an item that fills a pipe is called."""
    return "stdin" if str(path) in STANDARD_INPUT else Path(path).name


def open_input(path: str | Path) -> BinaryIO:
    """A file, or a pipe from its first byte on, also where :func:`look_into` has looked at it.

    Raises
    ------
    OSError
        If it cannot be opened.
    """
    return _opened.pop(_key(path), None) or _open(path)


def look_into(path: str | Path) -> bytes:
    """The first bytes (at most 64 KiB) of what a file or pipe holds, decompressed; of a pipe nothing is lost.

    Raises
    ------
    DataError
        If it cannot be opened, or is damaged.
    """
    try:
        if not is_pipe(path):
            with _open(path) as raw:
                return open_content(raw, str(path)).read(_LOOK)
        if _key(path) not in _opened:
            # From here on the pipe is read decompressed; nothing that is not compressed is changed by that.
            _opened[_key(path)] = open_content(_open(path), str(path))
        stream = _opened[_key(path)]
        head = stream.read(_LOOK)
        _opened[_key(path)] = io.BufferedReader(_Rejoined(head, stream), _LOOK)
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
    return head


def _key(path: str | Path) -> str:
    return "-" if str(path) in STANDARD_INPUT else str(path)


def _open(path: str | Path) -> BinaryIO:
    if str(path) in STANDARD_INPUT:
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    return Path(path).open("rb")


class _Rejoined(io.RawIOBase):
    """Bytes that were looked at, and the stream behind them."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        size = len(buffer)
        data = self._head[:size] or self._stream.read(size)
        self._head = self._head[size:]
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
