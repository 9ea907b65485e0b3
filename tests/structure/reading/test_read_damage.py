"""Damaged input ends in a protein or in one of our errors, never in anything else."""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protclip.errors import ProtclipError
from protclip.structure import parse_chopping, read_chains

FOLDER = Path(__file__).parents[2] / "edge_cases"
ORIGINALS = {
    "pdb": (FOLDER / "waters_and_ligands.pdb").read_bytes(),
    "altloc": (FOLDER / "microheterogeneity.pdb").read_bytes(),
    "models": (FOLDER / "models.pdb").read_bytes(),
    "mmcif": (FOLDER / "alphafold.cif").read_bytes(),
    "bcif": (FOLDER / "plain.bcif").read_bytes(),
    "hexadecimal": (FOLDER / "faults" / "structures" / "resnum_hex.pdb").read_bytes(),
    "wide serials": (FOLDER / "faults" / "structures" / "serial_100000.pdb").read_bytes(),
    "modified behind TER": (FOLDER / "faults" / "structures" / "ter_midchain_mse.pdb").read_bytes(),
    "columns": (FOLDER / "faults" / "structures" / "no_type_symbol.cif").read_bytes(),
    "second block": (FOLDER / "faults" / "structures" / "second_block.cif").read_bytes(),
}
PACKED = {"gz": lambda data: gzip.compress(data, mtime=0), "bz2": bz2.compress, "xz": lzma.compress}

Damage = Callable[[bytes, random.Random], bytes]


def _lines(change: Callable[[list[bytes], random.Random], None]) -> Damage:
    def damage(data: bytes, rng: random.Random) -> bytes:
        lines = data.split(b"\n")
        change(lines, rng)
        return b"\n".join(lines)

    return damage


def _field(first: int, last: int, values: list[bytes]) -> Damage:
    """Other text in fixed columns of some lines."""

    def change(lines: list[bytes], rng: random.Random) -> None:
        for _ in range(rng.choice([1, 1, 5, len(lines)])):
            i = rng.randrange(len(lines))
            value = rng.choice(values)[: last - first].rjust(last - first)
            lines[i] = lines[i][:first] + value + lines[i][last:]

    return _lines(change)


def _token(values: list[bytes]) -> Damage:
    """Other text in place of some words."""

    def damage(data: bytes, rng: random.Random) -> bytes:
        words = list(re.finditer(rb"\S+", data))
        for word in sorted(
            rng.sample(words, min(len(words), rng.choice([1, 3, 30]))), key=lambda w: -w.start()
        ):
            data = data[: word.start()] + rng.choice(values) + data[word.end() :]
        return data

    return damage


def _bytes(count: int, choose: Callable[[int, random.Random], int]) -> Damage:
    def damage(data: bytes, rng: random.Random) -> bytes:
        result = bytearray(data)
        for _ in range(count):
            i = rng.randrange(len(result))
            result[i] = choose(result[i], rng)
        return bytes(result)

    return damage


def _flip(value: int, rng: random.Random) -> int:
    return value ^ 1 << rng.randrange(8)


def _random(value: int, rng: random.Random) -> int:
    return rng.randrange(256)


def _drop_slice(data: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:a] + data[b:]


def _shuffle(lines: list[bytes], rng: random.Random) -> None:
    rng.shuffle(lines)


def _drop_lines(lines: list[bytes], rng: random.Random) -> None:
    lines[:] = [line for line in lines if rng.random() < 0.7]


def _repeat_lines(lines: list[bytes], rng: random.Random) -> None:
    lines[:] = [line for line in lines for _ in range(rng.choice([1, 1, 1, 2, 3]))]


def _insert(values: list[bytes]) -> Damage:
    def change(lines: list[bytes], rng: random.Random) -> None:
        for _ in range(3):
            lines.insert(rng.randrange(len(lines) + 1), rng.choice(values))

    return _lines(change)


def _shorten_lines(lines: list[bytes], rng: random.Random) -> None:
    lines[:] = [line[: rng.randrange(82)] for line in lines]


NUMBERS = [b"nan", b"inf", b"-inf", b"1e308", b"99999999", b"-9999999", b"", b"****", b"0", b"1,5", b"0x1f"]
WORDS = [
    b".",
    b"?",
    b"''",
    b"loop_",
    b"data_x",
    b"'open",
    b";",
    b"_atom_site.x",
    b"\xff\xfe",
    b"save_",
    b"stop_",
]

