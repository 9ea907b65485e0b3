"""Augmented views: what changes, what stays, and that nothing disappears."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import ConfigError
from protclip.structure.augment import augment_structure
from protclip.structure.protein import Protein


def chain(length: int, number: list[int] | None = None, seed: int = 0) -> Protein:
    rng = np.random.default_rng(seed)
    xyz = np.cumsum(np.tile([3.0, 2.2, 0.8], (length, 1)) + rng.normal(0, 0.02, (length, 3)), axis=0)
    if number is not None:
        xyz[1:] += np.cumsum(np.where(np.diff(number) == 1, 0, 20))[:, None]
    letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), length))
    return Protein.from_ca("p", letters, xyz, None if number is None else np.array(number))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_same_state_same_view() -> None:
    protein = chain(50)
    one, same, other = (augment_structure(protein, rng(s)) for s in (1, 1, 2))
    assert one.sequence == same.sequence
    np.testing.assert_array_equal(one.coords, same.coords)
    assert one.sequence != other.sequence


def test_nothing_asked_nothing_changed() -> None:
    protein = chain(20)
    view = augment_structure(protein, rng(), noise=0, drop=0, crop=1)
    assert view.sequence == protein.sequence
    np.testing.assert_array_equal(view.coords, protein.coords)


def test_noise_has_the_stated_size() -> None:
    protein = chain(2000)
    view = augment_structure(protein, rng(), noise=0.3, drop=0, crop=1)
    shift = view.ca - protein.ca
    assert 0.28 < float(shift.std()) < 0.32
    assert np.isnan(view.coords[:, 0]).all()
    assert not np.array_equal(shift[:, 0], shift[:, 1])


def test_crop_is_contiguous_and_of_every_length() -> None:
    protein = chain(40)
    lengths, starts = set(), set()
    for seed in range(300):
        view = augment_structure(protein, rng(seed), noise=0, drop=0, crop=0.5)
        assert view.sequence in protein.sequence
        lengths.add(len(view))
        starts.add(protein.sequence.index(view.sequence))
    assert min(lengths) == 20
    assert max(lengths) == 40
    assert min(starts) == 0
    assert max(starts) > 15


def test_dropping_leaves_gaps_of_the_right_width() -> None:
    protein = chain(12, [*range(1, 7), *range(31, 37)])
    original = dict(zip(map(tuple, protein.ca.tolist()), protein.position.tolist(), strict=True))
    widths = set()
    for seed in range(50):
        view = augment_structure(protein, rng(seed), noise=0, drop=0.3, crop=1)
        expected = np.array([original[tuple(x)] for x in view.ca.tolist()])
        np.testing.assert_array_equal(view.position, expected - expected[0])
        widths |= set(np.diff(view.position).tolist())
    assert {1, 2, 3} <= widths


def test_positions_survive_odd_numbering() -> None:
    # Bonded all along, with a jump in the numbers and insertion codes.
    protein = chain(6)
    number = np.array([10, 11, 11, 11, 300, 301], np.int32)
    codes = np.array([b"", b"", b"A", b"B", b"", b""])
    odd = Protein("p", protein.sequence, protein.coords, number, codes)
    assert odd.position.tolist() == [0, 1, 2, 3, 4, 5]
    by_place = {tuple(x): i for i, x in enumerate(odd.ca.tolist())}
    for seed in range(30):
        view = augment_structure(odd, rng(seed), noise=0, drop=0.5, crop=1)
        place = [by_place[tuple(x)] for x in view.ca.tolist()]
        assert view.position.tolist() == [p - place[0] for p in place]


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.floats(0, 0.99), st.floats(0.01, 1), st.data())
def test_a_view_is_never_empty(length: int, seed: int, drop: float, crop: float, data: Any) -> None:
    protein = chain(length)
    missing = data.draw(st.sets(st.integers(0, length - 1), max_size=length - 1))
    protein.coords[sorted(missing)] = np.nan
    view = augment_structure(protein, rng(seed), drop=drop, crop=crop)
    assert 1 <= len(view) <= length
    assert view.has_ca.any()


def test_a_protein_without_ca_still_gives_a_view() -> None:
    protein = chain(3)
    protein.coords[:] = np.nan
    assert len(augment_structure(protein, rng(), drop=0.99)) >= 1


def test_the_protein_itself_is_left_alone() -> None:
    protein = chain(10)
    before = protein.coords.copy()
    augment_structure(protein, rng(), noise=1.0)
    np.testing.assert_array_equal(protein.coords, before)
    assert protein.residue_number.tolist() == list(range(1, 11))


@pytest.mark.parametrize(
    "bad", [{"noise": -1}, {"drop": 1.0}, {"crop": 0.0}, {"crop": 1.1}, {"drop": float("nan")}]
)
def test_parameters_are_checked(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(bad))}: value out of range"):
        augment_structure(chain(3), rng(), **bad)
