"""Domain boundaries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protclip.errors import StructureError
from protclip.structure import Segment, parse_chopping, read_structure

ROOT = Path(__file__).parents[3]
EDGE = ROOT / "tests" / "edge_cases"
UBI = ROOT / "data" / "cath" / "dompdb" / "1ubiA00"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1-86", [Segment(1, "", 86, "", None)]),
        ("1-86,147-242", [Segment(1, "", 86, "", None), Segment(147, "", 242, "", None)]),
        ("-1-115:A", [Segment(-1, "", 115, "", "A")]),
        ("-10--3:A", [Segment(-10, "", -3, "", "A")]),
        ("200A-210:A", [Segment(200, "A", 210, "", "A")]),
        ("200(A)-210(B):1", [Segment(200, "A", 210, "B", "1")]),
        ("A:1-86", [Segment(1, "", 86, "", "A")]),
        ("1H-16:L,16-27A:H", [Segment(1, "H", 16, "", "L"), Segment(16, "", 27, "A", "H")]),
        (" 5-9 , 12 ", [Segment(5, "", 9, "", None), Segment(12, "", 12, "", None)]),
        ("12B", [Segment(12, "B", 12, "B", None)]),
        ("3-4_8-9", [Segment(3, "", 4, "", None), Segment(8, "", 9, "", None)]),
    ],
)
def test_parse(text: str, expected: list[Segment]) -> None:
    assert parse_chopping(text) == tuple(expected)
    # What is printed is read back.
    assert parse_chopping(",".join(map(str, expected))) == tuple(expected)


@pytest.mark.parametrize(
    "text", ["", "-", "1-", "a-b", "1-86;;2", "1--", "1-86:A:B", "1.5-2", "1-9999999999999"]
)
def test_not_a_chopping(text: str) -> None:
    with pytest.raises(StructureError, match=r"not a chopping; got .*, expected segments such as"):
        parse_chopping(text)


def test_backwards() -> None:
    with pytest.raises(
        StructureError, match="'9-3': segment ends before it starts; got 9-3, expected start <= end"
    ):
        parse_chopping("9-3")


def test_every_boundary_of_the_corpus_parses_and_selects_the_whole_domain() -> None:
    header, *rows = (line.split("\t") for line in (ROOT / "data/cath/SOURCES.tsv").read_text().splitlines())
    column = {name: i for i, name in enumerate(header)}
    checked = 0
    for row in rows:
        path = UBI.parent / row[column["domain"]]
        boundary = row[column["boundary"]]
        whole = read_structure(path)
        if "," in boundary or path.name.endswith("00"):
            assert (
                read_structure(path, segments=boundary).residue_number.tolist()
                == whole.residue_number.tolist()
            )
            checked += 1
    assert checked > 20


def test_segments_are_cut_and_counted() -> None:
    whole = read_structure(UBI)
    part = read_structure(UBI, segments="3-10,20-29:A")
    keep = np.r_[2:10, 19:29]
    assert part.residue_number.tolist() == whole.residue_number[keep].tolist()
    np.testing.assert_array_equal(part.coords, whole.coords[keep])
    assert part.dropped["outside segments"] == 76 - 18
    assert read_structure(UBI, segments=parse_chopping("3-10,20-29")).sequence == part.sequence
    assert part.position[8] - part.position[7] == 10  # the gap between the segments stays


def test_unobserved_boundaries() -> None:
    gap = EDGE / "ter_at_gap.pdb"  # residues 1, 2, 14, 15, 16
    assert read_structure(gap, segments="2-9").residue_number.tolist() == [2]
    assert read_structure(gap, segments="0-14").residue_number.tolist() == [1, 2, 14]
    with pytest.raises(
        StructureError, match=r"chain A: segment holds no residue; got 5-9, expected numbers within 1 to 16"
    ):
        read_structure(gap, segments="1-2,5-9")


def test_insertion_codes() -> None:
    path = EDGE / "insertion_codes.pdb"  # 52, 52A, 52B, 53, 54, 55
    assert read_structure(path, segments="52A-53").sequence == "QIF"
    assert read_structure(path, segments="52-52A").sequence == "MQ"
    assert read_structure(path, segments="52C-54").sequence == "FV"  # 52C is not observed
    # Backwards codes, 1D 1C 1B 1A 1 2: the place in the file counts.
    path = EDGE / "thrombin_order.pdb"
    assert read_structure(path, segments="1C-2").sequence == "QIFVK"
    assert read_structure(path, segments="1D-1B").sequence == "MQI"


def test_chain_from_the_segments() -> None:
    path = EDGE / "two_chains.pdb"
    assert read_structure(path, segments="2-3:B").id == "two_chains_B"
    with pytest.raises(StructureError, match="segments of several chains; got A, B, expected one chain"):
        read_structure(path, segments="2-3:A,4-4:B")
    with pytest.raises(StructureError, match="segments of several chains"):
        read_structure(path, chain="A", segments="2-3:B")
    with pytest.raises(StructureError, match="segments overlap"):
        read_structure(path, segments="2-3:A,3-4:A")
    with pytest.raises(StructureError, match="neither a chopping nor Segment"):
        read_structure(path, segments=[(1, 2)])  # type: ignore[list-item]
