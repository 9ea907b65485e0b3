"""Reading FASTA files as a stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, overload

from protclip.compression import compression
from protclip.data.files.lines import checked_line, numbered_lines
from protclip.data.files.spans import Span
from protclip.errors import ConfigError, DataError

_SKIP = str.maketrans("", "", " \t-.")


class GappedSequence(str):
    """A sequence from which gaps or a closing stop were taken away."""

    __slots__ = ()


def looks_like_fasta(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a FASTA file.

    Examples
    --------
    >>> looks_like_fasta(b"; made by hand\\n>a\\nMKV"), looks_like_fasta(b"HEADER    HYDROLASE")
    (True, False)
    """
    lines = head.removeprefix(b"\xef\xbb\xbf").replace(b"\r", b"\n").split(b"\n")
    first = next((line for line in lines if line.strip() and not line.startswith(b";")), b"")
    return first.startswith(b">")


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
    r"""Records of a FASTA file, plain or compressed, one at a time; also of a pipe or standard input (``-``).

    The id is the first word after ``>``. Lines that start with ``;`` are comments. Sequences come in upper
    case, without gaps (``-``, ``.``), blanks and one closing stop (``*``); those that had gaps or a stop come
    as :class:`GappedSequence`. All 26 letters are let through; the sequence encoder says what
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
    for id, found in _records(numbered_lines(path, latin1=True), str(path), unique):
        if on_error == "raise" and isinstance(found, DataError):
            raise found
        yield id, found


def read_fasta_span(span: Span) -> Iterator[tuple[str, str | DataError]]:
    """The records that begin in a stretch of a FASTA file, bad ones as their errors.

    Lines in errors count from the beginning of the stretch, as ``<file>@<byte>:<line>``. A compressed
    file cannot be entered in the middle: all of it belongs to the stretch with its first byte.
    """
    if span.is_whole or not _has_lines(span.path):
        if span.start == 0:
            yield from read_fasta(span.path, unique=False, on_error="yield")
        return
    lines = enumerate(_span_lines(span), 1)
    first = next(lines, None)
    if first is not None:
        yield from _records(
            itertools.chain([first], lines), f"{span.path}@{span.start}", unique=False, part=True
        )


def _has_lines(path: Path) -> bool:
    """Whether the file can be entered in the middle: not compressed, with line feeds to find records by."""
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
    except OSError as error:
        raise DataError("cannot be read", where=str(path), got=error.strerror or str(error)) from None
    return compression(head) is None and b"\n" in head


def _span_lines(span: Span) -> Iterator[str]:
    """Lines from the first header in the stretch up to the first one behind it."""
    with span.path.open("rb") as file:
        place = max(span.start - 1, 0)
        file.seek(place)
        # A stretch may begin within a line; one that begins right behind a line end has the whole line.
        place += len(file.readline()) if span.start else 0
        begun = span.start == 0
        for raw in file:
            if raw.startswith(b">"):
                if place >= span.stop:
                    return
                begun = True
            if begun:
                text = raw.decode("utf-8-sig" if place == 0 else "utf-8", "surrogateescape")
                yield checked_line(text, f"{span.path}@{place}", latin1=True)
            elif place >= span.stop:
                return
            place += len(raw)


def _records(
    lines: Iterable[tuple[int, str]], path: str, unique: bool, *, part: bool = False
) -> Iterator[tuple[str, str | DataError]]:
    """Every record, a bad one with the first of its errors; only part of a file may have none."""
    seen: dict[str, int] = {}
    id, start = "", 0
    parts: list[str] = []
    error: DataError | None = None
    gaps = False
    for number, line in lines:
        where = f"{path}:{number}"
        if line.startswith(">"):
            if start:
                yield id, error or _join(parts, id, f"{path}:{start}", gaps)
            id, start, parts, error, gaps = next(iter(line[1:].split()), ""), number, [], None, False
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
        if line.startswith(";"):
            continue
        text = line.translate(_SKIP)
        gaps |= "-" in line or "." in line
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
        if part:
            return
        raise DataError("no FASTA record", where=str(path), expected="a line that starts with >")
    yield id, error or _join(parts, id, f"{path}:{start}", gaps)


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


def _join(parts: list[str], id: str, where: str, gaps: bool) -> str | DataError:
    whole = "".join(parts)
    sequence = whole.removesuffix("*")
    if not sequence:
        return DataError(
            "record without a sequence", where=where, got=repr(id), expected="at least one residue"
        )
    return GappedSequence(sequence) if gaps or len(sequence) < len(whole) else sequence
