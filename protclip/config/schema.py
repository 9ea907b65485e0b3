"""Options as dataclass fields, declared once for the command line and for files, and read with checks."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from protclip.config.checks import near
from protclip.config.values import typed_value
from protclip.errors import ConfigError
from protclip.files import read_toml, write_toml

if TYPE_CHECKING:
    from typing_extensions import Self

DATA, PAIRING, MODEL = "Which data", "How much is paired", "Which model"
LEARNING, MACHINE, RUN = "How it learns", "How long, on what machine", "Where it goes"
PANELS = (DATA, PAIRING, MODEL, LEARNING, MACHINE, RUN)
"""Groups of options in the help, in order: what a user decides with them."""


def option(
    default: Any,
    help: str = "",
    *,
    panel: str = "",
    flag: str = "",
    evaluation: bool = False,
    advanced: bool = False,
    machine: bool = False,
    settled: bool = False,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    check: Callable[[str, object], None] | None = None,
) -> Any:
    """A dataclass field that is an option: of files, and with a ``help`` of the command line too.

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
    advanced : bool
        Whether only ``--help-all`` shows it.
    machine : bool
        Whether it says where a run computes, not what, so that it may change when a run is resumed.
    settled : bool
        Whether a run writes what came of ``auto`` into its ``config.toml``.
    low, high : float
        Smallest and largest value of a number, and of the entries of a list of numbers.
    above : bool
        Whether ``low`` itself is out of range.
    check : callable, optional
        Told place and value; raises :class:`ConfigError` for what cannot be used.
    """
    metadata = {
        "help": help,
        "panel": panel,
        "flag": flag,
        "evaluation": evaluation,
        "advanced": advanced,
        "machine": machine,
        "settled": settled,
        "range": {"low": low, "high": high, "above": above},
        "check": check,
    }
    if isinstance(default, Mapping):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class Options:
    """Base of every dataclass of options: checks its fields when it is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(typing.cast(Any, self)):
            value = getattr(self, field.name)
            if not isinstance(value, Options):
                object.__setattr__(self, field.name, checked_value(type(self), field, value, field.name))

    @classmethod
    def of_table(cls, values: dict[str, Any], where: str) -> type[Options]:
        """The class that a table of a file describes; takes the entries that say so out of ``values``."""
        return cls

    def to_dict(self) -> dict[str, Any]:
        """Nested plain values, ready for TOML.

        Returns
        -------
        dict
        """
        found = {}
        for field in dataclasses.fields(typing.cast(Any, self)):
            value = getattr(self, field.name)
            found[field.name] = value.to_dict() if isinstance(value, Options) else _plain(value)
        return found

    def save(self, path: Path, remarks: Sequence[str] = ()) -> None:
        """Write as TOML, so that ``--config path`` repeats the run; ``remarks`` become comments."""
        write_toml(path, self.to_dict(), remarks)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read TOML; entries that are left out keep their defaults.

        Raises
        ------
        ConfigError
            See :func:`from_dict`.
        """
        return from_dict(cls, read_toml(path), where=str(path))


Made = typing.TypeVar("Made", bound=Options)


def from_dict(cls: type[Made], values: Mapping[str, Any], *, where: str) -> Made:
    """Build (nested) options from plain values, checking names and values.

    Raises
    ------
    ConfigError
        Naming file and entry: unknown name, wrong type, value outside a closed set or out of range.
    """
    values = dict(values)
    made: Any = cls.of_table(values, where)
    hints = type_hints(made)
    known = {f.name: f for f in dataclasses.fields(made)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        place = f"{where}: {key}"
        if key not in known:
            raise ConfigError(
                "unknown entry", where=place, expected=", ".join(sorted(known)), hint=near(key, known)
            )
        if isinstance(hints[key], type) and issubclass(hints[key], Options):
            if not isinstance(value, Mapping):
                raise ConfigError("not a table", where=place, got=repr(value), expected=f"[{key}]")
            arguments[key] = from_dict(hints[key], value, where=place)
        else:
            arguments[key] = checked_value(made, known[key], value, place)
    return typing.cast(Made, made(**arguments))


_HINTS: dict[type[Options], Mapping[str, Any]] = {}


def type_hints(cls: type[Options]) -> Mapping[str, Any]:
    """Types of the fields of a class of options, by name; kept, since finding them takes a while."""
    if cls not in _HINTS:
        _HINTS[cls] = get_type_hints(cls)
    return _HINTS[cls]


def checked_value(cls: type[Options], field: dataclasses.Field[Any], value: Any, place: str) -> Any:
    """The value of an option as the configuration keeps it.

    A path stays as it was given. Whole numbers become floats where the option is one, lists become tuples.

    Parameters
    ----------
    cls : type
        Class of options that ``field`` is of.
    field : dataclasses.Field
    value : object
    place : str
        Where the value was given, for the message.

    Raises
    ------
    ConfigError
        Wrong type, value outside a closed set or out of range.
    """
    value = typed_value(type_hints(cls)[field.name], value, place, field.metadata.get("range", {}))
    if (check := field.metadata.get("check")) is not None:
        check(place, value)
    return value


def _plain(value: Any) -> Any:
    """The value as TOML can hold it: tuples become lists, also inside mappings, which are copied."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
