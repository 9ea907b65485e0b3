"""The carrier."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import Protein


def straight(n: int, **options: np.ndarray) -> Protein:
    ca = np.zeros((n, 3))
    ca[:, 0] = 3.8 * np.arange(n)
    return Protein.from_ca("x", ("GAVLIP" * n)[:n], ca, **options)


def test_fields_must_agree() -> None:
    with pytest.raises(StructureError, match="x: no residues; got 0, expected at least 1"):
        straight(0)
    with pytest.raises(
        StructureError, match=r"x: ca does not fit the sequence; got \(3, 3\), expected \(2, 3\)"
    ):
        Protein.from_ca("x", "GA", np.zeros((3, 3)))
    good = straight(3)
    for name, value in {
        "coords": good.coords[:2],
        "residue_number": good.residue_number[:2],
        "insertion_code": good.insertion_code[:2],
        "plddt": np.zeros(2, np.float32),
    }.items():
        fields = {k: getattr(good, k) for k in ("coords", "residue_number", "insertion_code", "plddt")}
        with pytest.raises(StructureError, match=f"x: {name} does not fit the sequence"):
            Protein("x", good.sequence, **(fields | {name: value}))


def test_position_of_a_continuous_chain_ignores_the_numbers() -> None:
    number = np.array([5, 5, 90, 91, 12])
    assert straight(5, residue_number=number).position.tolist() == [0, 1, 2, 3, 4]


def test_position_keeps_gaps() -> None:
    protein = straight(4, residue_number=np.array([1, 2, 20, 21]))
    protein.coords[2:] += 30
    assert protein.position.tolist() == [0, 1, 19, 20]
    assert protein.chain_breaks.tolist() == [False, True, False]


def test_position_over_a_backward_jump_and_damaged_numbers() -> None:
    protein = straight(3, residue_number=np.array([50, 7, 2_000_000_000]))
    protein.coords[1] += 30
    protein.coords[2] += 90
    assert protein.position.tolist() == [0, 64, 64 + 10_000]


def test_breaks_where_a_calpha_is_missing_follow_the_numbers() -> None:
    protein = straight(5, residue_number=np.array([1, 2, 3, 8, 9]))
    protein.coords[3] = np.nan
    assert protein.has_ca.tolist() == [True, True, True, False, True]
    assert protein.chain_breaks.tolist() == [False, False, True, False]
    assert protein.position.tolist() == [0, 1, 2, 7, 8]


def test_single_residue() -> None:
    assert straight(1).position.tolist() == [0]
    assert straight(1).chain_breaks.tolist() == []


def test_select_and_pickle() -> None:
    protein = straight(6)
    mask = np.array([True, False, True, True, False, False])
    for keep in (mask, np.flatnonzero(mask)):
        part = protein.select(keep)
        assert (part.sequence, part.residue_number.tolist()) == ("GVL", [1, 3, 4])
        np.testing.assert_array_equal(part.ca, protein.ca[mask])
    copy = pickle.loads(pickle.dumps(protein))
    assert copy.sequence == protein.sequence
    assert repr(copy) == "Protein('x', 6 residues, 6 with C-alpha)"


def test_reading_imports_no_torch() -> None:
    code = (
        "import sys; from protclip.structure import Protein, read_structure, parse_chopping;"
        "print(sorted({'torch', 'Bio', 'biotite', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
