"""The values of whatever holds several of them, each with its id and its place for messages.

pandas is known by class name, so that it is not imported for who does not have it.
"""

from __future__ import annotations

import io
import os
import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from protclip.errors import ConfigError, DataError
from protclip.structure.reading.objects import is_instance_of


class Entry(NamedTuple):
    """One value of the input.

    Attributes
    ----------
    place : str
        Where it stands, for messages.
    id : str or None
        The id that the container gives it.
    value : object
    """

    place: str
    id: str | None
    value: Any


def entries_of(source: Any) -> Iterator[Entry]:
    """Values of a mapping or Series by id, of any other container by position; a pair is an id and a value.

    Raises
    ------
    DataError
        If ``source`` holds no values in an order of their own, or an id is neither text nor a whole number.

    Examples
    --------
    >>> list(entries_of({7: "MKV"}))
    [Entry(place='id 7', id='7', value='MKV')]
    >>> list(entries_of(["MKV", ("a", "GAV")]))
    [Entry(place='position 0', id=None, value='MKV'), Entry(place='position 1', id='a', value='GAV')]
    """
    if isinstance(source, Mapping):
        return (_labelled(f"id {brief(key)}", key, value) for key, value in source.items())
    if is_series(source):
        return _rows(source.index, source)
    reason = _unusable(source)
    if reason is None:
        try:
            values = iter(source)
        except Exception as error:  # an object of anybody's: a tensor without dimensions, say
            reason = f"it cannot be gone through ({type(error).__name__})"
        else:
            return (_numbered(number, value) for number, value in enumerate(values))
    raise DataError(
        f"no input that can be read: {reason}", where="the input", got=brief(source), expected=EXPECTED
    )


def is_single(source: object) -> bool:
    """Whether this is one value, of whatever kind, and no container of several."""
    if isinstance(source, (str, os.PathLike, type)) or is_missing(source):
        return True
    return not isinstance(source, Iterable) and not hasattr(source, "__getitem__")


EXPECTED = "one item, a path, or a list, generator, array, dict, Series or DataFrame of these"


def _unusable(source: Any) -> str | None:
    """Why an object is no container of items in an order of their own."""
    if isinstance(source, (set, frozenset)):
        return "a set has no order"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "bytes are no text, decode them"
    if isinstance(source, io.IOBase) or hasattr(source, "readline"):
        return "an open file, give its path"
    if isinstance(source, np.ndarray) and source.ndim != 1:
        return f"an array of {source.ndim} dimensions, where one is needed"
    if hasattr(source, "to_pandas"):
        return "a table of another package, give what its to_pandas() returns"
    return None


def is_table(source: object) -> bool:
    """Whether this is a DataFrame."""
    return is_instance_of(source, "pandas.DataFrame")


def is_series(source: object) -> bool:
    """Whether this is a Series, whose index gives the ids."""
    return is_instance_of(source, "pandas.Series")


def column_entries(
    table: Any, sides: Sequence[str], *, id_column: str | None, columns: Mapping[str, str]
) -> tuple[str, Iterator[Entry]]:
    """The side whose items a DataFrame holds, and its rows.

    Parameters
    ----------
    table : DataFrame
    sides : sequence of str
        The sides that come into question.
    id_column : str, optional
        By default ``id``, or the index where there is none.
    columns : mapping of str to str
        Side -> column; by default the column that is called as a side.

    Raises
    ------
    ConfigError
        If a column is missing or stands twice, or it is not clear which one holds the items.
    """
    chosen = {side: columns[side] for side in sides if side in columns}
    chosen = chosen or {side: side for side in sides if side in table.columns}
    if len(chosen) != 1:
        raise ConfigError(
            "several columns hold items" if chosen else "no column of the DataFrame holds items",
            where="DataFrame",
            got=", ".join(map(brief, chosen.values() if chosen else table.columns)) or "no columns",
            expected=f"one column called {' or '.join(map(repr, sides))}",
            hint="Say which side with modality=..." if chosen else f"Name it, as in {sides[0]}_column='...'",
        )
    ((side, column),) = chosen.items()
    if id_column is None and "id" in table.columns:
        id_column = "id"
    ids = table.index if id_column is None else _column(table, id_column)
    return side, _rows(ids, _column(table, column))


def _column(table: Any, name: str) -> Any:
    if name not in table.columns:
        got = ", ".join(map(brief, table.columns))
        raise ConfigError("no such column", where="DataFrame", got=got, expected=repr(name))
    column = table[name]
    if is_table(column):
        raise ConfigError("a column stands twice", where="DataFrame", got=repr(name), expected="it once")
    return column


def _rows(ids: Any, values: Any) -> Iterator[Entry]:
    for number, (id, value) in enumerate(zip(ids, values, strict=True)):
        yield _labelled(f"row {number} (id {brief(id)})", id, value)


def _labelled(place: str, id: object, value: Any) -> Entry:
    return Entry(place, id_text(id, place), value)


def _numbered(number: int, value: Any) -> Entry:
    place = f"position {number}"
    if isinstance(value, tuple) and len(value) == 2:
        return _labelled(place, *value)
    return Entry(place, None, value)


def id_text(id: object, place: str) -> str:
    """An id as text: text as it is, a whole number in decimal.

    Raises
    ------
    DataError
        If it is anything else, or empty.

    Examples
    --------
    >>> id_text("01", "row 0"), id_text(np.int64(1), "row 1")
    ('01', '1')
    """
    if isinstance(id, str) and id.strip():
        return str(id)
    if isinstance(id, (int, np.integer)) and not isinstance(id, bool):
        return str(int(id))
    raise DataError(
        "no id" if is_missing(id) or isinstance(id, str) else "an id is text or a whole number",
        where=place,
        got=brief(id),
        expected="text or a whole number",
    )


def is_missing(value: object) -> bool:
    """Whether this is None, NaN, or what pandas writes for a missing value."""
    if isinstance(value, (float, np.floating)):
        return bool(np.isnan(value))
    return value is None or is_instance_of(value, "pandas.NAType", "pandas.NaTType")


def brief(value: object) -> str:
    """A value for a message: text and numbers in short, of other objects the kind.

    Examples
    --------
    >>> brief("MKV"), brief(["MKV"]), brief(None)
    ("'MKV'", 'a list', 'None')
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, int, float, complex)):
        return _SHORT.repr(value)
    if isinstance(value, os.PathLike):
        return str(value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = 60