DAMAGES: dict[str, Damage] = {
    "as it is": lambda data, rng: data,
    "nothing": lambda data, rng: b"",
    "cut at the end": lambda data, rng: data[: rng.randrange(len(data) + 1)],
    "cut in the first kilobyte": lambda data, rng: data[: rng.randrange(1024)],
    "cut at the front": lambda data, rng: data[rng.randrange(len(data)) :],
    "a piece missing": _drop_slice,
    "one bit flipped": _bytes(1, _flip),
    "ten bits flipped": _bytes(10, _flip),
    "three hundred bits flipped": _bytes(300, _flip),
    "one random byte": _bytes(1, _random),
    "a hundred random bytes": _bytes(100, _random),
    "zeros inside": _bytes(50, lambda value, rng: 0),
    "high bytes inside": _bytes(50, lambda value, rng: 0x80 + rng.randrange(128)),
    "letters for digits": _bytes(50, lambda value, rng: 120 if 48 <= value < 58 else value),
    "newlines inside": _bytes(20, lambda value, rng: 10),
    "all zeros": lambda data, rng: bytes(len(data)),
    "noise": lambda data, rng: rng.randbytes(rng.randrange(4000)),
    "noise behind": lambda data, rng: data + rng.randbytes(500),
    "noise in front": lambda data, rng: rng.randbytes(20) + data,
    "twice": lambda data, rng: data + data,
    "in upper case": lambda data, rng: data.upper(),
    "in lower case": lambda data, rng: data.lower(),
    "without newlines": lambda data, rng: data.replace(b"\n", b""),
    "without spaces": lambda data, rng: data.replace(b" ", b""),
    "tabs for spaces": lambda data, rng: data.replace(b"  ", b"\t"),
    "in UTF-16": lambda data, rng: data.decode("latin-1").encode("utf-16"),
    "lines shuffled": _lines(_shuffle),
    "lines missing": _lines(_drop_lines),
    "lines repeated": _lines(_repeat_lines),
    "lines shortened": _lines(_shorten_lines),
    "lines shifted": _lines(lambda lines, rng: lines.__setitem__(slice(None), [b" " + x for x in lines])),
    "one endless line": _insert([b"ATOM  " + b"9" * 100_000]),
    "odd records": _insert([b"MODEL", b"ENDMDL", b"TER", b"END", b"ATOM", b"HETATM  ", b"ANISOU", b"MODRES"]),
    "odd keywords": _insert([b"loop_", b"data_", b"_atom_site.id 1", b"#", b";", b"save_x", b"global_"]),
    "serial numbers": _field(6, 11, NUMBERS),
    "atom names": _field(12, 16, [b"CA", b"", b"\xff\xff", b"CACA", b"N", b"\0\0\0\0"]),
    "alternate locations": _field(16, 17, [b"A", b"B", b"\xff", b"\0", b"1"]),
    "residue names": _field(17, 20, [b"", b"\xff\xff\xff", b"XXX", b"DA", b"HOH", b"MSE", b"\0\0\0"]),
    "chain ids": _field(20, 22, [b"A", b"B", b"", b"\xff", b"AB", b"\0"]),
    "residue numbers": _field(22, 26, [*NUMBERS, b"zzzz", b"A000", b"-999"]),
    "insertion codes": _field(26, 27, [b"A", b"\xff", b"\0", b"9"]),
    "coordinates": _field(30, 38, NUMBERS),
    "all coordinates": _field(30, 54, NUMBERS),
    "occupancies": _field(54, 60, NUMBERS),
    "B-factors": _field(60, 66, NUMBERS),
    "elements": _field(76, 80, [b"X", b"QQ", b"D", b"\xff\xff", b""]),
    "record names": _field(0, 6, [b"HETATM", b"TER", b"ENDMDL", b"MODEL", b"\0\0", b"ATOM", b"END"]),
    "a column too many": _field(11, 12, [b"0", b"9", b"N"]),
    "hybrid-36 and hexadecimal": _field(
        22, 27, [b"A000 ", b"2710 ", b"271a ", b"10001", b"    1", b"9999 ", b"a0b1 "]
    ),
    "numbers as words": _token(NUMBERS),
    "syntax as words": _token(WORDS),
    "huge words": _token([b"9" * 400, b"A" * 70_000]),
    "nulls as words": _token([b"?", b"."]),
    "a web page": lambda data, rng: b"<html><body>" + data,
}


def check(data: bytes, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    for options in ({}, {"chain_ids": "label", "altloc": "first"}, {"min_plddt": 50.0}):
        try:
            proteins, message = read_chains(path, **options), ""  # type: ignore[arg-type]
        except ProtclipError as error:
            proteins, message = [], str(error)
        assert proteins or name in message  # an error says which file
        for protein in proteins:
            # What comes out can be used: letters, finite or NaN, some C-alpha, increasing positions.
            assert re.fullmatch("[A-Z]+", protein.sequence)
            assert not np.isinf(protein.coords).any()
            assert protein.has_ca.any()
            assert (np.diff(protein.position) > 0).all()
            assert all(count > 0 for count in protein.dropped.values())


def test_there_are_fifty_kinds() -> None:
    assert len(DAMAGES) >= 50


@pytest.mark.parametrize("kind", DAMAGES)
@settings(max_examples=3, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damage(kind: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    for form, original in ORIGINALS.items():
        check(DAMAGES[kind](original, random.Random(seed)), folder, f"damaged {form}")


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    form=st.sampled_from(sorted(ORIGINALS)),
    kind=st.sampled_from(sorted(DAMAGES)),
    how=st.sampled_from(sorted(PACKED)),
)
def test_damage_of_compressed_files(
    tmp_path_factory: pytest.TempPathFactory, seed: int, form: str, kind: str, how: str
) -> None:
    rng = random.Random(seed)
    packed = PACKED[how](ORIGINALS[form])
    check(DAMAGES[kind](packed, rng), tmp_path_factory.getbasetemp(), f"damaged.{how}")


@pytest.mark.slow
@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**32 - 1), kinds=st.lists(st.sampled_from(sorted(DAMAGES)), min_size=1, max_size=3)
)
def test_several_kinds_at_once(tmp_path_factory: pytest.TempPathFactory, seed: int, kinds: list[str]) -> None:
    rng = random.Random(seed)
    for form, data in ORIGINALS.items():
        for kind in kinds:
            data = DAMAGES[kind](data, rng) if data else data
        check(data, tmp_path_factory.getbasetemp(), f"damaged_{form}")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(text=st.one_of(st.text(max_size=30), st.text("0123456789-AB:,()_ ", max_size=30)))
def test_choppings(text: str) -> None:
    try:
        segments = parse_chopping(text)
    except ProtclipError:
        return
    assert segments
    assert all(s.start <= s.end for s in segments)
