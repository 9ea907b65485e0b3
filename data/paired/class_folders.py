"""Labelled items for zero-shot classification: one folder for each class, or a list of labels."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protclip.data.paired.matched import read_two_columns
from protclip.errors import DataError

LABEL_LISTS = ("labels.tsv", "captions.json", "labels.json")

RUN_TOGETHER = {
    word.replace(" ", ""): word
    for word in (
        *("baseball diamond", "baseball field", "bare land", "dense residential", "football field"),
        *("golf course", "medium residential", "mobile home park", "parking lot", "railway station"),
        *("sparse residential", "storage tanks", "tennis court", "river lake"),
    )
}
"""Names of classes of the published sets that are written without a space."""


@dataclass(frozen=True)
class ClassFolders:
    """Items by class.

    Attributes
    ----------
    names : list of str
        Class names as a prompt wants them: lower case, words apart.
    sources : list
        For each class what an adapter's ``read`` takes: a folder, or a mapping of ids to files.
    example : Path
        A file or folder with items, by which the side that reads them is known.
    """

    names: list[str]
    sources: list[Path | Mapping[str, Path]]
    example: Path


def read_classes(folder: Path) -> ClassFolders:
    """Classes of a folder.

    Three forms are known: one sub-folder for each class; ``<class>.txt`` lists of file names beside a folder
    of files (RSICD's ``txtclasses_rsicd``); and a list of labels, ``labels.tsv`` (file<TAB>class) or a JSON
    list of ``{"image": file, "label": class}``. ``classes.tsv`` (name on disk<TAB>name for the prompt)
    renames classes.

    Raises
    ------
    DataError
        If there are fewer than two classes, two classes get one name, or a listed file is missing.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=str(folder), expected="one folder for each class")
    raw: dict[str, Path | Mapping[str, Path]]
    listed = next((folder / name for name in LABEL_LISTS if (folder / name).is_file()), None)
    if listed is not None:
        raw = _by_list(folder, listed)
    elif lists := _class_lists(folder):
        raw = {file.stem: _named_files(folder, _words(file), file) for file in lists}
    else:
        raw = {
            inner.name: inner
            for inner in sorted(folder.iterdir())
            if inner.is_dir() and inner.name[0] not in "._"
        }
    if len(raw) < 2:
        raise DataError(
            "no classes here",
            where=str(folder),
            got=f"{len(raw)} folders with items",
            expected="one folder for each class, <class>.txt lists of file names, or labels.tsv",
        )
    renamed = dict(read_two_columns(folder / "classes.tsv")) if (folder / "classes.tsv").exists() else {}
    names = [renamed.get(name) or class_name(name) for name in raw]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            "two classes have one name", where=str(folder), got=twice, hint="Tell them apart in classes.tsv"
        )
    sources = list(raw.values())
    first = sources[0]
    example = first if isinstance(first, Path) else next(iter(first.values()))
    return ClassFolders(names, sources, example)


def class_name(folder: str) -> str:
    """The name of a class for a prompt, from that of its folder.

    Examples
    --------
    >>> [class_name(name) for name in ("BareLand", "football_field", "denseresidential", "dRiverLake")]
    ['bare land', 'football field', 'dense residential', 'river lake']
    """
    # RSSCN7 numbers its folders by a letter: aGrass, bField, ...
    name = folder[1:] if re.match(r"[a-z][A-Z][a-z]", folder) else folder
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[_\-\s]+", " ", name).lower().split()
    return " ".join(RUN_TOGETHER.get(word, word) for word in words)


def _by_list(folder: Path, listed: Path) -> dict[str, Path | Mapping[str, Path]]:
    members: dict[str, list[str]] = {}
    for file, label in _labels(listed):
        members.setdefault(label, []).append(file)
    return {label: _named_files(folder, files, listed) for label, files in sorted(members.items())}


def _labels(path: Path) -> list[tuple[str, str]]:
    if path.suffix == ".tsv":
        return read_two_columns(path)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        return [(str(entry["image"]), str(entry["label"])) for entry in content]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"not a list of labels ({type(error).__name__}: {error})",
            where=str(path),
            expected='[{"image": file, "label": class}]',
        ) from error


def _class_lists(folder: Path) -> list[Path]:
    for place in (folder, *sorted(inner for inner in folder.glob("txtclasses*") if inner.is_dir())):
        found = sorted(place.glob("*.txt"))
        if len(found) > 1:
            return found
    return []


def _words(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8-sig", errors="replace").split()


def _named_files(folder: Path, names: Sequence[str], listed: Path) -> dict[str, Path]:
    files = _index(folder)
    found = {}
    for name in names:
        if name not in files:
            raise DataError("a listed file is missing", where=str(listed), got=name)
        found[name] = files[name]
    return found


def _index(folder: Path) -> dict[str, Path]:
    """Files below a folder, by their name and by their path."""
    files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
    return {file.name: file for file in files} | {file.relative_to(folder).as_posix(): file for file in files}
