"""Files that appear whole or not at all, TOML with clear errors, the cache folder.

:func:`atomic_write` is for content that is there already, :func:`atomic_path` for what a writer of its own
(HDF5, Parquet, a network's weights) puts into a file.  Work of more than seconds needs :mod:`protclip.work`
besides: a lock on its output, and a place for what is finished.
"""

from __future__ import annotations

import os
import re
import stat
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

    When the block raises, the temporary file is removed and `path` stays as it was. The file may be read and
    written by whom the user lets (the umask), however its writer made it.

    Raises
    ------
    DataError
        If the folder cannot be made or written, the disk is full, or something else than a file stands there.

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
    refuse_no_file(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.chmod(0o666 & ~_umask())
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


def temporary_name(path: Path) -> Path:
    """A hidden name beside ``path`` that no other process takes, and that :data:`TEMPORARY` knows."""
    return path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns():x}.tmp")


TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)-[0-9a-f]+\.tmp", re.DOTALL)
"""Names of :func:`temporary_name`: what they stand for, and the process that made them."""


def refuse_no_file(path: Path) -> None:
    """Refuse to put a file where a folder, a device or a pipe is.

    Raises
    ------
    DataError
        If there is such a thing.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return  # nothing there, or nothing that can be seen: writing will tell
    if stat.S_ISDIR(mode):
        raise DataError("a folder stands in the place of the file to write", where=str(path))
    if not stat.S_ISREG(mode) or str(path.absolute().parent) in ("/dev", "/dev/fd", "/proc/self/fd"):
        raise DataError(
            "this is a device or a pipe, in whose place no file can be put",
            where=str(path),
            expected="the name of a file",
        )


def _umask() -> int:
    """What the user takes from the rights of new files."""
    with suppress(OSError, ValueError, IndexError):
        # Setting it, which is the only other way to read it, would touch what other threads write meanwhile.
        return int(re.findall(r"^Umask:\s*(\d+)", Path("/proc/self/status").read_text(), re.MULTILINE)[0], 8)
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` is either the old or the whole new file, also after a power cut."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing, is not UTF-8, is not TOML (names the line), or holds numbers that are too long
        or tables that are too deep.
    """
    try:
        return _parse_toml(path.read_bytes().decode(), str(path))
    except OSError as error:
        raise ConfigError(f"cannot read ({error.strerror})", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file ({error})", where=str(path)) from error


DEEPEST = 32
"""Levels of tables and lists in TOML; what we write has four."""


def _parse_toml(text: str, where: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise
    except RecursionError:
        found = None
    except ValueError:  # of int()
        raise ConfigError(
            "a whole number is too long", where=where, expected="at most 4,300 digits"
        ) from None
    if found is None or _is_deeper(found, DEEPEST):
        raise ConfigError(
            "tables or lists stand too deep in each other", where=where, expected=f"at most {DEEPEST} levels"
        )
    return found


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether there are more levels of mappings and lists; looks no deeper than that."""
    if not isinstance(value, (dict, list)):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(entry, levels - 1) for entry in inner)


def toml_value(text: str) -> Any:
    """A value as TOML writes it; anything that is not TOML is a string.

    Raises
    ------
    ConfigError
        If it is a number that is too long, or too deep.

    Examples
    --------
    >>> toml_value("0.5"), toml_value("[1, 2]"), toml_value("kl")
    (0.5, [1, 2], 'kl')
    """
    try:
        return _parse_toml(f"value = {text}", text[:40])["value"]
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
