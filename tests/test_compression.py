"""Compressed content: every kind, in one piece and as a stream, whole, damaged and made to fill a memory."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random

import pyarrow as pa
import pytest

from protclip.compression import SMALL, decompress, open_content, without_suffix
from protclip.errors import DataError, StructureError


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK = {"gzip": lambda d: gzip.compress(d, mtime=0), "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd}
TEXT = random.Random(0).randbytes(300_000) + b"MKVL" * 200_000 + b"end"


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as pipes may."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(min(size, 7) if size and size > 0 else 7)


@pytest.mark.parametrize("kind", PACK)
@pytest.mark.parametrize("text", [TEXT, b"", b"M"], ids=["long", "nothing", "one"])
def test_what_was_compressed_comes_back(kind: str, text: bytes) -> None:
    packed = PACK[kind](text)
    assert decompress(packed, "x") == text
    assert decompress(packed + packed, "x") == text + text  # as `cat` joins files
    assert open_content(io.BytesIO(packed), "x").read() == text
    assert open_content(Trickle(packed), "x").read(100) == text[:100]


@pytest.mark.parametrize("text", [TEXT, b"", b"M", b"BZ", b"\x1f"])
def test_what_is_not_compressed_stays(text: bytes) -> None:
    assert decompress(text, "x") == text
    assert open_content(Trickle(text), "x").read() == text


@pytest.mark.parametrize("kind", PACK)
def test_damage_is_one_error(kind: str) -> None:
    packed = PACK[kind](TEXT)
    for bad in (packed[:-5], packed[: len(packed) // 2], packed[:8], packed + b"something else"):
        with pytest.raises(DataError, match=f"x: the {kind} file is damaged or cut off"):
            decompress(bad, "x")
        with pytest.raises(StructureError, match="damaged or cut off"):
            open_content(io.BytesIO(bad), "x", StructureError).read()


@pytest.mark.parametrize("kind", PACK)
def test_what_grows_too_large_is_refused(kind: str) -> None:
    bomb = PACK[kind](bytes(SMALL + (4 << 20)))
    with pytest.raises(DataError, match="implausibly larger than the compressed file"):
        decompress(bomb, "x")
    stream = open_content(io.BytesIO(bomb), "x")
    assert len(stream.read(SMALL - (1 << 20))) == SMALL - (1 << 20)
    with pytest.raises(DataError, match="implausibly larger"):
        stream.read(8 << 20)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.gz", "a"), ("a.FASTA.Bz2", "a.FASTA"), ("a.tar.xz", "a.tar"), ("a.ZST", "a"), ("gz", "gz")],
)
def test_suffixes(name: str, expected: str) -> None:
    assert without_suffix(name) == expected
