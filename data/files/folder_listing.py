"""The files of a folder that are read, and those that are not, with the reason."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class FolderListing(NamedTuple):
    """What stands in a folder and below it.

    Attributes
    ----------
    files : list of Path
        Files that are read, in an order that is always the same.
    left_out : dict of Path to str
        Everything else, with the reason.
    """

    files: list[Path]
    left_out: dict[Path, str]

    def warn(self, folder: Path) -> None:
        """Say how much was left out, if anything was."""
        if self.left_out:
            kinds = ", ".join(f"{n} {reason}" for reason, n in Counter(self.left_out.values()).items())
            example = next(iter(self.left_out))
            warnings.warn(
                f"{folder}: {len(self.left_out)} entries were left out ({kinds}), such as {example.name}",
                stacklevel=3,
            )


def list_folder(folder: Path, wanted: Callable[[Path], bool], other: str) -> FolderListing:
    """Sort what stands in a folder and below it.

    Files and folders whose names begin with a dot are left out alike, as are links to folders.

    Parameters
    ----------
    folder : Path
    wanted : callable
        Whether a file is read.
    other : str
        The reason for those that are not.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("a.txt", ".hidden", "b.csv"):
    ...     _ = (folder / name).write_text("")
    >>> found = list_folder(folder, lambda path: path.suffix == ".txt", "of another kind")
    >>> [path.name for path in found.files], sorted(found.left_out.values())
    (['a.txt'], ['hidden', 'of another kind'])
    """
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    pending = [folder]
    while pending:
        current = pending.pop()
        try:
            entries = list(os.scandir(current))
        except OSError as error:
            left_out[current] = (error.strerror or str(error)).lower()
            continue
        for entry in entries:
            path = Path(entry.path)
            if entry.name.startswith("."):
                left_out[path] = "hidden"
            elif entry.is_dir(follow_symlinks=False):
                pending.append(path)
            elif entry.is_dir():
                left_out[path] = "a link to a folder"
            elif not path.exists():
                left_out[path] = "a broken link"
            elif wanted(path):
                files.append(path)
            else:
                left_out[path] = other
    return FolderListing(sorted(files), dict(sorted(left_out.items())))
