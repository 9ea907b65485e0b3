"""The members of tar and zip archives, read where they lie."""

from __future__ import annotations

import functools
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from protclip.compression import compression, open_content
from protclip.data.files.item_names import ItemName, item_names
from protclip.data.files.spans import Span
from protclip.errors import DataError

ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip")
LARGEST_MEMBER = 1 << 30
"""Bytes of an archive's member that are read at most: no structure is that large."""

_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, OSError, ValueError, RuntimeError)


def is_archive(path: Path) -> bool:
    """Whether the name is that of a tar or zip archive."""
    return path.name.lower().endswith(ARCHIVE_SUFFIXES) and path.is_file()


@functools.lru_cache(maxsize=2)
def member_names(path: Path, state: tuple[int, int], stem: Callable[[str], str]) -> dict[str, ItemName]:
    """Names of the members of an archive that are not called by their file name alone.

    ``state`` is size and time of the archive: it is looked through once. Memory: the names of its members.
    """
    reader = _zip_paths if path.name.lower().endswith(".zip") else _tar_paths
    with _damage(path):
        paths = [PurePosixPath(name) for name in dict.fromkeys(reader(path))]
    names = zip(paths, item_names(paths, stem), strict=True)
    return {str(path): name for path, name in names if name.taken or name.name != stem(path.name)}


def _zip_paths(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        yield from (member.filename for member in archive.infolist() if not member.is_dir())


def _tar_paths(path: Path) -> Iterator[str]:
    with _open_tar(path) as (tar, _):
        while (member := tar.next()) is not None:
            tar.__dict__["members"].clear()
            if member.isreg():
                yield member.name


def members(span: Span) -> Iterator[tuple[str, bytes]]:
    """Path in the archive and content of its regular files whose entries begin in ``span``.

    Nothing is unpacked to disk. Memory: one member (and the directory of a zip archive).

    Raises
    ------
    DataError
        If the archive is damaged, or a member is larger than any structure.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.zip"
    >>> with zipfile.ZipFile(file, "w") as archive:
    ...     archive.writestr("folder/a.pdb", "ATOM")
    ...     archive.writestr("b.txt", "")
    >>> list(members(Span.whole(file)))
    [('folder/a.pdb', b'ATOM'), ('b.txt', b'')]
    """
    reader = _zip_members if span.path.name.lower().endswith(".zip") else _tar_members
    with _damage(span.path):
        yield from reader(span)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Every kind of damage of an archive as one error."""
    try:
        yield
    except _DAMAGE as error:
        raise DataError(
            "the archive is damaged or cut off",
            where=str(path),
            got=" ".join(str(error).split()) or type(error).__name__,
            hint="Fetch or copy it again",
        ) from None


@contextmanager
def _open_tar(path: Path) -> Iterator[tuple[tarfile.TarFile, bool]]:
    """A tar archive, and whether it is compressed: then it can be read from its beginning only."""
    with path.open("rb") as file:
        compressed = compression(file.read(6)) is not None
        file.seek(0)
        content = open_content(file, str(path)) if compressed else file
        with tarfile.open(fileobj=content, mode="r|" if compressed else "r:") as tar:
            yield tar, compressed


def _tar_members(span: Span) -> Iterator[tuple[str, bytes]]:
    with _open_tar(span.path) as (tar, compressed):
        if compressed and span.start > 0:
            return
        while (member := tar.next()) is not None:
            # tarfile remembers every member, and a large archive has too many of them.
            tar.__dict__["members"].clear()
            if not compressed and member.offset >= span.stop:
                return
            if member.isreg() and (compressed or member.offset >= span.start):
                content = tar.extractfile(member)
                if content is not None:
                    yield member.name, content.read(_limit(member.name, member.size, span))


def _zip_members(span: Span) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(span.path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and span.start <= member.header_offset < span.stop:
                limit = _limit(member.filename, member.file_size, span)
                with archive.open(member) as content:
                    yield member.filename, content.read(limit)


def _limit(name: str, size: int, span: Span) -> int:
    if size > LARGEST_MEMBER:
        raise DataError(
            "a member is too large",
            where=f"{span.path}:{name}",
            got=f"{size} bytes",
            expected="at most 1 GiB",
        )
    return max(size, 1)
