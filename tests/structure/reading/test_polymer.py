"""Which residues in HETATM records are of a chain; what is a C-alpha."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protclip.structure import Protein, read_chains
from protclip.structure.reading.source import Content

FAULTS = Path(__file__).parents[2] / "edge_cases" / "faults" / "structures"
LINES = (FAULTS / "plain.pdb").read_text().splitlines()[:-1]
PLAIN = read_chains(FAULTS / "plain.pdb")[0]


def residue(line: str) -> int:
    return int(line[22:26])


def read(lines: list[str]) -> Protein:
    (protein,) = read_chains(Content("x.pdb", "\n".join([*lines, "END", ""]).encode()))
    return protein


def het(line: str, name: str = "MSE", number: int | None = None, shift: float = 0.0) -> str:
    """A record as HETATM of another type, number and place."""
    x = float(line[30:38]) + shift
    where = line[22:26] if number is None else f"{number:4d}"
    return f"HETATM{line[6:17]}{name}{line[20:22]}{where}{line[26:30]}{x:8.3f}{line[38:]}"


@pytest.mark.parametrize("places", [(12,), (1, 12), (23,), (5, 6, 7), range(1, 25)])
@pytest.mark.parametrize("modified", [(3,), (12,), (13,), (24,), (12, 13), (1, 24)])
def test_ter_alone_decides_nothing(places, modified) -> None:
    """Wherever TER stands, a bonded modified residue is of the chain."""
    lines = []
    for i, line in enumerate(LINES):
        lines.append(het(line) if residue(line) in modified else line)
        if residue(line) in places and (i + 1 == len(LINES) or residue(LINES[i + 1]) != residue(line)):
            lines.append("TER")
    found = read(lines)
    np.testing.assert_array_equal(found.coords, PLAIN.coords)
    assert found.dropped == {"modified residue": len(modified)}


@pytest.mark.parametrize("where", ["behind", "behind, with a TER of its own", "no TER"])
def test_free_amino_acids_and_dipeptides_are_ligands(where) -> None:
    single = [het(line, "GLY", 900, 40.0) for line in LINES if residue(line) == 10]
    double = [het(line, "ALA", 890 + residue(line), 40.0) for line in LINES if residue(line) in (10, 11)]
    for ligand, count in ((single, 1), (double, 2)):
        front = [] if where == "no TER" else ["TER"]
        back = ["TER"] if "own" in where else []
        found = read([*LINES, *front, *ligand, *back])
        assert found.sequence == PLAIN.sequence
        assert found.dropped == {"ligand": count}


def test_a_residue_between_two_gaps_continues_the_chain() -> None:
    """Not bonded, but among the residues of the chain, and the missing ones can reach it."""
    lines = [het(x) if residue(x) == 12 else x for x in LINES if residue(x) not in (10, 11, 13, 14)]
    found = read(lines)
    assert found.residue_number.tolist() == [*range(1, 10), 12, *range(15, 25)]
    # Far away it cannot be.
    lines = [
        het(x, shift=900.0) if residue(x) == 12 else x for x in LINES if residue(x) not in (10, 11, 13, 14)
    ]
    assert read(lines).dropped == {"ligand": 1}


def test_a_peptide_all_in_hetatm_beside_a_protein() -> None:
    """Bonded to each other in a chain without ATOM records: a peptide; alone: a free amino acid."""
    peptide = [f"{het(x, 'DAL', shift=30.0)[:21]}B{het(x, 'DAL', shift=30.0)[22:]}" for x in LINES]
    both = read_chains(Content("x.pdb", "\n".join([*LINES, "TER", *peptide, "END", ""]).encode()))
    assert [len(p) for p in both] == [24, 24]
    alone = [x for x in peptide if residue(x) == 3]
    (one,) = read_chains(Content("x.pdb", "\n".join([*LINES, "TER", *alone, "END", ""]).encode()))
    assert one.dropped == {"ligand": 1}


@pytest.mark.parametrize("element", ["CA", "Ca", "ZN", "CD", "ca"])
@pytest.mark.parametrize("name", ["UNK", "ALA", "MSE", "CA ", "XYZ", "HOH"])
@pytest.mark.parametrize("record", ["ATOM  ", "HETATM"])
def test_an_atom_called_ca_is_a_c_alpha_only_if_it_is_carbon(element, name, record) -> None:
    ion = f"{record} 9002 CA   {name} A 951      50.000  52.000  50.000  1.00 20.00          {element:2s}"
    found = read([*LINES, ion])
    assert found.sequence == PLAIN.sequence
    assert sum(found.dropped.values()) == 1
    carbon = "ATOM   9002  CA  UNK A 951      50.000  52.000  50.000  1.00 20.00           C"
    assert len(read([*LINES, carbon])) == 25


def test_names_set_to_the_left_are_careless_in_amino_acids() -> None:
    """Without elements the first column of the name tells calcium from carbon, but not in an amino acid."""
    lines = [f"{x[:12]}{x[12:16].strip():4s}{x[16:66]}" for x in LINES]
    np.testing.assert_array_equal(read(lines).coords, PLAIN.coords)
