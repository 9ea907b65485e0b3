"""What a user has in hand, recognised: the side of the model it is for, and its items with their ids."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protclip.errors import ConfigError, DataError
from protclip.inference.containers import (
    Entry,
    brief,
    column_entries,
    entries_of,
    is_missing,
    is_single,
    is_table,
)
from protclip.modalities.base import Modality

Sides = Mapping[str, Modality[Any]]


@dataclass
class Recognised:
    """Input that is known to be for one side; made by :func:`recognise`.

    Attributes
    ----------
    side : str
        Name of the side.
    adapter : Modality
        It reads the items.
    entries : iterable of Entry
        Checked, files as paths. Those of a generator are checked as they are read, and can be read once.
    whole : object
        Read by the adapter as it is, where the adapter does not say which objects are its items.
    total : int or None
        Number of items where it is known before they are read.
    """

    side: str
    adapter: Modality[Any]
    entries: Iterable[Entry] = ()
    whole: Any = None
    total: int | None = None

    def items(self) -> Iterator[tuple[str, Any]]:
        """Ids with items, or with the errors of those that cannot be read."""
        if self.whole is not None:
            yield from self.adapter.read(self.whole)
        for entry in self.entries:
            source = entry.value if entry.id is None else {entry.id: entry.value}
            yield from self.adapter.read(source)


def recognise(
    source: Any,
    sides: Sides,
    *,
    modality: str | None = None,
    id_column: str | None = None,
    columns: Mapping[str, str | None] | None = None,
) -> Recognised:
    """Find out which side ``source`` is for, and check it before anything is computed.

    Text is the name of a file where there is one, else an item. Ids are the keys of a mapping, the index of a
    pandas object, the first of a pair, or what an object carries itself; without any of these an id is the
    position in the input. Whole numbers become their decimal text.

    Parameters
    ----------
    source : object
        One item, a path, or a list, generator, array, mapping, Series or DataFrame of these.
    sides : mapping of str to Modality
        Sides of a model by name.
    modality : str, optional
        The side, where the user says it.
    id_column : str, optional
        Column of a DataFrame; by default ``id``, or the index where there is none.
    columns : mapping of str to str, optional
        Side -> column of a DataFrame that holds its items; by default the column that is called as a side.

    Raises
    ------
    ConfigError
        If the input can be read in two ways, or there is no such side or column.
    DataError
        If it is empty or of another kind, a value is missing or two ids are equal; names the place.
    """
    if isinstance(source, Recognised):
        return source
    if modality is not None and modality not in sides:
        expected = " or ".join(map(repr, sides))
        raise ConfigError(
            "the model has no such side", where="modality", got=brief(modality), expected=expected
        )
    named_columns = {side: name for side, name in (columns or {}).items() if name is not None}
    if not is_table(source):
        if id_column is not None or named_columns:
            raise ConfigError("columns are named, but this is no DataFrame", got=brief(source))
        entries = None
    else:
        asked = list(sides) if modality is None else [modality]
        modality, entries = column_entries(source, asked, id_column=id_column, columns=named_columns)
    if modality is not None and sides[modality].recognises("", named=True) is None:
        return Recognised(modality, sides[modality], whole=_for_adapter(source, entries))
    if entries is None:
        entries = _entries(source, sides, modality)
    side, checked = _checked(entries, sides, modality)
    if isinstance(source, Iterator):
        return Recognised(side, sides[side], checked)
    known = list(checked)
    total = None if any(isinstance(entry.value, Path) for entry in known) else len(known)
    return Recognised(side, sides[side], known, total=total)


def _for_adapter(source: Any, entries: Iterable[Entry] | None) -> Any:
    """What an adapter is given that reads containers itself: pandas objects come as mappings."""
    if entries is None and hasattr(source, "iloc"):
        entries = entries_of(source)
    return source if entries is None else {entry.id: entry.value for entry in entries}


def _entries(source: Any, sides: Sides, modality: str | None) -> Iterable[Entry]:
    single = is_single(source) or any(
        side.recognises(source, named=name == modality) for name, side in sides.items()
    )
    return [Entry("the input", None, source)] if single else entries_of(source)


def _checked(entries: Iterable[Entry], sides: Sides, modality: str | None) -> tuple[str, Iterator[Entry]]:
    """The side that the entries belong to, and the entries, each checked when it is taken."""
    stream = iter(entries)
    looked_at: list[Entry] = []
    side = modality
    for entry in stream:
        looked_at.append(entry)
        if side is None:
            names, _ = _readings(entry, sides, None)
            if len(names) > 1:
                raise _several(entry, [f"an item of {name!r}" for name in names], "Say it with modality=...")
            side = names[0] if names else None
        if side is not None:
            break
    if not looked_at:
        raise DataError(
            "nothing to read: the input is empty", where="the input", expected="at least one item"
        )
    if side is None:
        raise _unknown(looked_at[0], sides)
    return side, _named(itertools.chain(looked_at, stream), sides, side, modality)


def _named(entries: Iterable[Entry], sides: Sides, side: str, modality: str | None) -> Iterator[Entry]:
    """Entries of one side, each with its id (files have theirs in them); equal ids are refused."""
    adapter, seen = sides[side], dict[str, str]()
    for number, entry in enumerate(entries):
        names, value = _readings(entry, sides, modality)
        if side not in names:
            if names:
                raise DataError(
                    "the input mixes modalities",
                    where=entry.place,
                    got=names[0],
                    expected=f"{side}, as before",
                    hint="Give them in two calls",
                )
            if not (isinstance(value, str) and adapter.recognises(value, named=True)):
                raise _unknown(entry, {side: adapter})
        id = entry.id
        if id is None and not isinstance(value, Path):
            id = adapter.own_id(value) or str(number)
        if id is not None:
            if id in seen:
                raise DataError(
                    "two inputs have the same id",
                    where=entry.place,
                    got=f"{id!r}, which is also the id of {seen[id]}",
                    expected="different ids",
                    hint="Give them ids of your own, as a dict of id to item",
                )
            seen[id] = entry.place
        yield Entry(entry.place, id, value)


def _readings(entry: Entry, sides: Sides, modality: str | None) -> tuple[list[str], Any]:
    """Names of the sides that an entry may be for, none for text that only a user's word makes an item;
    and the value, a file as a path."""
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
                raise _several(
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
        raise _unknown(entry, asked)
    return items, value


def is_path(value: object) -> bool:
    """Whether this is text or a path that names an existing file or folder."""
    if not isinstance(value, (str, os.PathLike)):
        return False
    # Unlike that of a Path, no error for a text too long to be the name of a file.
    return os.path.exists(value)  # noqa: PTH110


def _sides_of_file(path: Path, sides: Sides, modality: str | None) -> list[str]:
    found = [name for name, side in sides.items() if side.accepts(path)]
    if modality is not None:
        if found and modality not in found:
            raise ConfigError(
                "this file looks like another modality",
                where=str(path),
                got=" or ".join(found),
                expected=modality,
            )
        return [modality]
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


def _unknown(entry: Entry, sides: Sides) -> DataError:
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


def _several(entry: Entry, readings: list[str], hint: str) -> ConfigError:
    return ConfigError(
        "this can be read in two ways",
        where=entry.place,
        got=f"{brief(entry.value)}: {' or '.join(readings)}",
        expected="one reading",
        hint=hint,
    )
