"""A disk that is full at any write: said, nothing half-written, and taken up when there is room."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from protclip.errors import DataError
from protclip.files import atomic_write

PARTS = {"embed": "vectors.h5.parts", "embed to Parquet": "vectors.parquet.parts", "predict": "go.tsv.parts"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(disk: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", str(disk)], check=True)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="commands are copies of a process")
@pytest.mark.parametrize("name", ["embed", "predict"])
def test_every_size_of_a_disk_that_is_too_small(harness, commands, verbs, place, disk, name):
    """Grown step by step, so that another write is the first to fail each time, in one and the same work."""
    verb = verbs[name]
    whole = place / f"{name}-ample"
    whole.mkdir()
    commands.must(*verb.arguments(whole))
    expected = harness.snapshot(whole)
    needed = sum(path.stat().st_size for path in whole.iterdir()) // 1024
    (out,) = [file for file in expected if not file.endswith(".failed.tsv")]
    failures = kept = 0
    for kilobytes in range(8, 5 * needed, max(8, needed // 5)):
        resize(disk, kilobytes)
        status, _ = commands.run(verb.arguments(disk))
        if status == 0:
            break
        failures += 1
        said = commands.said()
        assert status == 2, said
        assert "the disk is full" in said or "No space left on device" in said
        assert "Traceback" not in said
        assert not (disk / out).exists()
        if (disk / PARTS[name]).exists():
            kept += 1
            assert "make room and give the same command again" in said
    assert status == 0, commands.said()
    assert failures > 3
    assert kept > 1
    assert harness.snapshot(disk) == expected


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_an_old_file_survives_a_full_disk(tmp_path, monkeypatch, code):
    atomic_write(tmp_path / "file", "old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as stream:
            stream.write(content[: len(content) // 2])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DataError, match=os.strerror(code)):
        atomic_write(tmp_path / "file", "new content")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
