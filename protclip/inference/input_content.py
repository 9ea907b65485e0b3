"""What an input of an embedding holds, as a fingerprint, by which work that is taken up again is known."""

from __future__ import annotations

import functools
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.data.files.spans import STORE_SUFFIXES, Shard, Span
from protclip.modalities.base import Modality
from protclip.work.fingerprint import file_digest, file_digests, fingerprint

ONCE = "read once "
TAIL = 16 << 20
"""Bytes behind a stretch of a file that still count: the last item that begins in it may end there."""


def input_fingerprint(side: Modality[Any] | None, source: Any) -> str:
    """Fingerprint of what a side reads of an input, by content.

    Of a folder those files count that the side reads (without a side, all), with their relative names; of a
    file its name too, since the ids of its items may come from it. Of a shard its stretches of files count.
    Objects in memory count by their values. What can be read only once has another one each time: see
    :func:`reads_once`.
    """
    if isinstance(source, Shard):
        return fingerprint([_span(span) for span in source.spans])
    if isinstance(source, str) and os.path.exists(source):  # noqa: PTH110
        source = Path(source)
    if isinstance(source, Path):
        if source.is_dir():
            files = [source] if side is None else side.files(source)
            if files == [source]:
                return fingerprint(source)
            names = [os.path.relpath(file, source) for file in files]
            return fingerprint(list(zip(names, file_digests(files), strict=True)))
        if source.is_file():
            return fingerprint(source.name, source)
        return _once()
    try:
        return fingerprint(list(source.items()) if isinstance(source, Mapping) else source)
    except TypeError:
        return _once()


def reads_once(content: str) -> bool:
    """Whether a fingerprint is that of an input that cannot be read again, such as a pipe."""
    return content.startswith(ONCE)


def _once() -> str:
    return ONCE + secrets.token_hex(8)


def _span(span: Span) -> tuple[str, int, int, int, str]:
    if span.is_whole or span.path.suffix.lower() in STORE_SUFFIXES:
        # The proteins of a store do not lie where their stretch does.
        facts = span.path.stat()
        digest = _digest(span.path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
    else:
        digest = file_digest(span.path, start=span.start, stop=span.stop + TAIL)
    return span.path.name, span.start, span.stop, span.size, digest


@functools.lru_cache(maxsize=8)
def _digest(path: Path, *state: int) -> str:
    """Once a process for a store that many shards are cut from, as long as the file stays the same."""
    return file_digest(path)
