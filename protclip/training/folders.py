"""Run folders: new ones, and the one to go on with."""

from __future__ import annotations

import time
from pathlib import Path

from protclip.errors import ConfigError
from protclip.files import read_toml


def new_run_folder(root: Path, objective: str) -> Path:
    """``root/<date>-<time>-<objective>``, not yet existing."""
    base = root / f"{time.strftime('%Y%m%d-%H%M%S')}-{objective}"
    folder, n = base, 2
    while folder.exists():
        folder, n = base.with_name(f"{base.name}-{n}"), n + 1
    return folder


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
