"""What is said of a path, and the small questions by which kinds of files are told apart."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from protclip.errors import ConfigError
from protclip.files import read_toml


class Description(NamedTuple):
    """What is said of a path of a known kind.

    Attributes
    ----------
    facts : dict
        What it is; None and empty values are left out.
    made : str
        How it was made: command or options, version, date, as far as they are known.
    next : list of str
        Commands that can be given next.
    """

    facts: Mapping[str, Any]
    made: str
    next: list[str]


class Kind(NamedTuple):
    """One kind of file or folder.

    Attributes
    ----------
    name : str
    fits : callable
        Whether a path is of this kind, by light marks; raises nothing.
    describe : callable
        Says the rest; raises :class:`protclip.errors.ProtclipError` if the path is damaged.
    """

    name: str
    fits: Callable[[Path], bool]
    describe: Callable[[Path], Description]


def command(*parts: object) -> str:
    """A command of protclip, quoted for a shell.

    Examples
    --------
    >>> command("embed", Path("my model"), "-i", "FASTA")
    "protclip embed 'my model' -i FASTA"
    """
    return shlex.join(["protclip", *map(str, parts)])


def made(*facts: str, at: Path) -> str:
    """How something was made: the facts that are known, and when ``at`` was written."""
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(at.stat().st_mtime))
    return ", ".join([*(fact for fact in facts if fact), date])


def version(config: Mapping[str, Any]) -> str:
    """``protclip 0.1.0`` where a configuration says so."""
    found = config.get("protclip_version") or config.get("protclip")
    return f"protclip {found}" if found else ""


def toml(path: Path) -> dict[str, Any]:
    """Content of a TOML file; empty if it is none."""
    try:
        return read_toml(path)
    except ConfigError:
        return {}


def json_table(path: Path) -> dict[str, Any]:
    """Content of a JSON file with a table; empty if it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def starts_with(path: Path, *signatures: bytes) -> bool:
    """Whether the content of a file begins with one of these."""
    return path.is_file() and head(path).startswith(signatures)


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of a file; none if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def first_line(path: Path) -> str:
    """The first line of a text file that is no comment; empty for a file that is no text."""
    try:
        text = head(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        return ""
    return next((line for line in text.splitlines() if line and not line.startswith("#")), "")


def rows(path: Path) -> int:
    """Lines of a table below its header, comments left out."""
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip() and not line.startswith(b"#")) - 1
