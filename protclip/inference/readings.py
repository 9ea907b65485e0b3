"""One value of the input: which sides of a model it may be for, and whether it is an item or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from protclip.errors import ConfigError, DataError
from protclip.inference.containers import Entry, brief, is_missing
from protclip.modalities.base import Modality

Sides = Mapping[str, Modality[Any]]


def readings_of(entry: Entry, sides: Sides, modality: str | None) -> tuple[list[str], Any]:
    """The sides that one value may be for, and the value, a file as a path.

    Parameters
    ----------
    entry : Entry
    sides : mapping of str to Modality
    modality : str or None
        The side that the user has named.

    Returns
    -------
    list of str, object
        No side for text that is an item only where a user says so.

    Raises
    ------
    DataError, ConfigError
        If the value is missing, names no file, is of another kind, or is an item and a file.
    """
    value = entry.value
    if is_missing(value):
        raise DataError("a value is missing", where=entry.place, got=brief(value), expected=_expected(sides))
    asked = sides if modality is None else {modality: sides[modality]}
    if isinstance(value, os.PathLike):
        if not is_path(value):
            raise _no_file(entry)
        path = Path(os.fsdecode(value))
        return _sides_of_file(path, sides, modality), path
    items = [name for name, side in asked.items() if side.recognises(value)]
    if isinstance(value, str):
        text = str(value)
        settled = bool(items) and modality is not None and entry.id is not None
        if not settled and is_path(text):
            if items:
                as_item = f"{{'some id': {text!r}}} with modality={items[0]!r}"
                raise several(
                    entry,
                    [f"an item of {items[0]!r}", "the name of an existing file or folder"],
                    f"Path({text!r}) is the file, {as_item} the item",
                )
            return _sides_of_file(Path(text), sides, modality), Path(text)
        if not items and modality is not None and asked[modality].recognises(text, named=True):
            items = [modality]
        if not items and (modality is not None or any(mark in text for mark in "./\\~")):
            raise _no_file(entry)
        return items, text
    if modality is not None and asked[modality].recognises(value, named=True):
        items = [modality]
    if not items:
        raise unknown(entry, asked)
    return items, value


def is_path(value: object) -> bool:
    """Whether this is text or a path that names an existing file or folder."""
    if not isinstance(value, (str, os.PathLike)):
        return False
    # Unlike that of a Path, no error for a text too long to be the name of a file.
    return os.path.exists(value)  # noqa: PTH110


def _sides_of_file(path: Path, sides: Sides, modality: str | None) -> list[str]:
    if modality is not None:
        return [modality]
    found = [name for name, side in sides.items() if side.accepts(path)]
    if len(found) != 1:
        raise ConfigError(
            "cannot tell which modality this is",
            where=str(path),
            got=" or ".join(found) or "none that the model knows",
            hint=f"Say it with modality={' or '.join(map(repr, sides))}",
        )
    return found


def _expected(sides: Sides) -> str:
    takes = [side.takes for side in sides.values() if side.takes]
    return "; ".join([*takes, "the path of a file or folder"])


def unknown(entry: Entry, sides: Sides) -> DataError:
    """The error of a value that is for none of the sides."""
    by_name = [name for name, side in sides.items() if not side.takes]
    return DataError(
        f"this cannot be read as {' or '.join(sides)}",
        where=entry.place,
        got=brief(entry.value),
        expected=_expected(sides),
        hint=f"Items of {' and '.join(by_name)} are read where the modality is named" if by_name else None,
    )


def _no_file(entry: Entry) -> DataError:
    return DataError(
        "no such file or folder", where=entry.place, got=brief(entry.value), expected="an existing path"
    )


def several(entry: Entry, readings: list[str], hint: str) -> ConfigError:
    """The error of a value that can be read in several ways."""
    return ConfigError(
        "this can be read in two ways",
        where=entry.place,
        got=f"{brief(entry.value)}: {' or '.join(readings)}",
        expected="one reading",
        hint=hint,
    )
