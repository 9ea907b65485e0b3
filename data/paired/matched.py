"""Matched items of two kinds as a folder describes them, before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from protclip.data.files.lines import numbered_lines
from protclip.errors import DataError
from protclip.files import cache_dir

READERS = "protclip.datasets"
"""Entry-point group of readers: ``read(path, limit) -> Matched``, or None for what is not theirs."""

SAMPLES = "protclip.samples"
"""Entry-point group of samples that are made on the spot: ``write(folder)``."""

SPLITS = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Names of parts in use, and what they are here."""


@dataclass(frozen=True)
class Matched:
    """Two collections of items and which of them belong together.

    Attributes
    ----------
    name : str
        Of the dataset, for messages.
    kinds : pair of str
        Adapters that the two collections are made for; empty for any.
    left, right : object
        What the adapters' ``read`` takes: a path, or a mapping of ids to single items.
    pairs : tuple of (left id, right id), or None
        In the order of the dataset; an id may occur in several. None pairs equal ids.
    splits : mapping
        Left id -> ``train``, ``valid`` or ``test``; empty where the dataset has no division of its own.
    notices : tuple of str
        What was found wrong with the dataset, with counts.
    """

    name: str
    kinds: tuple[str, str]
    left: Any
    right: Any
    pairs: tuple[tuple[str, str], ...] | None = None
    splits: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()

    def turned(self) -> Matched:
        """Left and right exchanged; parts are then given by the right ids' partners."""
        if self.pairs is None:
            splits, pairs = self.splits, None
        else:
            pairs = tuple((right, left) for left, right in self.pairs)
            splits = {right: self.splits[left] for left, right in self.pairs if left in self.splits}
        return Matched(self.name, self.kinds[::-1], self.right, self.left, pairs, splits, self.notices)


def find_matched(name: str, *, limit: int = 0) -> list[Matched]:
    """Datasets at a path: one, or one in each of its folders, or a sample of that name.

    Parameters
    ----------
    name : str
        File or folder; or, where there is none, the name of a sample, which is made in the cache.
    limit : int
        Only so many entries of each dataset; 0 takes all.

    Raises
    ------
    DataError
        If there is nothing that any reader knows.
    """
    path = Path(name).expanduser()
    if not path.exists():
        path = sample_folder(name)
    if (found := _read(path, limit)) is not None:
        return [found]
    inner = sorted(folder for folder in path.iterdir() if folder.is_dir()) if path.is_dir() else []
    several = [matched for folder in inner if (matched := _read(folder, limit)) is not None]
    if not several:
        raise DataError(
            "no matched items here",
            where=str(path),
            expected="left and right (folders or files of any suffix) with pairs.tsv or equal ids, or a "
            "dataset that one of these readers knows: " + ", ".join(sorted(_readers())),
        )
    return several


def sample_folder(name: str) -> Path:
    """Folder of the sample called ``name``, made in the cache where it is not there yet.

    Raises
    ------
    DataError
        If there is no such sample.
    """
    return write_sample(name, cache_dir() / "samples" / name)


def write_sample(name: str, folder: Path) -> Path:
    """Make the sample called ``name`` in a folder, which is returned.

    Raises
    ------
    DataError
        If there is no such sample, or the folder holds something else.
    """
    found = {entry.name: entry for entry in entry_points(group=SAMPLES)}
    if name not in found:
        raise DataError(
            "no such file or folder",
            where=name,
            expected=f"a path, or the name of a sample ({', '.join(sorted(found))})",
        )
    written: Path = found[name].load()(folder)
    return written


def read_folder_pair(path: Path, limit: int = 0) -> Matched | None:
    """A folder with ``left`` and ``right``, each a folder or a file of any suffix.

    ``pairs.tsv`` lists matched ids, left<TAB>right; without it equal ids match. ``splits.tsv`` may give
    the part (train, valid or test) of left ids.

    Raises
    ------
    DataError
        If a side is missing or ambiguous, or a list is malformed.
    """
    if not path.is_dir():
        return None
    sides = [
        [entry for entry in sorted(path.iterdir()) if entry.name.split(".")[0] == side]
        for side in ("left", "right")
    ]
    if not any(sides):
        return None
    for side, entries in zip(("left", "right"), sides, strict=True):
        if len(entries) != 1:
            raise DataError(
                f"one folder or file called {side!r} is needed",
                where=str(path),
                got=", ".join(entry.name for entry in entries) or "none",
            )
    listed = path / "pairs.tsv"
    pairs = read_two_columns(listed) if listed.exists() else None
    parts = read_two_columns(path / "splits.tsv") if (path / "splits.tsv").exists() else []
    if unknown := sorted({part for _, part in parts if part not in SPLITS}):
        raise DataError(
            "no such part",
            where=str(path / "splits.tsv"),
            got=", ".join(unknown),
            expected="train, valid or test",
        )
    if limit and pairs is not None:
        pairs = pairs[:limit]
    return Matched(
        path.name,
        ("", ""),
        sides[0][0],
        sides[1][0],
        None if pairs is None else tuple(pairs),
        {id: SPLITS[part] for id, part in parts},
    )


def read_two_columns(path: Path) -> list[tuple[str, str]]:
    """Rows of a list with two columns, tab between; empty lines and lines from ``#`` on are passed over.

    Raises
    ------
    DataError
        If the file cannot be read, or a line has not two columns; names the line.
    """
    rows: list[tuple[str, str]] = []
    for number, line in numbered_lines(path):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) != 2 or not all(cells):
            raise DataError(
                "not two columns",
                where=f"{path}:{number}",
                got=repr(line[:60]),
                expected="two ids, tab between",
            )
        rows.append((cells[0], cells[1]))
    return rows


def _readers() -> dict[str, Any]:
    return {entry.name: entry for entry in entry_points(group=READERS)}


def _read(path: Path, limit: int) -> Matched | None:
    found = read_folder_pair(path, limit)
    for _, entry in sorted(_readers().items()):
        if found is None:
            found = entry.load()(path, limit)
    return found
