"""Where CATH is published, and how a release becomes a folder that can be trained on."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from protclip.data.corpus.cath import read_domain_list
from protclip.data.files.archive import extract_tar
from protclip.data.files.download import download, tidy_download
from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path, cache_dir
from protclip.typing import Say
from protclip.work.fingerprint import file_digest
from protclip.work.locks import claim, tidy

CATH = "https://download.cathdb.info/cath/releases"
LICENCE = "CATH data: CC BY 4.0, Orengo group, University College London; PDB coordinates: CC0 1.0"
RECORD = "SOURCE.json"


def cath_urls(
    release: str = "v4_3_0", subset: Literal["S20", "S40"] = "S40", base: str = CATH
) -> tuple[str, str]:
    """Addresses of a non-redundant domain archive and of the domain list of a release.

    Raises
    ------
    ConfigError
        If `release` is neither ``latest`` nor of the form ``v4_3_0``, or `subset` is unknown.

    Examples
    --------
    >>> cath_urls("v4_3_0", "S20")[0].rsplit("/", 1)[1]
    'cath-dataset-nonredundant-S20-v4_3_0.pdb.tgz'
    """
    if release != "latest" and not re.fullmatch(r"v\d+_\d+_\d+", release):
        raise ConfigError(
            "unknown release", where="--release", got=repr(release), expected="v4_3_0, v4_4_0 or latest"
        )
    if subset not in ("S20", "S40"):
        raise ConfigError("unknown set", where="--set", got=repr(subset), expected="S20 or S40")
    root = f"{base.rstrip('/')}/" + ("latest-release" if release == "latest" else f"all-releases/{release}")
    suffix = "" if release == "latest" else f"-{release}"
    return (
        f"{root}/non-redundant-data-sets/cath-dataset-nonredundant-{subset}{suffix}.pdb.tgz",
        f"{root}/cath-classification-data/cath-domain-list{suffix}.txt",
    )


def fetch_cath(
    out: str | Path | None = None,
    *,
    release: str = "v4_3_0",
    subset: Literal["S20", "S40"] = "S40",
    from_files: Sequence[str | Path] = (),
    base: str = CATH,
    progress: bool = False,
    say: Say = lambda text: None,
) -> Path:
    """Fetch and unpack a non-redundant CATH set, or unpack one that was fetched by hand.

    CATH publishes no checksums: the SHA-256 of what came is written to ``SOURCE.json``, the archive is
    checked by unpacking all of it (gzip carries a CRC) and the list by reading it.

    Parameters
    ----------
    out
        Folder to make; ``cath/<release>-<set>`` in the cache folder by default.
    release, subset
        Which set, see :func:`cath_urls`.
    from_files
        Archive (``.tgz``), and preferably the domain list, instead of the network.
    base
        Address of a mirror.
    progress, say
        Show bars on stderr; gets remarks for the user.

    Returns
    -------
    Path
        The folder, ready for ``--cath``.

    Raises
    ------
    DownloadError
        If the network does not give a file.
    DataError
        If what came is not a CATH archive or list, or the folder cannot be written.
    """
    urls = cath_urls(release, subset, base)
    folder = Path(out) if out is not None else cache_dir() / "cath" / f"{release}-{subset}"
    if (folder / RECORD).is_file() and (folder / "dompdb").is_dir():
        say(f"{folder} is complete; remove it to fetch it again")
        # A killed call may have left it behind.
        (folder / urls[0].rsplit("/", 1)[1]).unlink(missing_ok=True)
        _tidy(folder, urls)
        return folder
    files = _given(from_files) if from_files else _fetched(urls, folder, progress)
    archive, domain_list = files
    facts = [
        {"file": file.name, "bytes": file.stat().st_size, "sha256": file_digest(file)}
        for file in files
        if file
    ]
    for fact, url in zip(facts, urls, strict=False):
        fact["from"] = "a file given by hand" if from_files else url
    if domain_list is None:
        say("no domain list given: the domains have no CATH labels; pass cath-domain-list*.txt as well")
    else:
        _checked(lambda: read_domain_list(domain_list), domain_list, keep=bool(from_files))
    unpacked = folder / ".unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    if not (folder / "dompdb").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        n = _checked(lambda: extract_tar(archive, unpacked), archive, keep=bool(from_files))
        inner = unpacked / "dompdb"
        (inner if inner.is_dir() else unpacked).replace(folder / "dompdb")
        shutil.rmtree(unpacked, ignore_errors=True)
        say(f"{n} domains in {folder / 'dompdb'}")
    if domain_list is not None and domain_list.parent != folder:
        with atomic_path(folder / domain_list.name) as temporary:
            shutil.copyfile(domain_list, temporary)
    record = {"release": release, "set": subset, "licence": LICENCE, "files": facts}
    with claim(folder / RECORD), atomic_path(folder / RECORD) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n")
    if not from_files:
        archive.unlink()
    _tidy(folder, urls)
    return folder


def _tidy(folder: Path, urls: Sequence[str]) -> None:
    """Remove what killed calls left behind."""
    tidy(folder / ".unpacked")
    tidy(folder / RECORD)
    for url in urls:
        tidy_download(folder / url.rsplit("/", 1)[1])


def _fetched(urls: tuple[str, str], folder: Path, progress: bool) -> tuple[Path, Path]:
    by_hand = (
        "Without internet access here: fetch "
        + " and ".join(urls)
        + " elsewhere, and run this command with --from-file for each"
    )
    # The small file first: a wrong release shows at once.
    paths = [
        download(url, folder / url.rsplit("/", 1)[1], progress=progress, by_hand=by_hand)
        for url in urls[::-1]
    ]
    return paths[1], paths[0]


def _given(files: Sequence[str | Path]) -> tuple[Path, Path | None]:
    paths = [Path(file) for file in files]
    for path in paths:
        if not path.is_file():
            raise DataError("no such file", where=f"--from-file {path}")
    lists = [path for path in paths if path.name.endswith((".txt", ".list"))]
    archives = [path for path in paths if path not in lists]
    if len(archives) != 1 or len(lists) > 1:
        raise DataError(
            "not what is needed",
            where="--from-file",
            got=", ".join(path.name for path in paths),
            expected="one archive cath-dataset-nonredundant-*.pdb.tgz, and cath-domain-list*.txt beside it",
        )
    return archives[0], lists[0] if lists else None


def _checked(work: Callable[[], object], file: Path, *, keep: bool) -> object:
    """Do it; a fetched file that turns out bad is removed, so that the next run fetches it again."""
    try:
        return work()
    except DataError:
        if not keep:
            file.unlink(missing_ok=True)
        raise
