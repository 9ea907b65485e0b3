"""Readers of one format agree to the bit on generated files: the fast and the general one of PDB, gemmi's
and the column by column one of mmCIF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.errors import StructureError
from protclip.structure import read_chains
from protclip.structure.reading import mmcif, protein_chains
from protclip.structure.reading.columns import plain_backbone
from protclip.structure.reading.source import Content

BACKBONE = (b" N  ", b" CA ", b" C  ", b" O  ")
RESIDUES = [b"GLY", b"ALA", b"MET", b"TRP", b"MSE", b"SEP", b"UNK", b"HOH", b" DA", b" CA", b"met", b"XYZ"]


def outcome(data: bytes, **options: object) -> tuple[object, ...]:
    """Everything that reading gives, bit by bit, or that it is an error."""
    try:
        chains = read_chains(Content("x", data), **options)  # type: ignore[arg-type]
    except StructureError:
        return ("error",)
    return tuple(
        (
            p.id,
            p.sequence,
            dict(p.dropped),
            None if p.plddt is None else p.plddt.tobytes(),
            *((a.dtype.str, a.tobytes()) for a in (p.coords, p.residue_number, p.insertion_code)),
        )
        for p in chains
    )


@contextmanager
def general_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protein_chains, "plain_backbone", lambda data: None)
        yield


numbers = st.one_of(
    st.integers(-999, 9999).map(lambda n: b"%4d" % n),
    st.sampled_from(
        [b"9998", b"9999", b"2710", b"271a", b"A000", b"a000", b"   0", b"    ", b"****", b"1 2 ", b"-0  "]
    ),
)
reals = st.one_of(
    st.integers(-999_999, 9_999_999).map(lambda n: b"%8.3f" % (n / 1000)),
    st.sampled_from(
        [
            b"********",
            b"        ",
            b"   1.0  ",
            b"12345.67",
            b"     nan",
            b"  1.2e01",
            b"9999.000",
            b"   0.000",
            b"  -0.000",
        ]
    ),
)
tails = st.sampled_from(
    [
        b"  1.00 10.00           %s",
        b"  1.00 10.00           %s  ",
        b"  1.00 10.00      1ABC 100",
        b"  1.00 10.00           %s0.",
        b"  1.00 10.00           %s1+",
        b"  0.50******           %s",
        b"******      ",
        b"",
        b"  1.00 10.00\x00\x0b\x0c",
        b"  1.00 10.00          \t%s",
        b"  1.00 10.00          CA",
    ]
)
light_tails = st.sampled_from(
    [
        b"  1.00 10.00           %s",
        b"  1.00 10.00           %s  ",
        b"************           %s",
        b"               ABCD  1 %s",
        b"  1.00   nan",
        b"  1.00 10.00\x00         %s",
    ]
)
between = st.sampled_from(
    [
        b"TER",
        b"END",
        b"ENDMDL",
        b"MODEL        1",
        b"REMARK   1",
        b"",
        b"ANISOU",
        b"TER   \x00",
        b"HETATM",
        b"\tTER",
    ]
)


@st.composite
def pdb_files(draw: st.DrawFn) -> bytes:
    """Files of a few residues, most of them plain, with a few oddities in lines and fields."""
    lines: list[bytes] = []
    serial = draw(st.sampled_from([1, 1, 1, 1, 99_995, 100_000]))
    first = draw(st.sampled_from([1, 1, 1, -2, 9_996, 9_998]))
    oddity = draw(st.sampled_from([0, 0, 0, 1, 4]))  # how many fields are drawn from everything that there is
    light = draw(st.booleans())  # whether fields that nobody needs are odd
    count = draw(st.integers(1, 5))
    odd = {draw(st.integers(0, 4 * count - 1)) for _ in range(oddity)}
    for i in range(count):
        name = draw(st.sampled_from(RESIDUES[:4]))
        for k, atom in enumerate(BACKBONE):
            here = 4 * i + k in odd
            record = draw(st.sampled_from([b"ATOM  ", b"HETATM"])) if here else b"ATOM  "
            altloc = draw(st.sampled_from([b" ", b"A", b"B", b"\x00"])) if here else b" "
            residue = draw(st.sampled_from(RESIDUES)) if here else name
            chain = draw(st.sampled_from([b" A", b" B", b"  ", b"AA", b"\tA"])) if here else b" A"
            number = (
                draw(numbers)
                if here
                else b"%4d" % (first + i)
                if first + i < 10_000
                else b"%5d" % (first + i)
            )
            icode = draw(st.sampled_from([b" ", b"A", b"1", b"\x01"])) if here else b" "
            xyz = [draw(reals) if here else b"%8.3f" % (3.8 * i + k + axis) for axis in range(3)]
            tail = draw(tails) if here else b"  1.00 10.00           %s"
            tail = tail.replace(b"%s", atom[1:2])
            label = (
                draw(st.sampled_from([atom, b"CA  ", b" H  ", b"\tCA\t", b"1HB ", b" OXT"])) if here else atom
            )
            gap, number_text = b"   ", b"%5d" % serial
            if light:
                gap = draw(st.sampled_from([b"   ", b" x ", b"\x7f  ", b"\x00  "]))
                number_text = draw(st.sampled_from([number_text, b"*****", b"     ", b"A0000", b"-1   "]))
                tail = draw(light_tails).replace(b"%s", atom[1:2])
            head = b"%6s%5s " % (record, number_text) if serial < 100_000 else b"%6s%6d " % (record, serial)
            columns = (label, altloc, residue, chain, (number + icode)[:5])
            lines.append(head + b"".join(columns) + gap + b"".join(xyz) + tail)
            serial += 1
            if here and draw(st.booleans()):
                lines.append(draw(between))
    lines += draw(st.sampled_from([[], [b"TER"], [b"TER", b"END"]])) or draw(st.lists(between, max_size=1))
    text = b"\n".join(lines) + draw(st.sampled_from([b"\n", b"\n", b"", b"\r\n"]))
    if draw(st.integers(0, 7)) == 7:
        at = draw(st.integers(0, len(text)))
        text = text[:at] + bytes([draw(st.sampled_from([0, 9, 11, 12, 13, 26, 127, 200]))]) + text[at + 1 :]
    return text


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(data=pdb_files())
def test_fast_and_general_reader_of_pdb(data: bytes) -> None:
    fast = outcome(data)
    with general_only():
        assert fast == outcome(data)


def test_generated_files_are_of_every_sort() -> None:
    """The comparison means something only while both readers have something to do."""
    sorts: set[str] = set()

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(data=pdb_files())
    def look(data: bytes) -> None:
        found = outcome(data)
        sorts.add("error" if found == ("error",) else "fast" if plain_backbone(data) else "general")

    look()
    assert sorts == {"error", "fast", "general"}


COLUMNS = [
    "group_PDB",
    "id",
    "type_symbol",
    "label_atom_id",
    "label_alt_id",
    "label_comp_id",
    "label_asym_id",
    "label_entity_id",
    "label_seq_id",
    "pdbx_PDB_ins_code",
    "Cartn_x",
    "Cartn_y",
    "Cartn_z",
    "occupancy",
    "B_iso_or_equiv",
    "auth_seq_id",
    "auth_comp_id",
    "auth_asym_id",
    "auth_atom_id",
    "pdbx_PDB_model_num",
]


@st.composite
def cif_files(draw: st.DrawFn) -> bytes:
    """Atom tables with oddities in a few values, and without a few columns."""
    odd: dict[str, list[str]] = {
        "group_PDB": ["HETATM"],
        "type_symbol": ["?", "H", "D", "CA", "Ca", "X", "."],
        "label_alt_id": ["A", "B", "?"],
        "label_comp_id": ["MSE", "HOH", "ala", "XYZ", "'G Y'"],
        "auth_comp_id": ["MSE", "?", "ALA"],
        "auth_atom_id": ["CB", "?", "CA"],
        "label_asym_id": ["B", "?", "."],
        "auth_asym_id": ["?", ".", "B", "LONGCHAINID"],
        "label_entity_id": ["1", "2", "?"],
        "pdbx_PDB_ins_code": ["A", ".", "1"],
        "label_seq_id": ["?", "."],
        "auth_seq_id": ["?", "-3", "3000000001", "12x", "1.0", "+7"],
        "Cartn_x": ["?", ".", "********", "nan", "1e1", "2.5(3)", "inf", "-0.0"],
        "occupancy": ["?", "0.5", ".", "1.50"],
        "B_iso_or_equiv": ["?", "50.5", "."],
        "pdbx_PDB_model_num": ["2"],
        "id": ["?"],
    }
    lacking = {name for name in COLUMNS if draw(st.integers(0, 25)) == 0}
    rows = []
    for i in range(draw(st.integers(1, 4))):
        for k, atom in enumerate(("N", "CA", "C", "O")):
            usual = {
                "group_PDB": "ATOM", "id": str(4 * i + k + 1), "type_symbol": atom[0], "label_atom_id": atom,
                "label_alt_id": ".", "label_comp_id": "GLY", "label_asym_id": "A", "label_entity_id": "1",
                "label_seq_id": str(i + 1), "pdbx_PDB_ins_code": "?", "Cartn_x": f"{3.8 * i + k:.3f}",
                "Cartn_y": f"{k / 3:.3f}", "Cartn_z": "1.5", "occupancy": "1.00", "B_iso_or_equiv": "10.00",
                "auth_seq_id": str(i + 1), "auth_comp_id": "GLY", "auth_asym_id": "A", "auth_atom_id": atom,
                "pdbx_PDB_model_num": "1",
            }  # fmt: skip
            if draw(st.integers(0, 4)) == 0:
                column = draw(st.sampled_from(sorted(odd)))
                usual[column] = draw(st.sampled_from(odd[column]))
            rows.append(" ".join(usual[name] for name in COLUMNS if name not in lacking))
    names = [f"_atom_site.{name}" for name in COLUMNS if name not in lacking]
    front = draw(
        st.sampled_from(
            [
                "",
                "loop_\n_entity.id\n_entity.type\n1 polymer\n2 non-polymer\n",
                "_entity.id 1\n_entity.type polymer\n",
            ]
        )
    )
    return "\n".join(["data_x", front + "loop_", *names, *rows, ""]).encode()


@pytest.mark.parametrize("chain_ids", ["author", "label"])
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(data=cif_files())
def test_gemmi_and_the_columns_of_mmcif(chain_ids: str, data: bytes) -> None:
    usual = outcome(data, chain_ids=chain_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mmcif, "_usual", lambda block, chain_ids, data: None)
        assert usual == outcome(data, chain_ids=chain_ids)
