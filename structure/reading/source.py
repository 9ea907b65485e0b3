"""Structure files as bytes, and what to call them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from protclip.compression import without_suffix
from protclip.errors import StructureError

EXPECTED = "PDB, mmCIF or BinaryCIF, plain or compressed (gzip, bzip2, xz, zstd)"

SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif", ".bcif", ".pdbx")
LARGEST = 1 << 30
"""Bytes of a file that are read at most: no structure is that large."""
_ASSEMBLY = re.compile(r"\.pdb[0-9]{1,3}", re.IGNORECASE)
"""Biological assemblies of the PDB: 1abc.pdb1, 1abc.pdb2."""


class Content(NamedTuple):
    """What a structure file holds, with the name it goes by: a member of an archive, say."""

    name: str
    data: bytes


if TYPE_CHECKING:
    from Bio.PDB.Chain import Chain
    from Bio.PDB.Model import Model
    from Bio.PDB.Structure import Structure

    Source: TypeAlias = str | os.PathLike[str] | Content | Structure | Model | Chain


def content_of(source: object) -> Content:
    """Name and bytes of a file, as they are.

    Raises
    ------
    StructureError
        If there is no such file, or it cannot be read.
    """
    if isinstance(source, Content):
        return source
    if not isinstance(source, str | os.PathLike):
        raise StructureError(
            "cannot read a structure from this object",
            got=type(source).__name__,
            expected="a path, or a Bio.PDB, gemmi or biotite structure, model or chain",
        )
    path = Path(source)
    return Content(str(path), _bytes(path, str(path)))


def suffix_of(name: str) -> str:
    """The end of a file name that says structure, without that of a compressed file; "" if there is none.

    Examples
    --------
    >>> suffix_of("1abc.PDB"), suffix_of("1abc.pdb1.gz"), suffix_of("notes.txt")
    ('.PDB', '.pdb1', '')
    """
    _, dot, last = without_suffix(name).rpartition(".")
    suffix = dot + last
    return suffix if dot and (suffix.lower() in SUFFIXES or _ASSEMBLY.fullmatch(suffix)) else ""


def stem_of(name: str) -> str:
    """A file name without the endings that say structure and compressed.

    Examples
    --------
    >>> stem_of("1abc.pdb"), stem_of("AF-P1.v4.cif.gz"), stem_of("1oaiA00"), stem_of("1abc.pdb2")
    ('1abc', 'AF-P1.v4', '1oaiA00', '1abc')
    """
    if "." not in name:
        return name
    plain, suffix = without_suffix(name), suffix_of(name)
    return plain[: -len(suffix)] if suffix and len(plain) > len(suffix) else plain


def _bytes(path: Path, where: str) -> bytes:
    try:
        # In one piece, without the objects that a stream takes.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        try:
            return _whole(handle, path)
        finally:
            os.close(handle)
    except (OSError, ValueError) as error:
        got, hint = str(error), None
        if isinstance(error, FileNotFoundError):
            got = "no such file"
        elif isinstance(error, IsADirectoryError):
            got, hint = "a folder", "Give one of the files in it"
        elif isinstance(error, PermissionError):
            got, hint = "no permission to read it", "Check the owner and mode of the file"
        raise StructureError(
            "cannot open", where=where, got=got, expected=f"a file: {EXPECTED}", hint=hint
        ) from None


def _whole(handle: int, path: Path) -> bytes:
    parts = [os.read(handle, os.fstat(handle).st_size + 1)]
    size = len(parts[0])
    while more := os.read(handle, 1 << 20):  # a growing file, or a pipe
        parts.append(more)
        size += len(more)
        if size > LARGEST:
            raise StructureError(
                "larger than any structure", where=str(path), got=f"over {LARGEST} bytes", expected=EXPECTED
            )
    return b"".join(parts)
