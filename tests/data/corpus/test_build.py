"""Building: parallel as serial, failures counted, killed builds taken up, the cache not stale."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import protclip.data.corpus.parse as parse
from protclip.data.corpus.build import (
    CHUNK_FILES,
    LARGEST_CHUNK,
    _cut,
    build_corpus,
    cached_corpus,
)
from protclip.data.corpus.parse import Item, ReadSettings
from protclip.data.corpus.store import Corpus
from protclip.errors import DataError
from protclip.structure.protein import Protein
from protclip.work.outputs import failed_path


def test_report_of_the_shipped_corpus(cath_dir: Path, tmp_path: Path) -> None:
    report = build_corpus(cath_dir, tmp_path / "c.h5", workers=1)
    assert (report.built, report.failed, report.unlabelled, report.resumed) == (168, 0, 0, 0)
    assert report.residues == int(Corpus.open(report.out).lengths.sum())
    assert report.dropped["altloc"] > 0
    assert "168 proteins" in str(report)
    assert f"{report.dropped['hydrogen']} hydrogen" in str(report)
    assert [path.name for path in tmp_path.iterdir()] == ["c.h5"]


def test_two_workers_build_the_same_file(cath_dir: Path, sample_file: Path, tmp_path: Path) -> None:
    build_corpus(cath_dir, tmp_path / "c.h5", workers=2)
    assert (tmp_path / "c.h5").read_bytes() == sample_file.read_bytes()


@pytest.fixture
def mixed(cath_dir: Path, tmp_path: Path) -> Path:
    """Three sound domains, three bad files, no list."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in ("1ubiA00", "1pdoA00", "1eteA00"):
        shutil.copy(cath_dir / "dompdb" / name, folder)
    (folder / "1xxxA00").write_text("")
    (folder / "1xxxB00").write_bytes(bytes(range(256)))
    (folder / "1xxxC00").write_text("ATOM      1  N   GLY A   1       x\n")
    return folder


def test_bad_files_are_counted_and_listed(mixed: Path, tmp_path: Path) -> None:
    out = tmp_path / "c.h5"
    report = build_corpus(mixed, out, workers=2)
    assert (report.built, report.failed, report.unlabelled) == (3, 3, 3)
    assert "3 files failed" in str(report)
    assert "no CATH labels" in str(report)
    rows = [line.split("\t") for line in failed_path(out).read_text().splitlines()]
    assert rows[0] == ["id", "file", "reason"]
    assert [(row[0], Path(row[1]).name) for row in rows[1:]] == [(f"1xxx{c}00", f"1xxx{c}00") for c in "ABC"]
    assert all(row[2] for row in rows[1:])
    for name in ("1xxxA00", "1xxxB00", "1xxxC00"):
        (mixed / name).unlink()
    assert build_corpus(mixed, out).failed == 0
    assert not failed_path(out).exists()


def test_an_unexpected_error_costs_one_file_only(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = parse.read_item

    def stumble(item: Item, settings: ReadSettings) -> Protein:
        if item.id == "1ubiA00":
            raise ZeroDivisionError("bug")
        return read(item, settings)

    monkeypatch.setattr(parse, "read_item", stumble)
    report = build_corpus(mixed, tmp_path / "c.h5")
    assert (report.built, report.failed) == (2, 4)
    assert "unexpected ZeroDivisionError: bug" in failed_path(report.out).read_text()


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "1xxxA00").write_text("")
    with pytest.raises(DataError, match=r"no file gave a protein; got 1 failures, first: 1xxxA00"):
        build_corpus(tmp_path, tmp_path / "c.h5")
    assert not (tmp_path / "c.h5").exists()
    assert "1xxxA00" in failed_path(tmp_path / "c.h5").read_text()


def test_whole_chains_are_cut(cath_dir: Path, tmp_path: Path) -> None:
    shutil.copy(cath_dir / "dompdb" / "1ubiA00", tmp_path / "1ubiA.pdb")
    (tmp_path / "cuts.txt").write_text("1ubiA01 1-20,40-50\n1ubiA02 21-39:A\n1ubiA03 500-600\n")
    report = build_corpus(tmp_path, tmp_path / "c.h5", boundaries=tmp_path / "cuts.txt")
    corpus = Corpus.open(report.out)
    assert (corpus.ids, corpus.lengths.tolist(), report.failed) == (["1ubiA01", "1ubiA02"], [31, 19], 1)
    assert corpus[0].residue_number.tolist() == [*range(1, 21), *range(40, 51)]


