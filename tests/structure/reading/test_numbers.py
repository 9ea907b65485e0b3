"""Numbers in fixed columns against slow readings of the same text."""

from __future__ import annotations

import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protclip.structure.reading.numbers import ResidueNumbers, coordinates, short_numbers


def slow_coordinate(text: str) -> float | None:
    """A number of eight columns by the letter of the format, character by character."""
    word = text.strip(" ")
    if word.lower().lstrip("+-") == "nan" and len(word) < 5:
        return float("nan")
    digits = word[1:] if word[:1] in ("+", "-") else word
    front, _, back = digits.partition(".")
    if not (front + back) or set(front + back) - set(string.digits) or len(front) > 4:
        return None
    return float(word)


fields = st.one_of(
    st.floats(-9999, 9999).map(lambda x: f"{x:8.3f}"[:8]),
    st.text("0123456789.-+ *naNe", min_size=8, max_size=8),
    st.sampled_from(
        ["********", " " * 8, "12345.67", "-999.999", "9999.999", "    .5  ", "     -.5", "1.234567"]
    ),
)


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(texts=st.lists(fields, min_size=1, max_size=30))
def test_coordinates(texts: list[str]) -> None:
    values, valid = coordinates(np.frombuffer("".join(texts).encode(), "<u8"))
    expected = [slow_coordinate(text) for text in texts]
    assert valid.tolist() == [value is not None for value in expected]
    for value, wanted in zip(values.tolist(), expected, strict=True):
        if wanted is not None:
            np.testing.assert_equal(value + 0.0, wanted + 0.0)  # NaN included; -0.0 is 0.0


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    texts=st.lists(
        st.floats(-99, 999).map(lambda x: f"{x:6.2f}") | st.text("01.*- ", min_size=6, max_size=6), min_size=1
    )
)
def test_short_numbers(texts: list[str]) -> None:
    found = short_numbers(np.frombuffer("".join(texts).encode(), np.uint8).reshape(-1, 6), 1.0)
    for value, text in zip(found, texts, strict=True):
        try:
            wanted = float(text.strip(" ")) if text.strip(" ") else 1.0
        except ValueError:
            wanted = np.nan
        np.testing.assert_equal(value + 0, np.float32(wanted) + 0)


def slow_hybrid36(value: int) -> str:
    """Four columns of hybrid-36, counted up through its alphabets."""
    if value < 10_000:
        return f"{value:4d}"
    value -= 10_000
    alphabet = string.digits + string.ascii_uppercase
    if value >= 26 * 36**3:
        value, alphabet = value - 26 * 36**3, string.digits + string.ascii_lowercase
    letters = ""
    value += 10 * 36**3  # the first character is a letter
    while value:
        value, rest = divmod(value, 36)
        letters = alphabet[rest] + letters
    return letters


WAYS = {
    "hybrid-36": slow_hybrid36,
    "hexadecimal": lambda n: f"{n:4d}" if n < 10_000 else f"{n:4x}",
    "five columns": lambda n: f"{n:4d}",
    "five columns throughout": lambda n: f"{n:5d}",
    "from zero again": lambda n: f"{n % 10_000 if n > 0 else n:4d}",
}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=40, deadline=None, derandomize=True, database=None)
@given(start=st.integers(-999, 9_999), count=st.integers(1, 400))
@example(start=9_990, count=30)
@example(start=1, count=29_990)
def test_every_way_counts_on(way: str, start: int, count: int) -> None:
    """Numbers that rise by one are read as such, however the file goes on behind 9999."""
    wanted = list(range(start, start + count))
    if way == "five columns throughout":
        wanted = [abs(n) for n in wanted if n] or [1]
    texts = [WAYS[way](n).ljust(5).encode() for n in wanted]
    numbers = ResidueNumbers(texts)
    assert [numbers.read("A", text) for text in texts] == [(n, b"") for n in wanted]


def test_chains_are_counted_apart_and_numbers_begin_anew() -> None:
    numbers = ResidueNumbers([])
    for chain, text, wanted in (
        ("A", b"9999 ", (9999, b"")), ("A", b"2710 ", (10_000, b"")), ("B", b"2710 ", (2710, b"")),
        ("A", b"2711 ", (10_001, b"")), ("A", b"   1 ", (1, b"")), ("A", b"2711 ", (2711, b"")),
        ("A", b"  52A", (52, b"A")), ("A", b"1000A", (1000, b"A")), ("A", b"-100 ", (-100, b"")),
    ):  # fmt: skip
        assert numbers.read(chain, text) == wanted


@pytest.mark.parametrize(
    "text", [b"     ", b"**** ", b"1 2  ", b"1.5  ", b"--1  ", b"A-1  ", b"Ab12 ", b"12e  ", b"+  1 "]
)
def test_what_is_no_number(text: bytes) -> None:
    assert ResidueNumbers([text]).read("A", text) is None
