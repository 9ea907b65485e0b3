"""Files that appear whole or not at all, a lock between processes, TOML with clear errors."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from protclip.errors import ConfigError, DataError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


@contextmanager
def atomic_path(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Give a temporary name in the same folder; on success it is synced and renamed to `path`.

    With ``durable=False`` nothing waits for the disk: a power cut may leave a damaged file, a killed process
    cannot. That is for files that are checked when they are read, and can be made again.

    When the block raises, the temporary file is removed and `path` stays as it was.

    Raises
    ------
    DataError
        If the folder cannot be made or written, or the disk is full.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "deep" / "file.txt"
    >>> with atomic_path(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text(), len(list(target.parent.iterdir()))
    ('whole', 1)
    """
    path = Path(path)
    if path.is_dir():
        raise DataError("a folder stands in the place of the file to write", where=str(path))
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns():x}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if durable:
            sync(temporary)
        temporary.replace(path)
        if durable:
            sync(path.parent)
    except OSError as error:
        raise DataError("cannot be written", where=str(path), got=error.strerror or str(error)) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def sync(path: Path) -> None:
    """Flush a file or folder to the disk (a folder only where the system allows it)."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        if path.is_dir():
            return
        raise
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():
            raise
    finally:
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
    try:
        import fcntl
    except ImportError:  # pragma: no cover
        yield False
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A spawned worker is importing the script that started it, which would wait for itself here.
        raise DataError(
            "a script that starts worker processes must not do so when it is imported",
            where=str(path),
            hint='Put its calls under `if __name__ == "__main__":`',
        )
    waited = False
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DataError("cannot be written", where=str(path.parent), got=error.strerror) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waited = True
            fcntl.flock(handle, fcntl.LOCK_EX)
        # The last holder removed the file after we opened it: ours is a lock on nothing.
        with suppress(OSError):
            if os.stat(path).st_ino == os.fstat(handle).st_ino:  # noqa: PTH116
                break
        os.close(handle)
    try:
        yield waited
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(handle)


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` is either the old or the whole new file, also after a power cut."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing, is not UTF-8, or is not TOML; names the line.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read ({error.strerror})", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file ({error})", where=str(path)) from error


def toml_value(text: str) -> Any:
    """A value as TOML writes it; anything that is not TOML is a string.

    Examples
    --------
    >>> toml_value("0.5"), toml_value("[1, 2]"), toml_value("kl")
    (0.5, [1, 2], 'kl')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_toml(path: Path, values: Mapping[str, Any], remarks: Sequence[str] = ()) -> None:
    """Write nested plain values as TOML, below ``remarks`` as comments; None entries are left out."""
    import tomli_w  # kept out of start-up

    head = "".join(f"# {' '.join(remark.split())}\n" for remark in remarks)
    atomic_write(path, head + tomli_w.dumps(_without_none(values)))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def cache_dir() -> Path:
    """Folder for downloaded and derived files: ``PROTCLIP_CACHE``, else the XDG cache folder."""
    if path := os.environ.get("PROTCLIP_CACHE"):
        return Path(path)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "protclip"
