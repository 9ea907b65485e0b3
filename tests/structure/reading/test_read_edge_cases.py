"""Every file of tests/edge_cases: its defined result or error."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import read_chains, read_structure

FOLDER = Path(__file__).parents[2] / "edge_cases"

# file -> (sequence, what is counted); numbers are 1..L unless they are tested below
READ: dict[str, tuple[str, dict[str, int]]] = {
    "altloc.pdb": ("MQIFVK", {"altloc": 5}),
    "altloc_tie.pdb": ("MQIFVK", {"altloc": 5}),
    "altloc_partial.pdb": ("MQIFVK", {"altloc": 4}),
    "altloc_inconsistent.pdb": ("MQIFVK", {"altloc": 5}),
    "insertion_codes.pdb": ("MQIFVK", {}),
    "insertion_codes_stripped.pdb": ("MQIFVK", {}),
    "thrombin_order.pdb": ("MQIFVK", {}),
    "mse.pdb": ("MQIFVK", {"modified residue": 1}),
    "modres.pdb": ("MQIFVK", {"modified residue": 1}),
    "d_amino_acids.pdb": ("MQIFVK", {"modified residue": 2}),
    "chromophore.pdb": ("MQIVK", {"no backbone": 1}),
    "microheterogeneity.pdb": ("MEIFVK", {"microheterogeneity": 1}),
    "models.pdb": ("MQIFVK", {"model": 2}),
    "protein_and_dna.pdb": ("MQIFVK", {"nucleic acid": 2}),
    "long_chain_id.cif": ("MQIFVK", {}),
    "blank_chain.pdb": ("MQIFVK", {}),
    "rare_letters.pdb": ("BZUOJX", {}),
    "force_field_names.pdb": ("HHCDVK", {"cap": 2}),
    "ca_only.pdb": ("MQIFVK", {}),
    "missing_atoms.pdb": ("MQIVK", {"no backbone": 1, "no C-alpha": 1}),
    "single_residue.pdb": ("Q", {}),
    "hydrogens.pdb": ("MQIFVK", {"hydrogen": 12}),
    "waters_and_ligands.pdb": ("MQIFVK", {"water": 2, "ligand": 3}),
    "free_amino_acid.pdb": ("MQIFVK", {"ligand": 1}),
    "free_amino_acid_after_ter.pdb": ("MQIFVK", {"ligand": 1}),
    "hetatm_only.pdb": ("MQIFVK", {}),
    "ter_at_gap.pdb": ("MQFVK", {}),
    "zero_occupancy.pdb": ("MQIFVK", {}),
    "unplaced_9999.pdb": ("MQIFVK", {"unplaced atom": 1}),
    "unplaced_origin.pdb": ("MQIFVK", {"unplaced atom": 4, "no C-alpha": 1}),
    "nan_and_huge.cif": ("MQIFVK", {"unplaced atom": 2, "no C-alpha": 1}),
    "duplicate_atoms.pdb": ("MQIFVK", {"duplicate atom": 2}),
    "duplicate_residue.pdb": ("MQIFVK", {"duplicate residue": 1}),
    "negative_numbers.pdb": ("MQIFVK", {}),
    "hybrid36.pdb": ("MQIFVK", {}),
    "short_lines.pdb": ("MQIFVK", {}),
    "windows.pdb": ("MQIFVK", {}),
    "old_mac.pdb": ("MQIFVK", {}),
    "byte_order_mark.pdb": ("MQIFVK", {}),
    "non_ascii.pdb": ("MXIFVK", {"modified residue": 1}),
    "no_extension": ("MQIFVK", {}),
    "mmcif_called.pdb": ("MQIFVK", {}),
    "plain.cif": ("MQIFVK", {}),
    "plain.cif.gz": ("MQIFVK", {}),
    "plain.bcif": ("MQIFVK", {}),
    "plain.bcif.gz": ("MQIFVK", {}),
    "not_gzip.pdb.gz": ("MQIFVK", {}),
    "alphafold.pdb": ("MQIFVK", {}),
    "alphafold.cif": ("MQIFVK", {}),
    "esmfold.pdb": ("MQIFVK", {}),
    "colabfold.pdb": ("MQIFVK", {}),
    "alphafold_search_model.pdb": ("MQIFVK", {}),
}

# file -> the message behind the file name
FAIL: dict[str, str] = {
    "dna_only.pdb": ": no protein chain; got 2 nucleic acid, expected amino-acid residues",
    "one_amino_acid_on_rna.pdb": ": no protein chain; got 3 nucleic acid, expected amino-acid residues",
    "two_chains.pdb": ": several protein chains; got A (6 residues), B (4 residues), "
    "expected one chain. Name one with chain=, or read them all with read_chains",
    "author_and_label.cif": ": several protein chains; got H (6 residues), L (6 residues), "
    "expected one chain. Name one with chain=, or read them all with read_chains",
    "no_calpha.pdb": " chain A: no residue has a C-alpha; got 6 residues without, expected CA atoms",
    "side_chains_only.pdb": ": no protein chain; got 6 no backbone, expected amino-acid residues",
    "two_molecules_one_chain.pdb": " chain (blank): one chain id stands for several molecules; got 12 "
    "residue numbers used more than once, expected every residue number once in a chain. "
    "Give each molecule its own chain id",
    "unreadable_number.pdb": ":16: the residue number is not a number; got '    ' (PHE in chain A), "
    "expected an author residue number in columns 23-26 of every record",
    "utf16.pdb": ": not a structure file; got 'ÿþA",
    "empty.pdb": ": file is empty; got 0 bytes of nothing, expected PDB, mmCIF or BinaryCIF, plain or comp",
    "blank_lines.pdb": ": file is empty; got 4 bytes of nothing, expected PDB, mmCIF or BinaryCIF",
    "header_only.pdb": ": no atoms; got 0 atoms, expected a protein structure",
    "truncated.pdb": ":15: an atom record is cut short; got 43 columns, expected at least 54",
    "truncated.cif": ": cannot parse this mmCIF file; got 'data:19:",
    "truncated.cif.gz": ": the gzip file is damaged or cut off; got the end is missing, "
    "expected a complete gzip file. Fetch or copy it again",
    "truncated.bcif": ": cannot parse this BinaryCIF file; got ValueError: ",
    "web_page.pdb": ": this is a web page, not a structure; "
    "got '<!DOCTYPE html>\\n<html><head><title>404 N', "
    "expected PDB, mmCIF or BinaryCIF, plain or compressed (gzip, bzip2, xz, zstd). "
    "The download was answered by an error page; fetch the file again",
    "text.pdb": ": not a structure file; got 'Dear colleague,",
}


def test_every_file_is_described_and_tested() -> None:
    files = {path.name for path in FOLDER.iterdir() if path.is_file()} - {"README.md"}
    text = (FOLDER / "README.md").read_text()
    described = {
        name for row in re.findall(r"(?m)^\| (`[^|]*)\|", text) for name in re.findall(r"`([^`]+)`", row)
    }
    assert described == files
    assert set(READ) | set(FAIL) == files


def plain_coords() -> np.ndarray:
    return read_structure(FOLDER / "plain.cif").coords


@pytest.mark.parametrize("name", READ)
def test_read(name: str) -> None:
    sequence, dropped = READ[name]
    if ".bcif" in name:
        pytest.importorskip("biotite")
    protein = read_structure(FOLDER / name)
    assert protein.sequence == sequence
    assert dict(protein.dropped) == dropped
    assert protein.id == name.split(".")[0]
    assert protein.coords.dtype == np.float32
    if sequence == "MQIFVK" and not {"altloc", "unplaced atom"} & set(dropped) and name != "ca_only.pdb":
        np.testing.assert_array_equal(protein.coords, plain_coords())


@pytest.mark.parametrize("name", FAIL)
def test_fail(name: str) -> None:
    if ".bcif" in name:
        pytest.importorskip("biotite")
    with pytest.raises(StructureError) as caught:
        read_structure(FOLDER / name)
    assert str(caught.value).startswith(f"{FOLDER / name}{FAIL[name]}")


def shift(name: str, **options: object) -> np.ndarray:
    """How far N, CA, C, O of residue 3 lie along x from the plain structure (conformer B is 0.8 A away)."""
    protein = read_structure(FOLDER / name, **options)  # type: ignore[arg-type]
    return (protein.coords - plain_coords())[2, :, 0].round(3)


def test_alternate_locations() -> None:
    np.testing.assert_allclose(shift("altloc.pdb"), 0.8, atol=1e-3)
    np.testing.assert_allclose(shift("altloc.pdb", altloc="first"), 0, atol=1e-3)
    np.testing.assert_allclose(shift("altloc_tie.pdb"), 0, atol=1e-3)
    np.testing.assert_allclose(shift("altloc_partial.pdb"), [0.8, 0, 0.8, 0.8], atol=1e-3)
    np.testing.assert_allclose(shift("altloc_inconsistent.pdb"), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "numbers", "codes"),
    [
        ("insertion_codes.pdb", [52, 52, 52, 53, 54, 55], [b"", b"A", b"B", b"", b"", b""]),
        ("insertion_codes_stripped.pdb", [52, 52, 52, 53, 54, 55], [b""] * 6),
        ("thrombin_order.pdb", [1, 1, 1, 1, 1, 2], [b"D", b"C", b"B", b"A", b"", b""]),
        ("negative_numbers.pdb", [-2, -1, 0, 1, 2, 3], [b""] * 6),
        ("hybrid36.pdb", [9998, 9999, 10000, 10001, 10002, 10003], [b""] * 6),
        ("ter_at_gap.pdb", [1, 2, 14, 15, 16], [b""] * 5),
        ("missing_atoms.pdb", [1, 2, 3, 5, 6], [b""] * 5),
    ],
)
def test_numbers(name: str, numbers: list[int], codes: list[bytes]) -> None:
    protein = read_structure(FOLDER / name)
    assert protein.residue_number.tolist() == numbers
    assert protein.residue_number.dtype == np.int32
    assert protein.insertion_code.tolist() == codes
    assert (np.diff(protein.position) > 0).all()


def test_missing_atoms_are_nan() -> None:
    present = np.isfinite(read_structure(FOLDER / "missing_atoms.pdb").coords).all(-1)
    assert present.tolist() == [
        [True] * 4, [False, True, True, False], [True, False, True, True], [True] * 4, [True] * 4,
    ]  # fmt: skip
    only = read_structure(FOLDER / "ca_only.pdb")
    np.testing.assert_array_equal(only.ca, plain_coords()[:, 1])
    assert np.isnan(only.coords[:, [0, 2, 3]]).all()
    assert np.isnan(read_structure(FOLDER / "unplaced_9999.pdb").coords[1, 3]).all()
    assert np.isnan(read_structure(FOLDER / "unplaced_origin.pdb").coords[4]).all()
    assert np.isnan(read_structure(FOLDER / "nan_and_huge.cif").coords[2, 1]).all()


def test_chains() -> None:
    two = read_chains(FOLDER / "two_chains.pdb")
    assert [(p.id, p.sequence) for p in two] == [("two_chains_A", "MQIFVK"), ("two_chains_B", "MQIF")]
    second = read_structure(FOLDER / "two_chains.pdb", chain="B")
    assert (second.id, second.sequence, dict(second.dropped)) == ("two_chains_B", "MQIF", {"other chain": 1})
    path = FOLDER / "author_and_label.cif"
    assert [p.id[-2:] for p in read_chains(path)] == ["_H", "_L"]
    assert [p.id[-2:] for p in read_chains(path, chain_ids="label")] == ["_A", "_B"]
    with pytest.raises(StructureError, match="no such protein chain; got 'A', expected one of 'H', 'L'"):
        read_structure(path, chain="A")
    assert read_structure(FOLDER / "long_chain_id.cif", chain="HEAVYCHAIN01").sequence == "MQIFVK"
    assert read_structure(FOLDER / "blank_chain.pdb", chain="").sequence == "MQIFVK"
    with pytest.raises(StructureError, match="no such protein chain; got 'B', expected one of 'A'"):
        read_structure(FOLDER / "protein_and_dna.pdb", chain="B")


PLDDT = [35.5, 52.25, 88.0, 96.5, 97.0, 60.0]


def test_plddt() -> None:
    for name in ("alphafold.pdb", "alphafold.cif"):
        protein = read_structure(FOLDER / name)
        assert protein.plddt is not None
        assert protein.plddt.tolist() == PLDDT
        sure = read_structure(FOLDER / name, min_plddt=70)
        assert (sure.sequence, sure.dropped["low pLDDT"]) == ("IFV", 3)
        assert sure.residue_number.tolist() == [3, 4, 5]
    fractions = read_structure(FOLDER / "esmfold.pdb").plddt
    np.testing.assert_allclose(fractions, np.trunc(PLDDT), atol=1)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match=r"got highest pLDDT 97\.0, expected at least 99"):
        read_structure(FOLDER / "alphafold.pdb", min_plddt=99)


def test_plddt_is_never_guessed_unasked() -> None:
    assert read_structure(FOLDER / "colabfold.pdb").plddt is None
    assert read_structure(FOLDER / "colabfold.pdb", min_plddt=70).sequence == "IFV"
    assert read_structure(FOLDER / "alphafold_search_model.pdb").plddt is None
    for name in ("alphafold_search_model.pdb", "plain.cif"):
        with pytest.raises(StructureError, match="no pLDDT here"):
            read_structure(FOLDER / name, min_plddt=70)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match=r"nowhere\.pdb: cannot open; got no such file"):
        read_structure(tmp_path / "nowhere.pdb")
    with pytest.raises(StructureError, match="cannot open; got a folder"):
        read_structure(tmp_path)
    with pytest.raises(StructureError, match="cannot open"):
        read_structure("nul\0byte.pdb")
    with pytest.raises(StructureError, match="cannot read a structure from this object; got int"):
        read_structure(3)  # type: ignore[arg-type]


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.pdb"
    path.write_text("")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, who may read everything.
    monkeypatch.setattr("protclip.structure.reading.source.os.open", refuse)
    with pytest.raises(StructureError, match="no permission to read it"):
        read_structure(path)


def test_options() -> None:
    path = FOLDER / "plain.cif"
    with pytest.raises(
        StructureError, match="altloc: unknown choice; got 'best', expected 'occupancy' or 'first'"
    ):
        read_structure(path, altloc="best")  # type: ignore[arg-type]
    with pytest.raises(StructureError, match="chain_ids: unknown choice"):
        read_structure(path, chain_ids="both")  # type: ignore[arg-type]


def test_bcif_without_biotite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "biotite.structure.io.pdbx", None)
    with pytest.raises(StructureError, match=r"BinaryCIF needs biotite; .* pip install 'protclip\[bcif\]'"):
        read_structure(FOLDER / "plain.bcif")
