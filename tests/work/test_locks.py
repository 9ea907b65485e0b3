"""One process at a time makes an output; the lock dies with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from protclip.errors import DataError
from protclip.work.locks import claim, file_lock, tidy

HOLD = """
import sys, time
from pathlib import Path
from protclip.work.locks import claim
with claim(Path(sys.argv[1])):
    {more}
    print("held", flush=True)
    time.sleep(60)
"""


COPY = """import os
    seen, told = os.pipe()
    if os.fork() == 0:
        os.write(told, b"1")
        time.sleep(30)
        os._exit(0)
    os.read(seen, 1)  # the child is at work"""


def holder(output, more="pass"):
    """A process that holds the claim of an output until it is killed."""
    code = HOLD.format(more=more)
    process = subprocess.Popen([sys.executable, "-c", code, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_at_once_and_told_of_the_first(tmp_path):
    output = tmp_path / "vectors.h5"
    process = holder(output)
    try:
        with pytest.raises(DataError) as caught, claim(output):
            pass
        assert str(output) in str(caught.value)
        assert f"process {process.pid}" in str(caught.value)
        with claim(output.with_suffix(".parquet")), claim(tmp_path / "vectors"):
            pass  # neighbours have locks of their own
    finally:
        kill(process)
    with claim(output):
        pass
    assert list(tmp_path.iterdir()) == []


def test_another_spelling_is_the_same_output(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    monkeypatch.chdir(tmp_path / "deep")
    with claim("x.h5"):
        for same in (tmp_path / "deep" / "x.h5", tmp_path / "link" / "x.h5", tmp_path / "deep/../deep/x.h5"):
            with pytest.raises(DataError, match="another process"), claim(same):
                pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_outlives_its_parent_does_not_hold_the_lock(tmp_path):
    output = tmp_path / "x.h5"
    # The child is a copy of its parent with all open files, as the workers of a data loader are.
    process = holder(output, COPY)
    kill(process)
    with claim(output):
        pass


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    output = tmp_path / "x.h5"
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    dead = int(gone.stdout)
    (tmp_path / f".x.h5.{dead}-1f.tmp").write_bytes(b"half")
    (tmp_path / f".x.h5.failed.tsv.{dead}-1f.tmp").write_bytes(b"half")
    (tmp_path / f".x.h5.{dead}-2e.tmp").mkdir()
    (tmp_path / f".x.h5.{dead}-2e.tmp" / "made_by.json").write_text("{}")
    kept = [
        f".x.h5.{os.getpid()}-1f.tmp",
        f".y.h5.{dead}-1f.tmp",
        ".x.h5.tmp",
        "x.h5",
        ".x.h5.old",
        "x.h5.1-2.tmp",
    ]
    for name in kept:
        (tmp_path / name).write_bytes(b"")
    with claim(output):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_a_finished_output_is_tidied_up_but_not_under_somebody_at_work(tmp_path):
    output = tmp_path / "x.h5"
    process = holder(output)
    tidy(output)
    assert (tmp_path / ".x.h5.lock").exists()
    (tmp_path / f".x.h5.{process.pid}-1f.tmp").write_bytes(b"half")
    kill(process)
    tidy(output)
    assert list(tmp_path.iterdir()) == []


def test_waiting_lock_waits(tmp_path):
    code = """
import sys, time
from pathlib import Path
from protclip.work.locks import file_lock
with file_lock(Path(sys.argv[1])) as waited:
    print(waited, flush=True)
    time.sleep(float(sys.argv[2]))
"""
    lock = str(tmp_path / "x.lock")
    with subprocess.Popen(
        [sys.executable, "-c", code, lock, "0.5"], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "False\n"
        start = time.monotonic()
        with file_lock(tmp_path / "x.lock") as waited:
            assert waited
            assert time.monotonic() > start
        assert first.wait() == 0
    assert list(tmp_path.iterdir()) == []
