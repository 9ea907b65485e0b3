"""Options as dataclass fields, declared once for the command line and for files, and read with checks."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from protclip.errors import ConfigError

DATA, MODEL, LOSS, TRAIN, RUN = "Data", "Model", "Objective", "Training", "Run"


def option(default: Any, help: str, *, panel: str, flag: str = "", evaluation: bool = False) -> Any:
    """A dataclass field that is an option of the command line too.

    Parameters
    ----------
    default : object
        A mapping is copied for each configuration.
    help : str
        What the option does, for ``--help``; the default is added by itself.
    panel : str
        Group of options that it is shown with.
    flag : str
        Name on the command line where it is not that of the field, e.g. ``--left-option``.
    evaluation : bool
        Whether ``protclip evaluate`` takes it as well.
    """
    metadata = {"help": help, "panel": panel, "flag": flag, "evaluation": evaluation}
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def from_dict(cls: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """Build a (nested) configuration dataclass, checking names and types.

    Raises
    ------
    ConfigError
        Naming file and entry: unknown name, wrong type, value outside a closed set.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}: {key}"
        if key not in known:
            raise ConfigError("unknown entry", where=place, expected=", ".join(sorted(known)))
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, Mapping):
                raise ConfigError("not a table", where=place, got=repr(value), expected=f"[{key}]")
            arguments[key] = from_dict(typing.cast(type, hints[key]), value, where=place)
        else:
            arguments[key] = _checked(hints[key], value, place)
    return cls(**arguments)


def _checked(hint: Any, value: Any, place: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(
                "not one of the choices", where=place, got=repr(value), expected=str(get_args(hint))
            )
        return value
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        options = [a for a in get_args(hint) if a is not type(None)]
        for option in options[:-1]:
            try:
                return _checked(option, value, place)
            except ConfigError:
                continue
        return _checked(options[-1], value, place)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise ConfigError("not a table", where=place, got=repr(value))
        return dict(value)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError("not a list", where=place, got=repr(value))
        return tuple(_checked(get_args(hint)[0], item, place) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is not bool and isinstance(value, bool)):
        raise ConfigError("wrong type", where=place, got=repr(value), expected=hint.__name__)
    return value


def plain(value: Any) -> Any:
    """The value as TOML can hold it: tuples become lists, also inside mappings, which are copied.

    Examples
    --------
    >>> plain({"sizes": (1, 2), "name": "x"})
    {'sizes': [1, 2], 'name': 'x'}
    """
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
