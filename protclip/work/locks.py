"""Locks between processes that die with their holder: one that refuses, and one that waits."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from protclip.errors import DataError
from protclip.files import TEMPORARY

_held: set[int] = set()


def _forget_locks() -> None:
    """In a copy of this process: a lock is the parent's, and must die with it and not with the copy."""
    for handle in _held:
        with suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


def _lock(path: Path, *, wait: bool) -> tuple[int | None, bool]:
    """Take the lock file `path`: its handle, and whether another process had it; no handle without locks.

    Raises
    ------
    BlockingIOError
        If another process holds it, and this one is not to wait.
    DataError
        If it cannot be made.
    """
    try:
        import fcntl
    except ImportError:  # pragma: no cover
        return None, False
    waited = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise DataError("cannot be written", where=str(path.parent), got=error.strerror) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                os.close(handle)
                raise
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            os.close(handle)
            return None, False
        # The last holder removed the file after we opened it: ours is a lock on nothing.
        with suppress(OSError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:  # noqa: PTH116
                _held.add(handle)
                return handle, waited
        os.close(handle)


def _unlock(path: Path, handle: int | None) -> None:
    if handle is not None and handle in _held:
        with suppress(OSError):
            path.unlink()
        _held.discard(handle)
        os.close(handle)


@contextmanager
def file_lock(path: Path) -> Iterator[bool]:
    """Hold an exclusive lock file, waiting for other processes; True if there was somebody to wait for.

    The kernel drops the lock when its holder dies, so a killed process blocks nobody. Where the
    system has no such locks (Windows) the block runs unlocked.

    Raises
    ------
    DataError
        If the lock file cannot be made.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A spawned worker is importing the script that started it, which would wait for itself here.
        raise DataError(
            "a script that starts worker processes must not do so when it is imported",
            where=str(path),
            hint='Put its calls under `if __name__ == "__main__":`',
        )
    handle, waited = _lock(path, wait=True)
    try:
        yield waited
    finally:
        _unlock(path, handle)


@contextmanager
def claim(output: str | Path) -> Iterator[None]:
    """Keep other processes from an output, a file or a folder, while it is made.

    The lock lies beside the output and dies with this process, also by ``kill -9``. What a killed process
    left of the output's temporary files is removed.

    Raises
    ------
    DataError
        If another process (or another part of this one) is making the same output, at once; or if the
        folder cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "vectors.h5"
    >>> with claim(output), claim(output.with_suffix(".parquet")):
    ...     with claim(output):
    ...         pass
    Traceback (most recent call last):
    protclip.errors.DataError: ...vectors.h5: another process is making this output...
    """
    output = Path(output)
    path = _lock_path(output)
    try:
        handle, _ = _lock(path, wait=False)
    except BlockingIOError:
        with suppress(OSError):
            got = path.read_text().strip()
        raise DataError(
            "another process is making this output",
            where=str(output),
            got=f"a lock of process {got}" if got else None,
            hint="Wait until it is done, or choose another output",
        ) from None
    try:
        if handle is not None:
            os.truncate(handle, 0)
            with suppress(OSError):  # of a full disk, where removing something may be what is to be done
                os.write(handle, f"{os.getpid()}\n".encode())
            _sweep(output.parent, output.name)
        yield
    finally:
        _unlock(path, handle)


def tidy(output: Path) -> None:
    """Remove the lock and the temporary files that a killed process left of a finished output.

    An output that is there already is not made again, and so is not claimed.
    """
    if _lock_path(output).exists():
        with suppress(DataError), claim(output):
            pass


def tidy_folder(folder: Path) -> None:
    """Remove what killed processes left in a folder that this process has claimed: locks and temporary files.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / "log.csv").touch(), (folder / ".log.csv.4194304-7f.tmp").touch()
    (None, None)
    >>> tidy_folder(folder)
    >>> [path.name for path in folder.iterdir()]
    ['log.csv']
    """
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
        for lock in place.glob(".*.lock"):
            tidy(lock.with_name(lock.name.removeprefix(".").removesuffix(".lock")))
        _sweep(place)


def _lock_path(output: Path) -> Path:
    return output.parent.resolve() / f".{output.name}.lock"


def _sweep(folder: Path, name: str | None = None) -> None:
    """Remove temporary files and folders that killed processes left behind, of one output or of all."""
    start = "." if name is None else f".{name}."
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(start):
                continue
            found = TEMPORARY.fullmatch(entry.name)
            if found is None or _is_alive(int(found["pid"])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                with suppress(OSError):
                    os.unlink(entry.path)  # noqa: PTH108


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
