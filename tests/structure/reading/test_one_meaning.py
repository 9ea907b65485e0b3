"""PDB, mmCIF and BinaryCIF of one entry give one protein, on every domain of the shipped corpus."""

from __future__ import annotations

from pathlib import Path

import gemmi
import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import Protein, read_chains
from protclip.structure.reading.source import Content

DOMPDB = Path(__file__).parents[3] / "data" / "cath" / "dompdb"
FAULTS = Path(__file__).parents[2] / "edge_cases" / "faults" / "structures"
PLAIN = (FAULTS / "plain.cif").read_text()


def facts(protein: Protein) -> tuple[object, ...]:
    arrays = (protein.coords, protein.residue_number, protein.insertion_code)
    return (protein.sequence, dict(protein.dropped), *(array.tobytes() for array in arrays))


def binary(text: str) -> bytes:
    """BinaryCIF with all tables of an mmCIF text, its numbers stored as numbers."""
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    import io

    block = pdbx.CIFFile.read(io.StringIO(text)).block
    tables = {}
    for name in block:
        columns = {}
        for key, column in block[name].items():
            values = column.as_array()
            number = key.startswith("Cartn_") or key in ("occupancy", "B_iso_or_equiv")
            columns[key] = values.astype(np.float64) if number else values
        tables[name] = pdbx.BinaryCIFCategory(columns)
    stream = io.BytesIO()
    pdbx.compress(pdbx.BinaryCIFFile({"x": pdbx.BinaryCIFBlock(tables)})).write(stream)
    return stream.getvalue()


@pytest.mark.parametrize("path", sorted(DOMPDB.iterdir()), ids=lambda path: path.name)
def test_three_formats(path: Path) -> None:
    structure = gemmi.read_pdb(str(path))
    structure.setup_entities()
    text = structure.make_mmcif_document().as_string()
    found = [facts(p) for p in read_chains(path)]
    assert [facts(p) for p in read_chains(Content("x", text.encode()))] == found
    for chain_ids in ("author", "label"):
        of_text, of_binary = (
            [facts(p) for p in read_chains(Content("x", data), chain_ids=chain_ids)]  # type: ignore[arg-type]
            for data in (text.encode(), binary(text))
        )
        assert of_text == of_binary
    assert [facts(p) for p in read_chains(Content("x", binary(text)))] == found


def with_columns(**columns: str) -> str:
    """The plain mmCIF file with further columns of one value each."""
    lines = []
    for line in PLAIN.splitlines():
        if line.startswith("ATOM"):
            line += "".join(f" {value}" for value in columns.values())
        lines.append(line)
        if line == "_atom_site.auth_asym_id":
            lines += [f"_atom_site.{name}" for name in columns]
    return "\n".join(lines) + "\n"


def test_author_names_count_and_those_of_the_archive_where_they_are_missing() -> None:
    plain = read_chains(FAULTS / "plain.cif")[0]
    for text in (with_columns(auth_comp_id="ALA"), with_columns(auth_comp_id="?")):
        expected = (
            "A" * 24 if "ALA\n" in text and "_comp_id\n" in text and " ALA\n" in text else plain.sequence
        )
        for data in (text.encode(), binary(text)):
            assert read_chains(Content("x", data))[0].sequence == expected


@pytest.mark.parametrize("column", ["Cartn_x", "Cartn_z", "label_atom_id", "label_comp_id"])
def test_a_missing_column_is_the_reason(column: str) -> None:
    document = gemmi.cif.read_string(PLAIN)
    document[0].find_loop(f"_atom_site.{column}").get_loop().remove_column(f"_atom_site.{column}")
    text = document.as_string()
    name = column.replace("label", "auth")
    for data in (text.encode(), binary(text)):
        with pytest.raises(StructureError, match=rf"atom_site\.{name}|no atoms"):
            read_chains(Content("x", data))


@pytest.mark.parametrize("column", ["id", "type_symbol", "group_PDB", "auth_asym_id", "auth_seq_id",
"label_asym_id",
                                    "label_entity_id", "label_alt_id"])  # fmt: skip
def test_other_columns_may_be_missing(column: str) -> None:
    document = gemmi.cif.read_string(PLAIN)
    document[0].find_loop(f"_atom_site.{column}").get_loop().remove_column(f"_atom_site.{column}")
    text = document.as_string()
    expected = facts(read_chains(FAULTS / "plain.cif")[0])
    for data in (
        text.encode(),
        binary(text),
        text.replace("\n", "\r").encode(),
        b"\xef\xbb\xbf" + text.encode(),
    ):
        assert [facts(p) for p in read_chains(Content("x", data))] == [expected]
