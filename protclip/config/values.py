"""A value against the type of its option."""

from __future__ import annotations

import os
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from protclip.config.checks import check_choice, check_number, check_switch
from protclip.errors import ConfigError


def typed_value(hint: Any, value: Any, place: str, limits: Mapping[str, Any]) -> Any:
    """The value as the type ``hint`` has it.

    Parameters
    ----------
    hint : type
        Number, switch, string, closed set of words, list of one type, mapping, or a union of a number with
        words or None.
    value : object
    place : str
        Where the value was given, for the message.
    limits : mapping
        Of :func:`protclip.config.checks.check_number`.

    Raises
    ------
    ConfigError
        Wrong type, value outside a closed set or out of range.

    Examples
    --------
    >>> typed_value(tuple[float, ...], [1, 2], "bandwidths", {"low": 0})
    (1.0, 2.0)
    """
    origin = get_origin(hint)
    if origin is Literal:
        check_choice(place, value, get_args(hint))
    elif origin in (Union, types.UnionType):
        return _one_of(list(get_args(hint)), value, place, limits)
    elif origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError("not a table", where=place, got=repr(value), expected="NAME = VALUE entries")
        return dict(value)
    elif origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError("not a list", where=place, got=repr(value), expected="a list such as [1, 2]")
        kind = get_args(hint)[0]
        return tuple(typed_value(kind, item, f"{place}[{i}]", limits) for i, item in enumerate(value))
    elif hint in (int, float):
        check_number(place, value, integer=hint is int, **limits)
        return hint(value)
    elif hint is bool:
        check_switch(place, value)
    elif hint is str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str):
            raise ConfigError("wrong type", where=place, got=repr(value), expected="a string")
    return value


def _one_of(hints: list[Any], value: Any, place: str, limits: Mapping[str, Any]) -> Any:
    if value is None and type(None) in hints:
        return None
    hints = [hint for hint in hints if hint is not type(None)]
    words = [word for hint in hints if get_origin(hint) is Literal for word in get_args(hint)]
    if words and isinstance(value, str):
        beside = "a whole number" if int in hints else "a number" if float in hints else ""
        check_choice(place, value, words, beside=beside)
        return value
    # Beside words there is one other type at most: a number.
    return typed_value(next(h for h in hints if get_origin(h) is not Literal), value, place, limits)
