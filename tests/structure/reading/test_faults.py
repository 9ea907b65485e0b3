"""Every row of tests/edge_cases/faults/structures/expected.tsv."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import Protein, read_chains

FOLDER = Path(__file__).parents[2] / "edge_cases" / "faults" / "structures"
with (FOLDER / "expected.tsv").open(encoding="utf-8", newline="") as stream:
    ROWS = {row["file"]: row["expected"] for row in csv.DictReader(stream, delimiter="\t")}


def described(readme: Path) -> set[str]:
    """Files that the tables of a README name."""
    rows = re.findall(r"(?m)^\| (`[^|]*)\|", readme.read_text(encoding="utf-8"))
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def chains(name: str) -> tuple[str, list[Protein]]:
    """``CHAIN:residues`` of each chain, as the table has it, and the proteins."""
    if ROWS[name] == "error":
        place = re.escape(str(FOLDER / name)) + r"(:\d+:| atom_site row \d+|: not a structure file)"
        with pytest.raises(StructureError, match=place):
            read_chains(FOLDER / name)
        return "error", []
    try:
        proteins = read_chains(FOLDER / name)
    except StructureError:
        return "error", []
    # One chain has no name in its id; all files call it A.
    names = [p.id.rpartition("_")[2] if len(proteins) > 1 else "A" for p in proteins]
    return ",".join(f"{name}:{len(p)}" for name, p in zip(names, proteins, strict=True)), proteins


def test_every_file_is_in_the_table_and_described() -> None:
    files = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()} - {"expected.tsv"}
    assert set(ROWS) == files
    tops = {name.partition("/")[0] + "/" * ("/" in name) for name in files}
    sequences = {path.name for path in (FOLDER.parent / "sequences").iterdir()} - {"expected.tsv"}
    assert described(FOLDER.parent / "README.md") == tops | sequences


@pytest.mark.parametrize("name", [name for name, expected in ROWS.items() if expected])
def test_row(name: str) -> None:
    found, proteins = chains(name)
    allowed = {part.removesuffix("+counted"): "+counted" in part for part in ROWS[name].split("|")}
    assert found in allowed
    if found != "error" and allowed[found]:
        assert sum(proteins[0].dropped.values()) > 0
    plain = read_chains(FOLDER / "plain.pdb")[0]
    if len(proteins) == 1 and len(proteins[0]) == 24 and name != "unknown_x.cif":
        protein = proteins[0]
        np.testing.assert_array_equal(protein.coords, plain.coords)
        assert "X" not in protein.sequence
        assert (np.diff(protein.residue_number) == 1).all()
        if "ter_" not in name:
            assert protein.sequence == plain.sequence


@pytest.mark.parametrize(
    ("name", "dropped"),
    [
        ("plain.pdb", {}),
        ("ter_midchain_mse.pdb", {"modified residue": 1}),
        ("ter_before_sep.pdb", {"modified residue": 1}),
        ("free_glycine.pdb", {"ligand": 1}),
        ("calcium.pdb", {"ligand": 1}),
        ("calcium_plus_name.pdb", {"ligand": 1}),
        ("calcium_unk.pdb", {"ligand": 1}),
        ("after_end.pdb", {"behind END": 119}),
        ("lowercase.pdb", {}),
        ("empty_first_model.pdb", {}),
        ("unknown_x.cif", {"unplaced atom": 1, "no C-alpha": 1}),
    ],
)
def test_what_is_counted(name: str, dropped: dict[str, int]) -> None:
    assert dict(read_chains(FOLDER / name)[0].dropped) == dropped


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("stars_one.pdb", r":7: x is not a number; got '\*{8}', expected .* in columns 31-38"),
        ("blank_coordinate.pdb", r":7: y is not a number; got ' {8}', expected .* in columns 39-46"),
        ("overflow.pdb", r":7: x is not a number; got '12345\.67'"),
        ("tab_name.pdb", r":12: a control character in a name or number; got byte 0x09 in column 13"),
        ("huge_seq_id.cif", r" atom_site row 1 \(id 1\): auth_seq_id is not a number; got '3000000001'"),
        ("stars.cif", r" atom_site row 7 \(id 7\): Cartn_x is not a number; got '\*{8}'"),
        ("comments_no_data.txt", r": not a structure file; got 'nothing"),
    ],
)
def test_refusals_name_line_and_field(name: str, message: str) -> None:
    with pytest.raises(StructureError, match=re.escape(str(FOLDER / name)) + message):
        read_chains(FOLDER / name)


def test_numbers_behind_9999() -> None:
    five = read_chains(FOLDER / "resnum_5digits.pdb")[0]
    hexadecimal = read_chains(FOLDER / "resnum_hex.pdb")[0]
    for protein in (five, hexadecimal):
        assert protein.residue_number.tolist() == list(range(9995, 9995 + 24))
        assert not protein.insertion_code.any()
