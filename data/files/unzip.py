"""Unpacking zip archives, and the zip archives inside them, without trusting them."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from pathlib import Path

from protclip.compression import GROWTH
from protclip.data.files.archive import new_folder, safe_name
from protclip.errors import DataError, DownloadError

DEPTH = 2
"""Archives within archives that are unpacked: torchdrug's are zips of zips."""


def extract_zip(archive: str | Path, folder: str | Path) -> int:
    """Unpack a zip archive, and the ``.zip`` files in it, into a new folder, all or nothing.

    An inner ``train.zip`` becomes the folder ``train``, whether or not its members carry that name already.
    Every file is checked against its CRC.

    Returns
    -------
    int
        Number of files.

    Raises
    ------
    DataError
        If an archive is damaged, cut off, encrypted or unsafe, or `folder` exists.
    DownloadError
        If the disk is too full.

    Examples
    --------
    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> with zipfile.ZipFile(home / "train.zip", "w") as inner:
    ...     inner.writestr("train/1ABC-A_1.pdb", "ATOM")
    >>> with zipfile.ZipFile(home / "EC.zip", "w") as outer:
    ...     outer.write(home / "train.zip", "EC/train.zip")
    >>> extract_zip(home / "EC.zip", home / "out"), (home / "out/EC/train/1ABC-A_1.pdb").read_text()
    (1, 'ATOM')
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with new_folder(folder) as temporary:
            return _extract(archive, str(archive), temporary, DEPTH)
    except OSError as error:
        raise DataError("cannot be unpacked", where=str(archive), got=error.strerror or str(error)) from None


def _extract(archive: Path, where: str, folder: Path, depth: int) -> int:
    count = 0
    inner: list[tuple[Path, str]] = []
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [member for member in bundle.infolist() if not member.is_dir()]
            _check_size(archive, where, sum(member.file_size for member in members), folder)
            for member in members:
                target = folder / safe_name(
                    member.filename, f"{where}:{member.filename}", plain=not _is_link(member)
                )
                if target.exists():
                    raise DataError("a file twice in the archive", where=f"{where}:{member.filename}")
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(member) as source, target.open("wb") as stream:
                    shutil.copyfileobj(source, stream)
                if depth and target.suffix.lower() == ".zip":
                    inner.append((target, f"{where}:{member.filename}"))
                else:
                    count += 1
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise DataError(
            "the archive is damaged, cut off or encrypted", where=where, got=str(error), hint="Fetch it again"
        ) from None
    for path, name in inner:
        unpacked = path.with_name(f".{path.stem}.inner")
        unpacked.mkdir()
        count += _extract(path, name, unpacked, depth - 1)
        path.unlink()
        # `train.zip` holds either train/<files> or the files themselves.
        content = list(unpacked.iterdir())
        wrapped = len(content) == 1 and content[0].is_dir() and content[0].name == path.stem
        target = path.with_suffix("")
        if target.exists():
            raise DataError("a folder twice in the archive", where=name, got=target.name)
        (content[0] if wrapped else unpacked).replace(target)
        shutil.rmtree(unpacked, ignore_errors=True)
    return count


def _check_size(archive: Path, where: str, total: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DownloadError(
            "not enough room on the disk to unpack",
            where=where,
            got=f"{free / 1e9:.2f} GB free",
            expected=f"{total / 1e9:.2f} GB",
        )
    if total > GROWTH * archive.stat().st_size + (1 << 20):
        raise DataError("unpacks to more than a structure archive can", where=where, got=f"{total} bytes")


def _is_link(member: zipfile.ZipInfo) -> bool:
    return (member.external_attr >> 16) & 0o170000 == 0o120000