def test_work_finished_before_a_failure_is_taken_up(
    cath_dir: Path, sample_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.h5"
    read = parse.read_item
    calls: list[str] = []

    def stop(item: Item, settings: ReadSettings) -> Protein:
        calls.append(item.id)
        if len(calls) == 3 * CHUNK_FILES + 5:
            raise KeyboardInterrupt
        return read(item, settings)

    monkeypatch.setattr(parse, "read_item", stop)
    with pytest.raises(KeyboardInterrupt):
        build_corpus(cath_dir, out, workers=1)
    assert not out.exists()
    calls.clear()
    calls.extend([""] * 1000)
    report = build_corpus(cath_dir, out, workers=1)
    assert report.resumed == 3 * CHUNK_FILES
    assert len(calls) - 1000 == 168 - 3 * CHUNK_FILES
    assert out.read_bytes() == sample_file.read_bytes()


def test_damaged_or_outdated_shards_are_made_again(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "c.h5"

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("protclip.data.corpus.build.list_failures", crash)
        with pytest.raises(KeyboardInterrupt):
            build_corpus(mixed, out)
    (shard,) = (tmp_path / "c.h5.partial").glob("*.h5")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2 :] = b""
    shard.write_bytes(content)
    report = build_corpus(mixed, out)
    assert (report.built, report.resumed) == (3, 0)


_BUILD = """
import sys, time
import protclip.data.corpus.parse as parse
from protclip.data.corpus.build import build_corpus
if __name__ == "__main__":
    read = parse.read_item
    def slow(item, settings):
        time.sleep(0.01)
        return read(item, settings)
    parse.read_item = slow
    build_corpus(sys.argv[1], sys.argv[2], workers=int(sys.argv[3]))
"""


def _wait_for(condition: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_kill_9_loses_nothing_finished(cath_dir: Path, sample_file: Path, tmp_path: Path) -> None:
    out, partial = tmp_path / "c.h5", tmp_path / "c.h5.partial"
    process = subprocess.Popen([sys.executable, "-c", _BUILD, str(cath_dir), str(out), "1"])
    _wait_for(lambda: partial.is_dir() and len(list(partial.glob("[!.]*.h5"))) >= 2)
    process.kill()
    process.wait()
    assert not out.exists()
    finished = len(list(partial.glob("[!.]*.h5")))
    assert 2 <= finished < 6
    report = build_corpus(cath_dir, out, workers=1)
    assert report.resumed == finished * CHUNK_FILES
    assert out.read_bytes() == sample_file.read_bytes()
    assert not partial.exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_do_not_outlive_a_killed_parent(cath_dir: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for k in range(6):
        for path in (cath_dir / "dompdb").iterdir():
            (many / f"c{k}_{path.name}.pdb").symlink_to(path)
    out, partial = tmp_path / "c.h5", tmp_path / "c.h5.partial"
    # A file: spawned workers import the main module again.
    script = tmp_path / "build.py"
    script.write_text(_BUILD)
    process = subprocess.Popen([sys.executable, str(script), str(many), str(out), "2"])
    _wait_for(lambda: partial.is_dir() and list(partial.glob("[!.]*.h5")))
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    _wait_for(lambda: not any(_runs(int(child)) for child in children), 20)
    assert not out.exists()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_dying_worker_is_reported(mixed: Path, tmp_path: Path) -> None:
    script = tmp_path / "no_guard.py"
    # Without the main guard every spawned worker starts a build of its own and dies; with a second thread
    # they are spawned everywhere.
    script.write_text(
        "import threading\nfrom protclip.data.corpus.build import build_corpus\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        f"build_corpus({str(mixed)!r}, 'c.h5', workers=2)\n"
    )
    for k in range(40):
        (mixed / f"2xxx{'ABCD'[k % 4]}{k:02d}").write_text("")
    done = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "a worker process died" in done.stderr
    assert '__name__ == "__main__"' in done.stderr


_FORKED = """
import os, signal, sys
import protclip.data.corpus.build as build
import protclip.data.corpus.parse as parse

read = parse.read_item

def watch(item, settings):
    if os.getpid() == parent:  # spawned workers would not know this function
        sys.exit("not in a worker")
    names = {os.path.basename(os.readlink(f"/proc/self/fd/{fd}")) for fd in os.listdir("/proc/self/fd")
             if os.path.exists(f"/proc/self/fd/{fd}")}
    if any(name.startswith(".c.h5.") for name in names):
        sys.exit("the unfinished corpus is open in a worker")
    if item.id == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(item, settings)

parent = os.getpid()
parse.read_item = watch
print(build.build_corpus(sys.argv[1], "c.h5", workers=2, progress=True))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_forked_workers(cath_dir: Path, sample_file: Path, tmp_path: Path) -> None:
    """No main guard is needed, nothing half-written is inherited, and a worker that is killed is reported."""
    script = tmp_path / "build.py"
    script.write_text(_FORKED)

    def run(victim: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(script), str(cath_dir), victim]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    killed = run("1ubiA00")
    assert killed.returncode == 1
    assert "a worker process died" in killed.stderr
    assert not (tmp_path / "c.h5").exists()
    whole = run("nobody")
    assert whole.returncode == 0, whole.stderr
    assert "168 proteins" in whole.stdout
    assert (tmp_path / "c.h5").read_bytes() == sample_file.read_bytes()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_workers_are_copies_only_of_processes_with_one_thread() -> None:
    code = "import threading; from protclip.data.corpus.parse import start_method; {}; print(start_method())"
    for before, expected in {
        "import numpy; a = numpy.ones((500, 500)); a @ a": "fork",  # OpenBLAS stops its threads at a fork
        "threading.Thread(target=threading.Event().wait, daemon=True).start()": "spawn",
        # A thread that Python does not know of.
        "import _thread, time; _thread.start_new_thread(time.sleep, (9,))": "spawn",
    }.items():
        done = subprocess.run(
            [sys.executable, "-c", code.format(before)], capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [expected], before


def test_chunks_get_smaller_at_the_end() -> None:
    for n in (1, 32, 33, 168, 3379, 100_000):
        items = [Item(str(i), "", None, "") for i in range(n)]
        chunks = _cut(items)
        assert [item for chunk in chunks for item in chunk] == items
        sizes = [len(chunk) for chunk in chunks]
        assert sizes == sorted(sizes, reverse=True)
        assert max(sizes) <= LARGEST_CHUNK
        assert sizes[-1] <= CHUNK_FILES


def test_cache_is_built_once_and_notices_changes(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    first = cached_corpus(mixed, tmp_path / "cache", say=told.append)
    assert "3 proteins" in told[0]
    assert "3 files failed" in told[0]
    stamp = first.stat().st_mtime_ns
    again = cached_corpus(mixed, tmp_path / "cache", say=told.append)
    assert (again, again.stat().st_mtime_ns, told[1]) == (first, stamp, told[0])
    shutil.copy(mixed / "1ubiA00", mixed / "3ubiA00")
    more = cached_corpus(mixed, tmp_path / "cache")
    assert more != first
    assert len(Corpus.open(more)) == 4
    (mixed / "cath-domain-list.txt").write_text("1ubiA00 3 10 20 90 1 1 1 1 1 76 1.8\n")
    labelled = cached_corpus(mixed, tmp_path / "cache")
    assert set(Corpus.open(labelled).codes) == {"", "3.10.20.90"}
    assert cached_corpus(mixed, tmp_path / "cache", altloc="first") != labelled
    monkeypatch.setenv("PROTCLIP_CACHE", str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere") in cached_corpus(mixed).parents


def test_a_damaged_cached_file_is_built_again(mixed: Path, tmp_path: Path) -> None:
    path = cached_corpus(mixed, tmp_path / "cache")
    path.write_bytes(path.read_bytes()[:-100])
    assert cached_corpus(mixed, tmp_path / "cache") == path
    assert len(Corpus.open(path)) == 3


def test_many_asking_at_once_get_one_corpus(mixed: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: cached_corpus(mixed, tmp_path / "cache"), range(4)))
    assert len(set(paths)) == 1
    names = sorted(path.name for path in paths[0].parent.iterdir())
    assert names == [paths[0].name, paths[0].name + ".failed.tsv"]


def test_unwritable_place(mixed: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        build_corpus(mixed, tmp_path / "file" / "c.h5")
    (tmp_path / "d.h5").mkdir()
    with pytest.raises(DataError, match="a folder stands in the place"):
        build_corpus(mixed, tmp_path / "d.h5")
    with pytest.raises(DataError, match="--workers"):
        build_corpus(mixed, tmp_path / "e.h5", workers=0)
