"""What an output must be so that work on it can end well, and the list of what could not be done."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_write, refuse_no_file

LONGEST_ENDING = ".failed.tsv.4194304-7fffffffffffffff.tmp"
"""The longest that is put to the name of an output while it is made."""


def check_output(
    output: Path, *, inputs: Iterable[Any] = (), inside: bool = False, folder: bool = False
) -> None:
    """Say before the work what would fail at its end.

    Parameters
    ----------
    output : Path
        What will be written.
    inputs : iterable
        What is read; only paths of files and folders that exist count.
    inside : bool
        Whether the output may lie in a folder that is an input.
    folder : bool
        Whether the output is a folder.

    Raises
    ------
    ConfigError
        If the output is an input, or lies in one, or its name is too long.
    DataError
        If it cannot be written, or something of another kind stands there.
    """
    where = f"-o {output}"
    real = Path(os.path.realpath(output))
    parent = next(place for place in real.parents if os.path.exists(place))  # noqa: PTH110
    _refuse_long_name(real, parent, where)
    for given in inputs:
        if not isinstance(given, (str, Path)) or not os.path.exists(given):  # noqa: PTH110
            continue
        source = Path(os.path.realpath(given))
        if source == real or (real.exists() and real.samefile(source)):
            raise ConfigError("the output is the input, which would be lost", where=where)
        if source in real.parents and not inside:
            raise ConfigError(
                "the output would lie in the folder of the input, and be read as a part of it",
                where=where,
                got=f"input {given}",
                hint="Choose a name outside of it",
            )
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise DataError("cannot be written", where=str(output), got=f"no right to write in {parent}")
    if folder:
        if output.exists() and not output.is_dir():
            raise DataError("a file stands in the place of the folder to write", where=str(output))
    else:
        refuse_no_file(output)


def _refuse_long_name(path: Path, parent: Path, where: str) -> None:
    try:
        most = os.pathconf(parent, "PC_NAME_MAX")
    except (OSError, ValueError, AttributeError):  # a system that does not say
        return
    for name in path.relative_to(parent).parts:
        limit = most - len(LONGEST_ENDING) - 1 if name == path.name else most
        length = len(os.fsencode(name))
        if length > limit:
            raise ConfigError(
                "the name is too long", where=where, got=f"{length} bytes", expected=f"at most {limit}"
            )


def failed_path(output: Path) -> Path:
    """Where the list of what could not be done stands: ``<output>.failed.tsv``, one for every output.

    Examples
    --------
    >>> failed_path(Path("out/vectors.h5")).name
    'vectors.h5.failed.tsv'
    """
    return output.with_name(output.name + ".failed.tsv")


def list_failures(
    output: Path, rows: Iterable[Sequence[str]], columns: Sequence[str] = ("id", "reason")
) -> Path | None:
    """Write the list of :func:`failed_path`, a row each; without rows there is no list, nor an old one."""
    path = failed_path(output)
    # A tab or a line break in a cell would make another row of it.
    lines = ["\t".join(" ".join(str(cell).split()) for cell in row) for row in rows]
    if not lines:
        path.unlink(missing_ok=True)
        return None
    text = "\n".join(["\t".join(columns), *lines]) + "\n"
    atomic_write(path, text.encode("utf-8", "backslashreplace"))
    return path
