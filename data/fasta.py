"""Reading FASTA files as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, overload

from protclip.data.text import numbered_lines
from protclip.errors import ConfigError, DataError

_SKIP = str.maketrans("", "", " \t-.")


@overload
def read_fasta(
    path: str | Path, *, unique: bool = True, on_error: Literal["raise"] = "raise"
) -> Iterator[tuple[str, str]]: ...


@overload
def read_fasta(
    path: str | Path, *, unique: bool = True, on_error: Literal["yield"]
) -> Iterator[tuple[str, str | DataError]]: ...


def read_fasta(
    path: str | Path, *, unique: bool = True, on_error: Literal["raise", "yield"] = "raise"
) -> Iterator[tuple[str, str | DataError]]:
    r"""Records of a FASTA file, plain or gzipped, one at a time.

    The id is the first word after ``>``. Sequences come in upper case, without gaps (``-``, ``.``),
    blanks and one closing stop (``*``). All 26 letters are let through; the sequence encoder says what
    it makes of B, J, O, U, X and Z.

    Parameters
    ----------
    path
        FASTA file.
    unique
        Refuse an id that was there before; remembers every id. Without it memory stays constant.
    on_error
        ``"raise"`` ends at the first bad record: no id, no sequence, a character that is no residue, an
        id used twice. ``"yield"`` gives its error in place of its sequence and goes on with the next; a
        record without an id is called ``line <number>``.

    Yields
    ------
    id : str
    sequence : str, or DataError with ``on_error="yield"``

    Raises
    ------
    DataError
        With file and line: a bad record, unless they are yielded. Always: a file that is missing, damaged,
        no text or without records, and text before the first header.
    ConfigError
        If ``on_error`` is neither.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.fasta"
    >>> _ = file.write_bytes(b">a first protein\r\nMK-v\r\nL*\r\n>b\r\nGG\r\n")
    >>> list(read_fasta(file))
    [('a', 'MKVL'), ('b', 'GG')]
    >>> _ = file.write_bytes(b">a\nM1\n>b\nGG\n")
    >>> for id, found in read_fasta(file, on_error="yield"):
    ...     print(id, found if isinstance(found, str) else found.message)
    a not a residue letter in 'a'
    b GG
    """
    if on_error not in ("raise", "yield"):
        raise ConfigError("unknown choice", where="on_error", got=repr(on_error), expected="raise or yield")
    for id, found in _records(path, unique):
        if on_error == "raise" and isinstance(found, DataError):
            raise found
        yield id, found


def _records(path: str | Path, unique: bool) -> Iterator[tuple[str, str | DataError]]:
    """Every record, a bad one with the first of its errors."""
    seen: dict[str, int] = {}
    id, start = "", 0
    parts: list[str] = []
    error: DataError | None = None
    for number, line in numbered_lines(path):
        where = f"{path}:{number}"
        if line.startswith(">"):
            if start:
                yield id, error or _join(parts, id, f"{path}:{start}")
            id, start, parts, error = next(iter(line[1:].split()), ""), number, [], None
            if not id:
                id = f"line {number}"
                error = DataError("header without an id", where=where, expected="> followed by an id")
            elif unique and id in seen:
                error = DataError(
                    "id used twice",
                    where=where,
                    got=f"{id!r}, first in line {seen[id]}",
                    expected="unique ids (the first word after >)",
                )
            elif unique:
                seen[id] = number
            continue
        text = line.translate(_SKIP)
        if not text or error:
            continue
        if not start:
            # The one mistake that no record can be blamed for: this is another kind of file.
            raise DataError(
                "not a FASTA file", where=where, got=repr(line[:40]), expected="a line that starts with >"
            )
        error = _mistake(text, parts, id, where)
        if error:
            parts = []  # so that a bad record does not pile up
        else:
            parts.append(text.upper())
    if not start:
        raise DataError("no FASTA record", where=str(path), expected="a line that starts with >")
    yield id, error or _join(parts, id, f"{path}:{start}")


def _mistake(text: str, parts: list[str], id: str, where: str) -> DataError | None:
    """What is wrong with the next line of a sequence."""
    if parts and parts[-1].endswith("*"):
        return DataError(
            "residues after the stop", where=where, got=repr(text[:40]), expected="* at the end only"
        )
    letters = text.removesuffix("*")
    if not letters or (letters.isascii() and letters.isalpha()):
        return None
    wrong = next(c for c in letters if not (c.isascii() and c.isalpha()))
    return DataError(
        f"not a residue letter in {id!r}",
        where=where,
        got=repr(wrong),
        expected="A to Z, - . or a final *",
    )


def _join(parts: list[str], id: str, where: str) -> str | DataError:
    sequence = "".join(parts).removesuffix("*")
    if not sequence:
        return DataError(
            "record without a sequence", where=where, got=repr(id), expected="at least one residue"
        )
    return sequence
