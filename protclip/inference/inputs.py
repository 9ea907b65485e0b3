"""What a user has in hand, recognised: the side of the model it is for, and its items with their ids."""

from __future__ import annotations

import itertools
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
    is_series,
    is_single,
    is_table,
)
from protclip.inference.readings import Sides, readings_of, several, unknown
from protclip.modalities.base import Modality


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
    whole : bool
        The one value is the whole input, read by an adapter that does not say which objects are its items.
    total : int or None
        Number of items where it is known before they are read.
    """

    side: str
    adapter: Modality[Any]
    entries: Iterable[Entry]
    whole: bool = False
    total: int | None = None

    @property
    def where(self) -> str:
        """What to call it in a message: the one file or folder that it is, else just the input."""
        one = self.entries[0].value if isinstance(self.entries, list) and len(self.entries) == 1 else None
        return str(one) if isinstance(one, Path) else "the input"

    def items(self) -> Iterator[tuple[str, Any]]:
        """Ids with items, or with the errors of those that cannot be read."""
        if isinstance(self.entries, list) and all(_is_bare_path(entry) for entry in self.entries):
            yield from self.adapter.read_paths([entry.value for entry in self.entries])
            return
        for entry in self.entries:
            source = entry.value if entry.id is None else {entry.id: entry.value}
            yield from self.adapter.read(source)


def _is_bare_path(entry: Entry) -> bool:
    return entry.id is None and isinstance(entry.value, Path)


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
    rows: Iterable[Entry] | None = None
    if is_table(source):
        asked = list(sides) if modality is None else [modality]
        modality, rows = column_entries(source, asked, id_column=id_column, columns=named_columns)
    elif id_column is not None or named_columns:
        raise ConfigError("columns are named, but this is no DataFrame", got=brief(source))
    if modality is not None and sides[modality].recognises("", named=True) is None:
        whole = Entry("the input", None, _for_adapter(source, rows))
        return Recognised(modality, sides[modality], [whole], whole=True)
    side, checked = _checked(_entries(source, sides, modality) if rows is None else rows, sides, modality)
    if isinstance(source, Iterator):
        return Recognised(side, sides[side], checked)
    known = list(checked)
    total = None if any(isinstance(entry.value, Path) for entry in known) else len(known)
    return Recognised(side, sides[side], known, total=total)


def _for_adapter(source: Any, rows: Iterable[Entry] | None) -> Any:
    """What an adapter is given that reads containers itself: pandas objects come as mappings."""
    if rows is None and is_series(source):
        rows = entries_of(source)
    if rows is None:
        return source
    ids = UniqueIds()
    return {ids.add(str(entry.id), entry.place): entry.value for entry in rows}


class UniqueIds:
    """The ids of an input and where they stand; an id that comes again is refused."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def add(self, id: str, place: str) -> str:
        """Take up an id, and give it back.

        Raises
        ------
        DataError
            If it was there before; names both places.
        """
        if id in self.places:
            raise DataError(
                "two inputs have the same id",
                where=place,
                got=f"{id!r}, which is also the id of {self.places[id]}",
                expected="different ids",
                hint="Give them ids of your own, as a dict of id to item",
            )
        self.places[id] = place
        return id


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
            names, _ = readings_of(entry, sides, None)
            if len(names) > 1:
                raise several(entry, [f"an item of {name!r}" for name in names], "Say it with modality=...")
            side = names[0] if names else None
        if side is not None:
            break
    if not looked_at:
        raise DataError(
            "nothing to read: the input is empty", where="the input", expected="at least one item"
        )
    if side is None:
        raise unknown(looked_at[0], sides)
    return side, _named(itertools.chain(looked_at, stream), sides, side, modality)


def _named(entries: Iterable[Entry], sides: Sides, side: str, modality: str | None) -> Iterator[Entry]:
    """Entries of one side, each with its id (files have theirs in them); equal ids are refused."""
    adapter, ids = sides[side], UniqueIds()
    for number, entry in enumerate(entries):
        names, value = readings_of(entry, sides, modality)
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
                raise unknown(entry, {side: adapter})
        id = entry.id
        if id is None and not isinstance(value, Path):
            id = adapter.own_id(value) or str(number)
        yield Entry(entry.place, id if id is None else ids.add(id, entry.place), value)
