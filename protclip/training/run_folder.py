"""Run folders: new ones, and the one to go on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from protclip.errors import ConfigError
from protclip.files import read_toml
from protclip.work.locks import tidy_folder


def new_run_folder(root: Path, objective: str) -> Path:
    """``root/<date>-<time>-<objective>``, not yet existing."""
    base = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{objective}"
    folder, n = base, 2
    while folder.exists():
        folder, n = base.with_name(f"{base.name}-{n}"), n + 1
    return folder


def check_free(folder: Path) -> None:
    """Refuse a folder that holds a run already; options alone are no run.

    Raises
    ------
    ConfigError
        If there is one.
    """
    options = folder / "config.toml"
    if options.exists() and any(f != options and f.is_file() for f in folder.rglob("*")):
        raise ConfigError(
            "there is a run in this folder already",
            where=f"--out {folder}",
            hint="Add --resume to go on with it, or choose another folder",
        )


def open_run_folder(folder: Path, save: Callable[[Path], None], *, resume: bool) -> None:
    """Make the folder of a run and write its options, or refuse a folder that holds another run.

    A start that failed at once (a wrong path, say) leaves its options behind and nothing to keep: such a
    folder is free.

    Parameters
    ----------
    folder : Path
    save : callable
        Writes the options to a path.
    resume : bool
        Go on with the run that is there.

    Raises
    ------
    ConfigError
        If there is a run and it is not to be resumed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tidy_folder(folder)
    try:
        check_free(folder)
    except ConfigError:
        if not resume:
            raise
    else:
        save(folder / "config.toml")


def newest_unfinished(root: Path, *, result: str = "model", entry: str = "train") -> Path:
    """The run below ``root`` that was begun last and does not have its ``result`` folder yet.

    Parameters
    ----------
    root : Path
    result : str
        Folder that a finished run has.
    entry : str
        Entry of ``config.toml`` by which runs of this kind are known.

    Raises
    ------
    ConfigError
        If there is none.
    """
    runs = [
        path.parent
        for path in root.glob("*/config.toml")
        if not (path.parent / result).exists() and entry in read_toml(path)
    ]
    if not runs:
        raise ConfigError(
            "no unfinished run to resume",
            where="--resume",
            got=f"none in {root}/",
            hint="Name it with --out FOLDER",
        )
    return max(runs, key=lambda folder: (folder / "config.toml").stat().st_mtime)
