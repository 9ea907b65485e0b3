"""Work that was interrupted and is taken up again, if it was made from the same."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_write, temporary_name
from protclip.work.locks import claim, tidy

NOTE = "made_by.json"
"""File that says what the work in a folder is made from."""

FULL = {errno.ENOSPC, errno.EDQUOT}


def write_note(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Note in a folder what the work in it is made from: plain values, by names that a user knows."""
    atomic_write(folder / NOTE, json.dumps(dict(made_from), indent=1, default=str) + "\n")


def check_note(folder: Path, made_from: Mapping[str, Any]) -> None:
    """Refuse to go on with work that was made from something else than ``made_from``.

    Raises
    ------
    ConfigError
        If the note differs; the message names each difference.
    DataError
        If the folder has no (readable) note.
    """
    try:
        before = json.loads((folder / NOTE).read_text(encoding="utf-8"))
        if not isinstance(before, dict):
            raise ValueError("no table")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"no readable {NOTE} here, which says what unfinished work is made from",
            where=str(folder),
            got=str(error).splitlines()[0] if isinstance(error, ValueError) else error.strerror,  # type: ignore[union-attr]
            hint="Delete the folder if it is of an earlier call of this program, or choose another output",
        ) from None
    changes = differences(before, made_from)
    if changes:
        raise ConfigError(
            "an interrupted run of another kind is in the way",
            where=str(folder),
            got="another " + ", another ".join(changes),
            hint="Finish that run with its own command, delete the folder, or choose another output",
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What has changed between two notes, entry by entry.

    Examples
    --------
    >>> differences({"model": "0a1", "precision": "fp32"}, {"model": "0a1", "precision": "bf16"})
    ["precision ('fp32' before, 'bf16' now)"]
    """
    plain = json.loads(json.dumps(dict(now), default=str))
    return [
        f"{key} ({_shown(before, key)} before, {_shown(plain, key)} now)"
        for key in dict.fromkeys([*plain, *before])
        if before.get(key) != plain.get(key)
    ]


def _shown(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "nothing noted"
    value = values[key]
    if isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value[:12]
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Unfinished:
    """The folder beside an output, ``<output>.parts``, in which finished pieces of it wait for the others.

    A context: left without an error the work is done, and the folder goes; left with one it stays, if there
    is anything in it, and the same call takes the work up again. Nobody else's folder is ever touched. Hold
    the :func:`protclip.work.locks.claim` of the output around it.

    Parameters
    ----------
    output : Path
    made_from : mapping
        All that decides the result, by names that the user knows: contents of the inputs (see
        :func:`protclip.work.fingerprint.fingerprint`), model, precision, options, version of the program
        where the result depends on it.
    ending : str
        What is put to the name of the output.
    keep : bool
        False for work that cannot be taken up again: an error leaves nothing of it.

    Attributes
    ----------
    folder : Path
    taken_up : bool
        Whether there is earlier work, made from the same.

    Raises
    ------
    ConfigError
        On entry, if the folder holds work that was made from something else; names the differences.
    DataError
        On entry, if the folder is not ours, or cannot be made. On leaving, if the disk is full: says what is
        kept and how to go on.

    Examples
    --------
    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "vectors.h5"
    >>> with Unfinished(output, {"input": "abc"}) as parts:
    ...     _ = (parts.folder / "1.npz").write_bytes(b"finished")
    ...     raise ValueError("killed")
    Traceback (most recent call last):
    ValueError: killed
    >>> with Unfinished(output, {"input": "xyz"}):
    ...     pass
    Traceback (most recent call last):
    protclip.errors.ConfigError: ...another input ('abc' before, 'xyz' now)...
    >>> with Unfinished(output, {"input": "abc"}) as parts:
    ...     parts.taken_up
    True
    >>> parts.folder.exists()
    False
    """

    def __init__(
        self, output: Path, made_from: Mapping[str, Any], *, ending: str = ".parts", keep: bool = True
    ) -> None:
        self.output, self.made_from, self.keep = output, dict(made_from), keep
        self.folder = output.with_name(output.name + ending)
        self.taken_up = False

    def __enter__(self) -> Unfinished:
        if os.path.lexists(self.folder):
            self._refuse_foreign()
            check_note(self.folder, self.made_from)
            self.taken_up = True
            return self
        # Made under another name, so that a kill never leaves a folder of which nobody knows whose it is.
        new = temporary_name(self.output)
        try:
            new.mkdir(parents=True)
            write_note(new, self.made_from)
            new.rename(self.folder)
        except OSError as error:
            raise DataError(
                "cannot be written", where=str(self.folder), got=error.strerror or str(error)
            ) from error
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return self

    def _refuse_foreign(self) -> None:
        if self.folder.is_dir() and (self.folder / NOTE).is_file():
            return
        raise DataError(
            "finished pieces of the output would go here, but something that protclip did not make is here",
            where=str(self.folder),
            got="a folder without its note" if self.folder.is_dir() else "no folder",
            hint="Rename it, or choose another output",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or not self.keep or not self.pieces():
            self.remove()
        if is_full(error):
            raise DataError(
                "the disk is full",
                where=str(self.output),
                hint=(
                    f"What is finished is kept in {self.folder}: make room and give the same command again"
                    if self.folder.exists()
                    else "Nothing was finished yet: make room and give the command again"
                ),
            ) from error

    def pieces(self, pattern: str = "*") -> list[Path]:
        """Finished pieces, sorted by name."""
        return sorted(
            path for path in self.folder.glob(pattern) if path.name != NOTE and not path.name.startswith(".")
        )

    def remove(self) -> None:
        """Delete the folder at once, for all others to see, and then its content."""
        gone = temporary_name(self.output)
        with suppress(OSError):
            self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def tidy_finished(output: Path, ending: str = ".parts") -> None:
    """Remove what a process left of an output that it finished, and was killed before it had cleared up.

    Examples
    --------
    >>> import tempfile
    >>> output = Path(tempfile.mkdtemp()) / "vectors.h5"
    >>> with Unfinished(output, {}) as parts:
    ...     _ = (parts.folder / "1.npz").write_bytes(b"finished")
    ...     raise ValueError("killed")
    Traceback (most recent call last):
    ValueError: killed
    >>> tidy_finished(output)
    >>> list(output.parent.iterdir())
    []
    """
    tidy(output)
    left = Unfinished(output, {}, ending=ending)
    if (left.folder / NOTE).is_file():
        with suppress(DataError), claim(output):
            left.remove()


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that caused it, is that of a full disk.

    Examples
    --------
    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError(errno.EIO, "broken"))
    (True, False)
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        # HDF5 tells in words alone, and not always with a number.
        if (isinstance(error, OSError) and error.errno in FULL) or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
