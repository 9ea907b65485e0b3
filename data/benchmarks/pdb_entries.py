"""Single entries of the PDB archive, many small files at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from protclip.data.files.download import download
from protclip.errors import ConfigError, DownloadError
from protclip.typing import Say

ENTRIES = {
    "bcif": ("https://models.rcsb.org/{code}.bcif.gz",),
    "cif": (
        "https://files.rcsb.org/download/{code}.cif.gz",
        "https://files.wwpdb.org/pub/pdb/data/structures/divided/mmCIF/{middle}/{code}.cif.gz",
    ),
}
"""Addresses of single PDB entries, by format."""


def fetch_entries(
    codes: Sequence[str],
    folder: str | Path,
    *,
    entry_format: str | None = None,
    mirror: str | None = None,
    threads: int = 8,
    say: Say = lambda text: None,
    progress: bool = False,
    **how: Any,
) -> list[str]:
    """Fetch PDB entries, one compressed file each, beside those that are there already.

    Returns
    -------
    list of str
        Codes that the archive does not have (obsolete entries); building lists their chains.

    Raises
    ------
    DownloadError
        If an entry cannot be fetched for any other reason; the same call goes on where it stopped.
    ConfigError
        If the format is unknown.
    """
    kind = entry_format or ("bcif" if importlib.util.find_spec("biotite") else "cif")
    if kind not in ENTRIES:
        raise ConfigError("unknown format", where="--format", got=repr(kind), expected=" or ".join(ENTRIES))
    root = Path(folder)
    have = {path.name.split(".")[0].lower() for path in root.glob("*.*if.gz")} if root.is_dir() else set()
    todo = [code for code in codes if code.lower() not in have]
    if len(todo) < len(codes):
        say(f"{len(codes) - len(todo)} of {len(codes)} PDB entries are there already")

    def fetch(code: str) -> str | None:
        file = f"{code}.{kind}.gz"
        urls = (
            [f"{mirror.rstrip('/')}/{file}"]
            if mirror
            else [form.format(code=code, middle=code[1:3]) for form in ENTRIES[kind]]
        )
        try:
            download(urls, root / file, **how)
        except DownloadError as error:
            if all("HTTP 404" in reason or "HTTP 410" in reason for reason in str(error.got).split("; ")):
                return code
            raise
        return None

    from rich.console import Console  # lazy: only for people who fetch
    from rich.progress import track

    console = Console(stderr=True)
    bar = progress and console.is_terminal
    gone: list[str] = []
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        found = pool.map(fetch, todo)
        shown = track(found, "PDB entries", total=len(todo), console=console, disable=not bar)
        for done, missing in enumerate(shown, 1):
            if missing:
                gone.append(missing)
            if progress and not bar and (done % 1000 == 0 or done == len(todo)):
                say(f"{done} of {len(todo)} PDB entries")
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if gone:
        say(f"{len(gone)} PDB entries are not in the archive (obsolete), first: {gone[0]}")
    return gone
