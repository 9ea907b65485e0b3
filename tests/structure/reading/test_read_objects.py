"""The same entry from its file and as an object of each package is the same protein."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest
from Bio.PDB import MMCIFParser, PDBParser
from biotite.structure import AtomArray, stack
from biotite.structure.io import load_structure

from protclip.errors import StructureError
from protclip.structure import Protein, read_chains, read_structure

EDGE = Path(__file__).resolve().parents[2] / "edge_cases"
FILES = [
    "plain.cif", "mse.pdb", "negative_numbers.pdb", "insertion_codes.pdb", "waters_and_ligands.pdb",
    "two_chains.pdb", "long_chain_id.cif", "models.pdb", "hydrogens.pdb", "missing_atoms.pdb",
    "protein_and_dna.pdb", "alphafold.pdb", "altloc.pdb", "altloc_tie.pdb", "rare_letters.pdb",
]  # fmt: skip


def with_gemmi(path: Path) -> gemmi.Structure:
    return gemmi.read_structure(str(path))


def with_biotite(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load_structure(path, extra_fields=["b_factor", "occupancy"], altloc="all")


def with_biopython(path: Path) -> Any:
    parser = MMCIFParser(QUIET=True) if path.suffix == ".cif" else PDBParser(QUIET=True)
    return parser.get_structure(path.stem, str(path))


READERS = {"gemmi": with_gemmi, "biotite": with_biotite, "Bio.PDB": with_biopython}


def same(got: Protein, expected: Protein) -> None:
    assert got.sequence == expected.sequence
    np.testing.assert_array_equal(got.coords, expected.coords)
    np.testing.assert_array_equal(got.residue_number, expected.residue_number)
    np.testing.assert_array_equal(got.insertion_code, expected.insertion_code)


@pytest.mark.parametrize("package", READERS)
@pytest.mark.parametrize("name", FILES)
def test_an_object_is_read_as_its_file(package: str, name: str) -> None:
    expected = read_chains(EDGE / name, id="x")
    got = read_chains(READERS[package](EDGE / name), id="x")
    assert [p.id for p in got] == [p.id for p in expected]
    for one, other in zip(got, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("package", READERS)
def test_whole_domains_of_the_corpus(package: str, cath_dir: Path, tmp_path: Path) -> None:
    for name in ("1ubiA00", "1lcdA00", "3mhtA01", "1a28A00"):
        path = tmp_path / f"{name}.pdb"
        path.write_bytes((cath_dir / "dompdb" / name).read_bytes())
        same(read_structure(READERS[package](path)), read_structure(path))


def test_models_and_chains_of_gemmi(cath_dir: Path) -> None:
    structure = with_gemmi(EDGE / "two_chains.pdb")
    expected = read_chains(EDGE / "two_chains.pdb")
    before = structure.make_pdb_string()
    for got in (read_chains(structure[0]), [read_structure(chain) for chain in structure[0]]):
        for one, other in zip(got, expected, strict=True):
            same(one, other)
    assert [read_structure(chain).id for chain in structure[0]] == [chain.name for chain in structure[0]]
    read_chains(with_gemmi(EDGE / "models.pdb"))
    assert structure.make_pdb_string() == before


def test_a_gemmi_structure_of_several_models_stays_whole() -> None:
    structure = with_gemmi(EDGE / "models.pdb")
    models = len(structure)
    assert models > 1
    assert read_structure(structure).dropped["model"] == models - 1
    assert len(structure) == models


def test_a_stack_is_its_first_model_and_says_how_many_it_left() -> None:
    array = with_biotite(EDGE / "plain.cif")
    moved = array.copy()
    moved.coord += 1
    found = read_structure(stack([array, moved, moved]))
    same(found, read_structure(EDGE / "plain.cif"))
    assert found.dropped["model"] == 2


@pytest.mark.parametrize("package", ["gemmi", "Bio.PDB"])
def test_confidence_of_predictions(package: str) -> None:
    """Bio.PDB keeps no header with its atoms that says so; the pLDDT is there where it is asked for."""
    path = EDGE / "alphafold.pdb"
    expected = read_structure(path, min_plddt=1)
    got = read_structure(READERS[package](path), min_plddt=1)
    np.testing.assert_array_equal(got.plddt, expected.plddt)
    if package == "gemmi":
        np.testing.assert_array_equal(read_structure(with_gemmi(path)).plddt, read_structure(path).plddt)


@pytest.mark.parametrize("empty", [gemmi.Structure(), gemmi.Model(1), gemmi.Chain("A"), AtomArray(0)])
def test_nothing_in_it(empty: Any) -> None:
    with pytest.raises(StructureError, match="no atoms"):
        read_chains(empty)
