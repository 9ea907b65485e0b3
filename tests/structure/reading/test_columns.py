"""The fast reader of plain files beside the general one: equal to the bit, or it declines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import Protein, read_structure
from protclip.structure.reading import protein_chains
from protclip.structure.reading.columns import plain_backbone

DOMPDB = Path(__file__).parents[3] / "data" / "cath" / "dompdb"
EDGE_CASES = Path(__file__).parents[2] / "edge_cases"
UBIQUITIN = (DOMPDB / "1ubiA00").read_bytes()


def general(path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Protein:
    """The protein as the general reader gives it."""
    with monkeypatch.context() as patch:
        patch.setattr(protein_chains, "plain_backbone", lambda data: None)
        return read_structure(path, **options)  # type: ignore[arg-type]


def outcome(path: Path, **options: object) -> tuple[object, ...]:
    """Everything that reading gives, or the error."""
    try:
        p = read_structure(path, **options)  # type: ignore[arg-type]
    except StructureError as error:
        return ("error", str(error))
    arrays = (p.coords, p.residue_number, p.insertion_code)
    facts = [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]
    return (p.id, p.sequence, p.plddt is None or p.plddt.tobytes(), dict(p.dropped), *facts)


def same(path: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> None:
    fast = outcome(path, **options)
    with monkeypatch.context() as patch:
        patch.setattr(protein_chains, "plain_backbone", lambda data: None)
        assert fast == outcome(path, **options)


def test_corpus_is_read_the_same_and_mostly_fast(monkeypatch):
    files = sorted(DOMPDB.iterdir())
    for path in files:
        same(path, monkeypatch)
    taken = sum(plain_backbone(path.read_bytes()) is not None for path in files)
    assert 100 < taken < len(files)  # both readers had something to do


def test_edge_cases_are_read_the_same(monkeypatch):
    for path in sorted(path for path in EDGE_CASES.rglob("*") if path.is_file()):
        same(path, monkeypatch)


@pytest.mark.parametrize(
    "options",
    [
        {"segments": "1-10,20-29"},
        {"segments": "1-10:A"},
        {"segments": "500-510"},
        {"chain": "A"},
        {"chain": "B"},
        {"chain": "A", "segments": "3-4:B"},
        {"chain_ids": "label"},
        {"min_plddt": 50.0},
        {"id": "other"},
        {"altloc": "first"},
    ],
    ids=str,
)
def test_options_are_treated_the_same(options, monkeypatch):
    same(DOMPDB / "1ubiA00", monkeypatch, **options)


def test_random_damage_is_treated_the_same(tmp_path, monkeypatch):
    """Bytes changed, put in and taken out in the first atoms."""
    rng = np.random.default_rng(0)
    path = tmp_path / "damaged.pdb"
    letters = np.frombuffer(b" -.0123456789ABCDHXx\n*", np.uint8)
    lines = UBIQUITIN.splitlines(keepends=True)[:60]
    for trial in range(600):
        data = bytearray(b"".join(lines) + b"TER\nEND\n")
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(len(lines))) * 79 + int(rng.integers(81))
            at = min(at, len(data) - 1)
            if trial % 3:
                data[at] = int(rng.choice(letters))
            elif trial % 2:
                del data[at]
            else:
                data.insert(at, int(rng.choice(letters)))
        path.write_bytes(bytes(data))
        same(path, monkeypatch)


@pytest.mark.parametrize("number", ["   0.001", "  -0.001", "-999.999", "1234.567", " -12.345", "  0.5000"])
def test_coordinates_are_the_nearest_doubles(number, tmp_path, monkeypatch):
    line = "ATOM  {:5d} {:4s} GLY A{:4d}    {}{}{}  1.00 10.00           {:1s}\n"
    names = (" N  ", " CA ", " C  ", " O  ")
    text = "".join(
        line.format(4 * r + k, name, r + 1, number, f"{r + k:8.3f}", "   3.800", name[1])
        for r in range(3)
        for k, name in enumerate(names)
    )
    path = tmp_path / "tiny.pdb"
    path.write_text(text)
    same(path, monkeypatch)
    found = plain_backbone(text.encode())
    if number.split(".")[1] in ("5000",):
        assert found is None
    else:
        assert found is not None
        assert found.coords[1, 2, 0] == float(number)


@pytest.mark.parametrize(
    "changed",
    [
        UBIQUITIN.replace(b" MET A   1", b" MSE A   1"),
        UBIQUITIN.replace(b" MET A   1", b" met A   1"),
        UBIQUITIN.replace(b" N   MET A   1", b" N  AMET A   1"),
        UBIQUITIN.replace(b" N   MET A   1", b" H   MET A   1"),
        UBIQUITIN.replace(b" GLY A  76", b" GLY B  76"),
        UBIQUITIN.replace(b" GLY A  76", b" GLY A  75"),
        UBIQUITIN.replace(b"  27.343", b"27.34300"),
        UBIQUITIN.replace(b"  27.343", b"9999.000"),
        UBIQUITIN.replace(b"END", b"MODEL        1\nEND"),
        b"MODEL        1\n" + UBIQUITIN,
        b"REMARK   1 ALPHAFOLD\n" + UBIQUITIN,
        UBIQUITIN[: len(UBIQUITIN) // 2],
        b"",
        b"ATOM  ",
        b"ATOM  \n" * 40,
    ],
)
def test_what_is_not_plain_is_declined(changed):
    assert plain_backbone(UBIQUITIN) is not None
    assert changed != UBIQUITIN
    assert plain_backbone(changed) is None
