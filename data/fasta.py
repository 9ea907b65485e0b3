"""Reading FASTA files as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from protclip.data.text import numbered_lines
from protclip.errors import DataError

_SKIP = str.maketrans("", "", " \t-.")


def read_fasta(path: str | Path, *, unique: bool = True) -> Iterator[tuple[str, str]]:
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

    Yields
    ------
    id, sequence : str

    Raises
    ------
    DataError
        With file and line: text before the first header, no id, no sequence, a character that is no
        residue, an id used twice; also a file that is missing, damaged or without records.

    Examples
    --------
    >>> import tempfile
    >>> file = Path(tempfile.mkdtemp()) / "two.fasta"
    >>> _ = file.write_bytes(b">a first protein\r\nMK-v\r\nL*\r\n>b\r\nGG\r\n")
    >>> list(read_fasta(file))
    [('a', 'MKVL'), ('b', 'GG')]
    """
    seen: dict[str, int] = {}
    id, start = "", 0
    parts: list[str] = []
    for number, line in numbered_lines(path):
        if line.startswith(">"):
            if start:
                yield id, _join(parts, id, f"{path}:{start}")
            id, start, parts = next(iter(line[1:].split()), ""), number, []
            if not id:
                raise DataError(
                    "header without an id", where=f"{path}:{number}", expected="> followed by an id"
                )
            if unique and id in seen:
                raise DataError(
                    "id used twice",
                    where=f"{path}:{number}",
                    got=f"{id!r}, first in line {seen[id]}",
                    expected="unique ids (the first word after >)",
                )
            if unique:
                seen[id] = number
            continue
        text = line.translate(_SKIP)
        if not text:
            continue
        if not start:
            raise DataError(
                "not a FASTA file",
                where=f"{path}:{number}",
                got=repr(line[:40]),
                expected="a line that starts with >",
            )
        if parts and parts[-1].endswith("*"):
            raise DataError(
                "residues after the stop",
                where=f"{path}:{number}",
                got=repr(text[:40]),
                expected="* at the end only",
            )
        letters = text[:-1] if text.endswith("*") else text
        if letters and not (letters.isascii() and letters.isalpha()):
            wrong = next(c for c in letters if not (c.isascii() and c.isalpha()))
            raise DataError(
                f"not a residue letter in {id!r}",
                where=f"{path}:{number}",
                got=repr(wrong),
                expected="A to Z, - . or a final *",
            )
        parts.append(text.upper())
    if not start:
        raise DataError("no FASTA record", where=str(path), expected="a line that starts with >")
    yield id, _join(parts, id, f"{path}:{start}")


def _join(parts: list[str], id: str, where: str) -> str:
    sequence = "".join(parts).removesuffix("*")
    if not sequence:
        raise DataError(
            "record without a sequence", where=where, got=repr(id), expected="at least one residue"
        )
    return sequence
