"""The readers against Bio.PDB and against each other, on every domain of the shipped corpus."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
from Bio.Data.PDBData import protein_letters_3to1_extended
from Bio.PDB import PDBParser

from protclip.structure import Protein, read_chains, read_structure

DOMPDB = Path(__file__).parents[3] / "data" / "cath" / "dompdb"
DOMAINS = sorted(path.name for path in DOMPDB.iterdir())


def oracle(path: Path) -> list[tuple[int, str, str, dict[str, np.ndarray]]]:
    """(number, insertion code, letter, backbone atoms) of each residue, the slow way, from Bio.PDB."""
    (chain,) = next(iter(PDBParser(QUIET=True).get_structure("x", str(path))))
    result = []
    for position in chain:
        kinds = position.disordered_get_list() if position.is_disordered() == 2 else [position]
        options = []
        for residue in kinds:
            atoms = [a for s in residue for a in (s.disordered_get_list() if s.is_disordered() == 2 else [s])]
            options.append((np.mean([a.get_occupancy() for a in atoms]), residue, atoms))
        # Microheterogeneity: the highest mean occupancy; serial numbers give the order of the file.
        options.sort(key=lambda o: min(a.serial_number for a in o[2]))
        _, residue, atoms = max(options, key=lambda o: round(o[0], 4))
        atoms.sort(key=lambda a: a.serial_number)
        total: Counter[str] = Counter()
        for atom in atoms:
            if atom.altloc.strip():
                total[atom.altloc] += round(100 * atom.get_occupancy())
        best = max(total, key=lambda label: total[label]) if total else " "  # ties: first in the file
        backbone: dict[str, np.ndarray] = {}
        for label in (best, " "):
            for atom in atoms:
                if atom.altloc == label and atom.name in ("N", "CA", "C", "O"):
                    backbone.setdefault(atom.name, atom.coord)
        for atom in sorted(atoms, key=lambda a: -a.get_occupancy()):
            if atom.name in ("N", "CA", "C", "O"):
                backbone.setdefault(atom.name, atom.coord)
        if backbone:
            letter = protein_letters_3to1_extended.get(residue.resname.strip(), "X")
            result.append((residue.id[1], residue.id[2].strip(), letter, backbone))
    return result


def equal(a: Protein, b: Protein) -> None:
    assert a.sequence == b.sequence
    np.testing.assert_array_equal(a.residue_number, b.residue_number)
    np.testing.assert_array_equal(a.insertion_code, b.insertion_code)
    np.testing.assert_array_equal(a.coords, b.coords)


@pytest.mark.parametrize("name", DOMAINS)
def test_pdb_equals_biopython(name: str) -> None:
    protein = read_structure(DOMPDB / name)
    expected = oracle(DOMPDB / name)
    assert protein.id == name
    assert protein.residue_number.tolist() == [number for number, _, _, _ in expected]
    assert [code.decode() for code in protein.insertion_code.tolist()] == [code for _, code, _, _ in expected]
    assert protein.sequence == "".join(letter for _, _, letter, _ in expected)
    for i, (*_, backbone) in enumerate(expected):
        for k, atom in enumerate(("N", "CA", "C", "O")):
            np.testing.assert_allclose(
                protein.coords[i, k], backbone.get(atom, np.full(3, np.nan)), atol=1e-5
            )


def test_corpus_holds_the_hard_cases() -> None:
    """The comparison above means something only while the corpus has such residues."""
    total: Counter[str] = Counter()
    for name in DOMAINS:
        total.update(read_structure(DOMPDB / name).dropped)
    assert {"altloc", "modified residue", "microheterogeneity", "hydrogen", "no C-alpha"} <= set(total)


@pytest.mark.parametrize("name", DOMAINS[::8])
def test_biopython_objects_and_mmcif_equal_pdb(name: str, tmp_path: Path) -> None:
    protein = read_structure(DOMPDB / name)
    structure = PDBParser(QUIET=True).get_structure(name, str(DOMPDB / name))
    chain = next(iter(structure[0]))
    for source in (structure, structure[0], chain):
        other = read_structure(source)
        equal(protein, other)
        assert other.dropped == protein.dropped
        assert other.id == name
    model = gemmi.read_pdb(str(DOMPDB / name))
    model.setup_entities()
    text = model.make_mmcif_document().as_string()
    (tmp_path / f"{name}.cif.gz").write_bytes(gzip.compress(text.encode()))
    other = read_structure(tmp_path / f"{name}.cif.gz")
    equal(protein, other)
    assert other.id == name
    assert other.dropped == protein.dropped


@pytest.mark.parametrize("name", ["1ejgA00", "1ubiA00", "1azzA02"])
def test_bcif_equals_pdb(name: str, tmp_path: Path) -> None:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    protein = read_structure(DOMPDB / name)
    model = gemmi.read_pdb(str(DOMPDB / name))
    model.setup_entities()
    (tmp_path / "x.cif").write_text(model.make_mmcif_document().as_string())
    text = pdbx.CIFFile.read(str(tmp_path / "x.cif"))
    site = pdbx.BinaryCIFCategory({key: column.as_array() for key, column in text.block["atom_site"].items()})
    binary = pdbx.BinaryCIFFile({"x": pdbx.BinaryCIFBlock({"atom_site": site})})
    for variant in (binary, pdbx.compress(binary)):
        variant.write(str(tmp_path / f"{name}.bcif"))
        other = read_structure(tmp_path / f"{name}.bcif")
        equal(protein, other)
        assert other.dropped == protein.dropped


def test_first_label_instead_of_the_highest_occupancy() -> None:
    by_occupancy, first = (read_structure(DOMPDB / "1ejgA00", altloc=a) for a in ("occupancy", "first"))
    assert by_occupancy.sequence == first.sequence
    assert first.has_ca.all()


def test_ids_of_several_chains(tmp_path: Path) -> None:
    model = gemmi.read_pdb(str(DOMPDB / "1ubiA00"))
    copy = model[0][0].clone()
    copy.name = "B"
    model[0].add_chain(copy)
    path = tmp_path / "pair.pdb"
    path.write_text(model.make_pdb_string())
    assert [p.id for p in read_chains(path)] == ["pair_A", "pair_B"]
    assert read_structure(path, chain="B").id == "pair_B"
    assert read_structure(path, chain="B", id="mine").id == "mine"
    assert read_structure(path, chain="B").dropped["other chain"] == 1
