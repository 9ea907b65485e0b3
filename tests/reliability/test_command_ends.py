"""How commands end where the shell gives them nothing to stand on: one line, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "v0.1"
COMMAND = f"{sys.executable} -m protclip"
FILE = GOLDEN / "pairs" / "left.h5"

pytestmark = pytest.mark.skipif(os.name != "posix", reason="a matter of POSIX shells")


def shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("verb", ["--version", "--help", f"info {FILE}", f"info --json {FILE}"])
def test_full_standard_output(tmp_path: Path, verb: str) -> None:
    done = shell(f"{COMMAND} {verb} > /dev/full", tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: standard output: ")
    assert "No space left" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_full_standard_error(tmp_path: Path) -> None:
    assert shell(f"{COMMAND} info nothing 2> /dev/full", tmp_path).returncode == 2


def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    done = shell(f"{COMMAND} info {FILE} | true; echo ${{PIPESTATUS[0]}}", tmp_path)
    assert done.stdout in ("1\n", "0\n")  # 0 if the pipe took it all before its reader ended
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    done = shell(f"{COMMAND} info {FILE} {closed}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_was_deleted(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone} && rmdir {gone} && {COMMAND} info {FILE}", tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: the current folder is not there any more")
    assert "Traceback" not in done.stderr
