"""Unpacking archives from elsewhere without trusting them."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from protclip.compression import GROWTH, open_content
from protclip.errors import DataError, DownloadError
from protclip.files import sync, temporary_name
from protclip.work.locks import claim

_DAMAGE = (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, OSError, ValueError, OverflowError)


def extract_tar(archive: str | Path, folder: str | Path) -> int:
    """Unpack the regular files of a tar archive (plain, gz, bz2, xz) into a new folder, all or nothing.

    Only file contents are taken: no links, devices, owners or modes, and no name that leads outside.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    DataError
        If the archive is damaged, cut off or unsafe, or `folder` exists.
    DownloadError
        If the disk is too full.

    Examples
    --------
    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> _ = (home / "1oaiA00").write_text("ATOM")
    >>> with tarfile.open(home / "a.tgz", "w:gz") as tar:
    ...     tar.add(home / "1oaiA00", "dompdb/1oaiA00")
    >>> extract_tar(home / "a.tgz", home / "out"), (home / "out/dompdb/1oaiA00").read_text()
    (1, 'ATOM')
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with new_folder(folder) as temporary:
            return _extract(archive, temporary)
    except _DAMAGE as error:
        raise DataError(
            "the archive is damaged or cut off, or its folder cannot be written",
            where=str(archive),
            got=str(error),
            hint="Fetch it again",
        ) from None


def _extract(archive: Path, folder: Path) -> int:
    count, total = 0, 0
    limit = min(GROWTH * archive.stat().st_size + (1 << 20), shutil.disk_usage(archive.parent).free)
    with _decompressed(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        for member in tar:
            if member.isdir():
                continue
            target = folder / safe_name(member.name, f"{archive}:{member.name}", plain=member.isreg())
            total += member.size
            if total > limit:
                raise DownloadError(
                    "unpacks to more than fits", where=str(archive), got=f"over {total} bytes"
                )
            source = tar.extractfile(member)
            target.parent.mkdir(parents=True, exist_ok=True)
            if source is None or target.exists():
                raise DataError("a file twice in the archive", where=f"{archive}:{member.name}")
            with target.open("wb") as stream:
                shutil.copyfileobj(source, stream)
            count += 1
        # The checksum of a compressed file stands behind the end of the archive in it.
        while plain.read(1 << 20):
            pass
    if count == 0:
        raise DataError("an empty archive", where=str(archive))
    return count


def _decompressed(archive: Path) -> BinaryIO:
    """Content of a file, through a decompressor that checks its checksum (tarfile's own does not)."""
    return open_content(archive.open("rb"), str(archive))


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``folder`` where the block ends well, and is removed where it does not.

    Raises
    ------
    DataError
        If ``folder`` exists, nothing was written, or another process is making it.
    """
    if folder.exists():
        raise DataError("already there", where=str(folder), hint="Remove it to unpack again")
    with claim(folder):
        temporary = temporary_name(folder)
        try:
            temporary.mkdir(parents=True)
            yield temporary
            if not any(temporary.iterdir()):
                raise DataError("an empty archive", where=str(folder))
            sync(temporary)
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def safe_name(name: str, where: str, *, plain: bool) -> str:
    """Name of a member that is a plain file and stays below the folder that it is unpacked to.

    Raises
    ------
    DataError
        If it is not, naming ``where``.
    """
    path = PurePosixPath(name)
    unsafe = path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts
    if unsafe or not plain:
        raise DataError(
            "unsafe archive",
            where=where,
            got="a name that leads outside" if plain else "a link or device",
            expected="plain files inside one folder",
        )
    return str(path)
