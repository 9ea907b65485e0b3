"""Equal contents have equal fingerprints, and nothing else has."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import DataError
from protclip.work.fingerprint import file_digest, fingerprint

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


def typed(value):
    """A value beside its types: 1, 1.0 and True are three things here, as 0.0 and -0.0 are two."""
    if isinstance(value, list):
        return ["list", *map(typed, value)]
    if isinstance(value, dict):
        return ["dict", *sorted((key, typed(inner)) for key, inner in value.items())]
    return [type(value).__name__, repr(value)]


@given(PLAIN, PLAIN)
def test_plain_values_share_a_fingerprint_only_when_equal(a, b):
    assert (fingerprint(a) == fingerprint(b)) == (typed(a) == typed(b))


@given(st.dictionaries(st.text(max_size=5), st.integers(), max_size=6), st.randoms())
def test_the_order_of_a_mapping_does_not_matter(values, random):
    items = list(values.items())
    random.shuffle(items)
    assert fingerprint(dict(items)) == fingerprint(values)


def test_neighbours_do_not_run_into_each_other():
    assert fingerprint("ab", "c") != fingerprint("a", "bc")
    assert fingerprint([["a"], "b"]) != fingerprint([["a", "b"]])
    assert fingerprint(["text 1\nx"]) != fingerprint(["text", "1\nx"])


@pytest.mark.parametrize(
    "other",
    [
        np.zeros((2, 3)),
        np.zeros(6),
        np.zeros((3, 2), np.float32),
        np.array([[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]),
    ],
    ids=["shape", "dimensions", "type", "values"],
)
def test_arrays_differ_by_type_shape_and_values(other):
    base = np.zeros((3, 2))
    assert fingerprint(base) != fingerprint(other)
    assert fingerprint(base) == fingerprint(np.asfortranarray(base)) == fingerprint(np.zeros((6, 2))[::2])


def test_arrays_of_every_kind_have_one():
    things = [
        np.array(1.5),
        np.zeros((0, 4)),
        np.array(["a", "bc"]),
        np.array(["a", None], object),
        np.bool_(1),
    ]
    assert len({fingerprint(thing) for thing in things}) == len(things)
    assert fingerprint(np.float64(1.5)) == fingerprint(1.5)


def test_dataclasses_count_by_their_fields():
    @dataclass
    class Item:
        id: str
        rows: np.ndarray

    assert fingerprint(Item("a", np.ones(3))) == fingerprint(Item("a", np.ones(3)))
    assert fingerprint(Item("a", np.ones(3))) != fingerprint(Item("a", np.zeros(3)))


def test_other_things_are_refused():
    with pytest.raises(TypeError, match="no fingerprint of a generator"):
        fingerprint(n for n in range(3))


@given(st.binary(max_size=300), st.integers(0, 320), st.integers(0, 320))
def test_digest_of_a_stretch_is_that_of_its_bytes(tmp_path_factory, content, start, stop):
    path = tmp_path_factory.mktemp("stretch") / "file"
    path.write_bytes(content)
    assert (
        file_digest(path, start=start, stop=stop)
        == hashlib.sha256(content[start : max(start, stop)]).hexdigest()
    )
    assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_file_longer_than_a_block(tmp_path):
    content = np.random.default_rng(0).bytes((3 << 20) + 17)
    (tmp_path / "long").write_bytes(content)
    assert file_digest(tmp_path / "long", "md5") == hashlib.md5(content).hexdigest()


def fill(folder):
    (folder / "deep").mkdir(parents=True)
    (folder / "a.pdb").write_bytes(b"ATOM 1")
    (folder / "deep" / "b.pdb").write_bytes(b"ATOM 2")
    (folder / ".hidden").write_bytes(b"")
    return folder


CHANGES = {
    "content": lambda f: (f / "a.pdb").write_bytes(b"ATOM 9"),
    "name": lambda f: (f / "a.pdb").rename(f / "c.pdb"),
    "swapped contents": lambda f: (
        (f / "a.pdb").write_bytes(b"ATOM 2"),
        (f / "deep/b.pdb").write_bytes(b"ATOM 1"),
    ),
    "moved": lambda f: (f / "a.pdb").rename(f / "deep" / "a.pdb"),
    "new": lambda f: (f / "new").write_bytes(b""),
    "gone": lambda f: (f / ".hidden").unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_of_a_folder_is_seen(tmp_path, change):
    """Also one that keeps size and times of all files."""
    folder = fill(tmp_path / "one")
    before = fingerprint(folder)
    change(folder)
    for path in folder.rglob("*"):
        os.utime(path, ns=(0, 0))
    assert fingerprint(folder) != before


def test_place_and_age_of_a_folder_do_not_matter(tmp_path):
    folder = fill(tmp_path / "one")
    copy = tmp_path / "two"
    shutil.copytree(folder, copy)
    os.utime(copy / "a.pdb", ns=(0, 0))
    assert fingerprint(copy) == fingerprint(folder)
    copy.rename(tmp_path / "three")
    assert fingerprint(tmp_path / "three") == fingerprint(folder)


def test_links_are_followed_and_circles_end(tmp_path):
    folder = fill(tmp_path / "one")
    (tmp_path / "outside").write_bytes(b"1")
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "deep" / "circle").symlink_to(folder)
    (folder / "broken").symlink_to(tmp_path / "nowhere")
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (tmp_path / "outside").write_bytes(b"2")
    assert fingerprint(folder) != before


def test_a_file_that_is_gone_is_named(tmp_path):
    with pytest.raises(DataError, match="none: cannot be read"):
        fingerprint(tmp_path / "none")
