"""Fetching the benchmarks of the downstream tasks, or taking over files that were fetched by hand."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from protclip.data.benchmarks.addresses import (
    SOURCES,
    TASK_OF,
    Source,
    addresses_of,
    by_hand,
    find_source,
    source_name,
)
from protclip.data.benchmarks.build_benchmark import read_lists
from protclip.data.benchmarks.chain_files import split_chain_id
from protclip.data.benchmarks.pdb_entries import fetch_entries
from protclip.data.files.archive import extract_tar
from protclip.data.files.download import download
from protclip.data.files.unzip import extract_zip
from protclip.errors import DataError
from protclip.files import atomic_path, cache_dir
from protclip.typing import Say
from protclip.work.fingerprint import file_digest

RECORD = "SOURCE.json"


def default_folder(name: str) -> Path:
    """Where a download goes, and where ``protclip data build`` looks for it."""
    return cache_dir() / "downloads" / name


def fetch_benchmark(
    name: str,
    out: str | Path | None = None,
    *,
    version: str = "torchdrug",
    from_files: Sequence[str | Path] = (),
    mirror: str | None = None,
    structures: bool = True,
    entry_format: str | None = None,
    progress: bool = False,
    say: Say = lambda text: None,
    **how: Any,
) -> Path:
    """Fetch lists and structures of a benchmark, or take over files that were fetched by hand.

    Interrupted downloads are continued.  The lists are checked by reading them, archives by their published
    MD5 and by unpacking; what came is recorded with its SHA-256 in ``SOURCE.json``.

    Parameters
    ----------
    name
        ``fold``, ``reaction``, ``ec`` or ``go``.
    out
        Folder to make; ``downloads/<name>`` in the cache by default.
    version
        EC and GO: ``torchdrug`` (one archive with structures) or ``deepfri`` (the original, larger lists;
        structures come from the PDB archive entry by entry).
    from_files
        Archives and lists fetched by hand, instead of the network.  Lists may be in a zip of their
        repository.
    mirror
        Address that holds every file under its own name, instead of the official ones.
    structures
        False fetches the lists alone where structures are single PDB entries.
    entry_format
        ``bcif`` or ``cif``; BinaryCIF where biotite is installed.
    progress, say
        Show bars on stderr; gets remarks for the user.
    **how
        Passed to :func:`protclip.data.files.download.download`.

    Returns
    -------
    Path
        The folder, with ``lists``, ``structures`` or the archive in it.

    Raises
    ------
    DownloadError
        If the network does not give a file.
    DataError
        If a file is missing or not what it should be.
    ConfigError
        If the name or version is unknown.
    """
    source = find_source(name, version)
    folder = Path(out) if out is not None else default_folder(name)
    with suppress(OSError):
        (folder / RECORD).unlink()  # stands for a whole download, and this one has only begun
    if from_files:
        facts = _take(name, source, folder, [Path(file) for file in from_files], say)
    else:
        facts = _fetch(name, source, folder, mirror, progress, how)
    if source.lists:
        lists = read_lists(TASK_OF[name], folder / "lists")
        say(f"{name}: {lists.version}")
        if not source.archive and structures and not from_files:
            codes = sorted({split_chain_id(id)[0] for id in lists.ids})
            fetch_entries(
                codes,
                folder / "structures",
                entry_format=entry_format,
                mirror=mirror,
                say=say,
                progress=progress,
                **how,
            )
    record = {
        "benchmark": name,
        "version": version if source.md5 else "",
        "licence": source.licence,
        "files": facts,
    }
    with atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    return folder


def _fact(path: Path, origin: str) -> dict[str, object]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": file_digest(path), "from": origin}


def _fetch(
    name: str, source: Source, folder: Path, mirror: str | None, progress: bool, how: dict[str, Any]
) -> list[dict[str, object]]:
    hint = by_hand(name, source, mirror)
    facts = []
    # The small files first: a wrong address shows at once.
    for file in source.lists:
        urls = addresses_of(source.list_bases, file, mirror)
        path = download(urls, folder / "lists" / Path(file).name, by_hand=hint, **how)
        facts.append(_fact(path, urls[0]))
    if source.lists:
        _check_lists(name, folder)
    if source.archive:
        urls = addresses_of(source.archive_bases, source.archive, mirror)
        path = folder / source.archive
        if source.lists and (folder / "structures").is_dir():
            return facts
        path = download(urls, path, md5=source.md5 or None, progress=progress, by_hand=hint, **how)
        facts.append(_fact(path, urls[0]))
        _unpack(source, path, folder, keep=False)
    return facts


def _check_lists(name: str, folder: Path) -> None:
    """Read the lists; fetched ones that turn out bad are removed, so that the next run fetches them again."""
    try:
        read_lists(TASK_OF[name], folder / "lists")
    except DataError:
        shutil.rmtree(folder / "lists", ignore_errors=True)
        raise


def _unpack(source: Source, archive: Path, folder: Path, *, keep: bool) -> None:
    """SCOP's archive becomes a folder; torchdrug's stay packed until they are parsed."""
    if not source.lists:
        return
    target = folder / "structures"
    if target.is_dir():
        return
    try:
        extract_tar(archive, target)
    except DataError:
        if not keep:
            archive.unlink(missing_ok=True)
        raise
    if not keep:
        archive.unlink()


def _take(
    name: str, source: Source, folder: Path, files: Sequence[Path], say: Say
) -> list[dict[str, object]]:
    """Take over files that were fetched by hand."""
    facts: list[dict[str, object]] = []
    names = {Path(file).name for file in source.lists}
    archive: Path | None = None
    for file in files:
        if not file.is_file():
            raise DataError("no such file", where=f"--from-file {file}")
        facts.append(_fact(file, "a file given by hand"))
        if file.name in names:
            _copy(file, folder / "lists" / file.name)
        elif source.lists and file.suffix.lower() == ".zip":
            _lists_of_zip(file, names, folder)
        elif source.archive and file.suffix.lower() in (".zip", ".tgz", ".gz", ".tar"):
            archive = file
        else:
            raise DataError(
                "not a file of this benchmark",
                where=f"--from-file {file}",
                expected=", ".join([*sorted(names), *([source.archive] if source.archive else [])]),
            )
    lacking = sorted(file for file in names if not (folder / "lists" / file).is_file())
    if lacking:
        raise DataError(
            "lists are missing",
            where="--from-file",
            got=f"no {', '.join(lacking)}",
            expected=f"all lists of {source.list_bases[0]}",
            hint="Give each of them, or a zip of their repository, with --from-file",
        )
    if archive is not None:
        if source.md5 and file_digest(archive, "md5") != source.md5:
            say(f"{archive.name} is not the published archive: its md5 is not {source.md5}")
        if source.lists:
            _unpack(source, archive, folder, keep=True)
        elif archive.resolve() != (folder / source.archive).resolve():
            _copy(archive, folder / source.archive)
    elif source.archive and not (folder / "structures").is_dir() and not (folder / source.archive).is_file():
        raise DataError("the archive is missing", where="--from-file", expected=source.archive)
    return facts


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _lists_of_zip(archive: Path, names: set[str], folder: Path) -> None:
    unpacked = folder / ".repository"
    shutil.rmtree(unpacked, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        extract_zip(archive, unpacked)
        for path in sorted(unpacked.rglob("*")):
            siblings = {other.name for other in path.parent.iterdir()} if path.name in names else set()
            # Several benchmarks of a repository call their lists alike: take the folder that has them all.
            if path.name in names and names <= siblings:
                _copy(path, folder / "lists" / path.name)
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def is_fetched(task: str) -> bool:
    """Whether the whole download of a task lies in the cache; its record is written last."""
    folder = default_folder(source_name(task))
    archive = folder / SOURCES.get((source_name(task), "torchdrug"), Source()).archive
    return (folder / RECORD).is_file() and (archive.is_file() or (folder / "structures").is_dir())


def found_sources(task: str, folder: str | Path | None = None) -> dict[str, Path]:
    """What ``protclip data download`` left for a task: ``archive``, or ``lists`` and ``structures``.

    Raises
    ------
    DataError
        If nothing was fetched.
    """
    name = source_name(task)
    root = Path(folder) if folder is not None else default_folder(name)
    source = SOURCES.get((name, "torchdrug"))
    if source is not None and (root / source.archive).is_file():
        return {"archive": root / source.archive}
    if (root / "lists").is_dir() and (root / "structures").is_dir():
        return {"lists": root / "lists", "structures": root / "structures"}
    raise DataError(
        "nothing to build from",
        where=task,
        got=f"no download in {root}",
        hint=f"Run `protclip data download {name}`, or give --lists and --structures"
        + (" or --archive" if source is not None else ""),
    )
