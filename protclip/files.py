"""Small file helpers: whole-or-nothing writes, TOML with clear errors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from protclip.atomic import atomic_path
from protclip.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` is either the old or the whole new file, also after a power cut."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises
    ------
    ConfigError
        If the file is missing, is not UTF-8, or is not TOML; names the line.
    """
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"cannot read ({error.strerror})", where=str(path)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file ({error})", where=str(path)) from error


def toml_value(text: str) -> Any:
    """A value as TOML writes it; anything that is not TOML is a string.

    Examples
    --------
    >>> toml_value("0.5"), toml_value("[1, 2]"), toml_value("kl")
    (0.5, [1, 2], 'kl')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def write_toml(path: Path, values: Mapping[str, Any], remarks: Sequence[str] = ()) -> None:
    """Write nested plain values as TOML, below ``remarks`` as comments; None entries are left out."""
    import tomli_w  # kept out of start-up

    head = "".join(f"# {' '.join(remark.split())}\n" for remark in remarks)
    atomic_write(path, head + tomli_w.dumps(_without_none(values)))


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }
