"""From the bytes of a structure file to its atoms."""

from __future__ import annotations

import gzip
import re
import zlib
from typing import Literal

import gemmi

from protclip.errors import StructureError
from protclip.structure.reading.atoms import AtomTable, table_from_gemmi
from protclip.structure.reading.confidence import declares_prediction, local_plddt

Format = Literal["pdb", "mmcif", "bcif"]

EXPECTED = "PDB, mmCIF or BinaryCIF, plain or gzip-compressed"

_PDB_RECORD = re.compile(
    rb"^(ATOM  |HETATM|HEADER|REMARK|TITLE |COMPND|CRYST1|MODEL |DBREF |SEQRES|EXPDTA|ORIGX1|SCALE1|OBSLTE"
    rb"|SOURCE|AUTHOR|REVDAT|NUMMDL|SPLIT |KEYWDS|USER  |PARENT|MODRES|HELIX |SHEET |SSBOND|END)",
    re.MULTILINE,
)


def decompress(data: bytes, where: str) -> bytes:
    """The content of a gzip file; anything else comes back as it is.

    Raises
    ------
    StructureError
        If the gzip stream is cut short or damaged.
    """
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise StructureError(
            "gzip stream is damaged or cut short",
            where=where,
            got=str(error),
            expected="a complete gzip file",
            hint="Fetch or copy the file again",
        ) from None


def sniff(data: bytes, where: str) -> Format:
    """Format of uncompressed content, from the content alone.

    Raises
    ------
    StructureError
        If it is none of the formats.
    """
    if data[:6] == b"ATOM  " or data[:6] == b"REMARK" or data[:6] == b"HEADER":
        return "pdb"
    head = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head:
        raise StructureError(
            "file is empty", where=where, got=f"{len(data)} bytes of nothing", expected=EXPECTED
        )
    if re.match(rb"(?i)(#[^\n]*\s+)*data_", head):
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
    data = decompress(data, where)
    kind = sniff(data, where)
    if kind == "bcif":
        from protclip.structure.reading.bcif import table_from_bcif  # lazy: needs biotite

        return table_from_bcif(data, where, chain_ids)
    try:
        return _read_pdb(data, chain_ids) if kind == "pdb" else _read_mmcif(data, chain_ids)
    except (RuntimeError, ValueError, IndexError, OverflowError, MemoryError) as error:
        # gemmi reports every syntax error through one of the built-in exceptions.
        reason = " ".join(str(error).split())[:200]
        raise StructureError(
            f"cannot parse this {'PDB' if kind == 'pdb' else 'mmCIF'} file",
            where=where,
            got=repr(reason),
            expected="a complete, well-formed file",
        ) from None


def _read_pdb(data: bytes, chain_ids: str) -> AtomTable:
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if data[:3] == b"\xef\xbb\xbf":
        data = data[3:]
    first = max(data.find(b"ATOM  "), 0)
    # Only the first model is wanted, and an NMR entry has twenty: leave the rest unparsed.
    models = data.count(b"\nENDMDL") if data.find(b"MODEL ", 0, first) >= 0 else 0
    if models > 1:
        data = data[: data.index(b"\nENDMDL") + 8]
    structure = gemmi.read_pdb_string(data)
    table = table_from_gemmi(structure, chain_ids)
    table.models = max(models, table.models)
    table.predicted = declares_prediction(data[:first])
    if structure.mod_residues:
        table.parents = {m.res_id.name: m.parent_comp_id for m in structure.mod_residues}
    return table


def _read_mmcif(data: bytes, chain_ids: str) -> AtomTable:
    document = gemmi.cif.Document()
    structure = gemmi.read_structure_string(data, format=gemmi.CoorFormat.Mmcif, save_doc=document)
    parents = {m.res_id.name: m.parent_comp_id for m in structure.mod_residues}
    # Read before the flat table: long chain ids are renamed there.
    confidence = local_plddt(document, structure) if b"_ma_qa_metric" in data else None
    table = table_from_gemmi(structure, chain_ids)
    table.parents = parents
    if confidence is not None:
        table.b_factor, table.predicted = confidence, True
    else:
        table.predicted = declares_prediction(document)
    return table
