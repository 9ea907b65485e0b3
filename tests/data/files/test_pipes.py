"""Standard input and named pipes: recognised by a look that loses nothing, and read once."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from protclip.data.files.fasta import read_fasta
from protclip.data.files.pipes import is_pipe, look_into, open_input, pipe_name
from protclip.errors import DataError

FASTA = "".join(f">r{i}\nMKVLLA\n" for i in range(30_000)).encode()  # more than one look takes


@contextmanager
def fed(path: Path, data: bytes) -> Iterator[Path]:
    """A named pipe that somebody writes to."""
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(data), daemon=True)
    writer.start()
    yield path
    writer.join(20)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("looks", [0, 1, 3])
def test_a_look_loses_nothing(tmp_path: Path, pack, looks) -> None:
    with fed(tmp_path / "pipe", pack(FASTA)) as path:
        assert is_pipe(path)
        for _ in range(looks):
            assert FASTA.startswith(look_into(path))
        assert len(list(read_fasta(path))) == 30_000


def test_files_are_looked_into_too(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(gzip.compress(FASTA))
    assert not is_pipe(path)
    assert look_into(path) == FASTA[: 1 << 16] == look_into(path)
    with open_input(path) as stream:
        assert stream.read(2) == b"\x1f\x8b"
    with pytest.raises(DataError, match="cannot be read"):
        look_into(tmp_path / "none")


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_standard_input(name: str) -> None:
    assert is_pipe(name)
    assert pipe_name(name) == "stdin"
    code = (
        "from protclip.data.files.pipes import look_into; from protclip.data.files.fasta import read_fasta;"
        f"look_into({name!r}); look_into('-'); print(len(list(read_fasta({name!r}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=FASTA, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == b"30000\n"
