"""From the bytes of a structure file to its atoms."""

from __future__ import annotations

import re
from typing import Literal

from protclip.compression import decompress
from protclip.errors import StructureError
from protclip.structure.reading.atoms import AtomTable
from protclip.structure.reading.mmcif import table_from_mmcif
from protclip.structure.reading.pdb import table_from_pdb
from protclip.structure.reading.pdb_lines import plain_lines
from protclip.structure.reading.source import EXPECTED

Format = Literal["pdb", "mmcif", "bcif"]

_PDB_RECORD = re.compile(
    rb"^(ATOM  |HETATM|HEADER|REMARK|TITLE |COMPND|CRYST1|MODEL |DBREF |SEQRES|EXPDTA|ORIGX1|SCALE1|OBSLTE"
    rb"|SOURCE|AUTHOR|REVDAT|NUMMDL|SPLIT |KEYWDS|USER  |PARENT|MODRES|HELIX |SHEET |SSBOND|END)",
    re.MULTILINE,
)
_FIRST = re.compile(rb"^[ \t\f\v]*[^#\s]", re.MULTILINE)
"""The first character of a line that is neither blank nor a comment of a CIF file, in one pass."""


def sniff(data: bytes, where: str) -> Format:
    """Format of uncompressed content, from the content alone.

    Raises
    ------
    StructureError
        If it is none of the formats.
    """
    if data[:6] == b"ATOM  " or data[:6] == b"REMARK" or data[:6] == b"HEADER":
        return "pdb"
    data = plain_lines(data)
    first = _FIRST.search(data)
    head = data[first.end() - 1 :][:4096] if first else data.strip()[:4096]
    if not head:
        raise StructureError(
            "file is empty", where=where, got=f"{len(data)} bytes of nothing", expected=EXPECTED
        )
    if head[:5].lower() == b"data_":
        return "mmcif"
    # MessagePack maps; every BinaryCIF file names its encoder and blocks at the front.
    if data[0] & 0xF0 == 0x80 or data[0] in (0xDE, 0xDF):
        if b"dataBlocks" in data[:4096] or b"encoder" in data[:4096]:
            return "bcif"
    elif re.match(rb"(?i)<(!doctype|html|\?xml)", head):
        raise StructureError(
            "this is a web page, not a structure",
            where=where,
            got=repr(head[:40].decode("latin-1")),
            expected=EXPECTED,
            hint="The download was answered by an error page; fetch the file again",
        )
    elif _PDB_RECORD.search(data[:65536]):
        return "pdb"
    raise StructureError(
        "not a structure file", where=where, got=repr(head[:40].decode("latin-1")), expected=EXPECTED
    )


def atoms_from_bytes(data: bytes, where: str, chain_ids: str = "author") -> AtomTable:
    """Atoms of the first model in the content of a structure file.

    Raises
    ------
    StructureError
        If the content is not a structure, is damaged, or cannot be parsed.
    """
    data = decompress(data, where, StructureError)
    kind = sniff(data, where)
    if kind == "bcif":
        from protclip.structure.reading.bcif import table_from_bcif  # lazy: needs biotite

        return table_from_bcif(data, where, chain_ids)
    try:
        return (
            table_from_pdb(data, where)
            if kind == "pdb"
            else table_from_mmcif(plain_lines(data), where, chain_ids)
        )
    except (RuntimeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        # gemmi reports every syntax error through one of the built-in exceptions.
        reason = " ".join(str(error).split())[:200]
        raise StructureError(
            f"cannot parse this {'PDB' if kind == 'pdb' else 'mmCIF'} file",
            where=where,
            got=repr(reason),
            expected="a complete, well-formed file",
        ) from None
