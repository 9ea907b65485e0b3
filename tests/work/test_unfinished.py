"""Interrupted work is taken up if it was made from the same, and nobody else's folder is touched."""

from __future__ import annotations

import contextlib
import errno
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import ConfigError, DataError
from protclip.work.unfinished import (
    NOTE,
    Unfinished,
    check_note,
    differences,
    is_full,
    tidy_finished,
    write_note,
)

FACTS = {"input": "a" * 64, "model": "b" * 64, "precision": "fp32", "per residue": False, "window": 2048}


class Stop(Exception):
    """Stands for whatever interrupts the work."""


def begin(output, made_from=FACTS, pieces=1):
    """Work that is interrupted after some pieces."""
    with contextlib.suppress(Stop), Unfinished(output, made_from) as parts:
        for n in range(pieces):
            (parts.folder / f"{n}.npz").write_bytes(b"finished")
        raise Stop


def test_finished_pieces_wait_until_the_work_is_done(tmp_path):
    output = tmp_path / "deep" / "x.h5"
    begin(output, pieces=3)
    with Unfinished(output, FACTS) as parts:
        assert parts.taken_up
        assert [path.name for path in parts.pieces("*.npz")] == ["0.npz", "1.npz", "2.npz"]
    assert list(output.parent.iterdir()) == []
    with Unfinished(output, FACTS) as parts:
        assert not parts.taken_up


@given(
    st.dictionaries(st.sampled_from([*FACTS, "new"]), st.none() | st.integers() | st.text(max_size=9)),
)
def test_every_difference_is_named_and_nothing_else(tmp_path_factory, change):
    now = {**FACTS, **change}
    changed = [key for key in now if now[key] != FACTS.get(key)]
    assert [text.partition(" (")[0] for text in differences(FACTS, now)] == changed
    output = tmp_path_factory.mktemp("work") / "x.h5"
    begin(output)
    if not changed:
        with Unfinished(output, now) as parts:
            assert parts.taken_up
        return
    with pytest.raises(ConfigError) as caught, Unfinished(output, now):
        pass
    assert all(f"another {key} (" in str(caught.value) for key in changed)
    assert (output.with_name("x.h5.parts") / "0.npz").read_bytes() == b"finished"


def test_a_fact_that_is_gone_is_a_difference():
    assert differences({"a": 1, "b": 2}, {"a": 1}) == ["b (2 before, nothing noted now)"]


@pytest.mark.parametrize("kind", ["empty folder", "folder", "file", "link", "damaged note"])
def test_what_is_not_ours_is_refused_and_left_alone(tmp_path, kind):
    place = tmp_path / "x.h5.parts"
    if kind == "file":
        place.write_bytes(b"mine")
    elif kind == "link":
        place.symlink_to(tmp_path / "nowhere")
    else:
        place.mkdir()
        if kind != "empty folder":
            (place / ("thesis.doc" if kind == "folder" else NOTE)).write_bytes(b"[1, 2")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(DataError, match=r"x\.h5\.parts: "), Unfinished(tmp_path / "x.h5", FACTS):
        pass
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_try_that_made_nothing_leaves_nothing(tmp_path):
    begin(tmp_path / "x.h5", pieces=0)
    assert list(tmp_path.iterdir()) == []
    begin(tmp_path / "x.h5", {"input": "another"})


def test_two_outputs_in_a_folder_share_nothing(tmp_path):
    begin(tmp_path / "x.h5")
    begin(tmp_path / "x.parquet", {"input": "another"}, pieces=2)
    with Unfinished(tmp_path / "x.h5", FACTS) as parts:
        assert len(parts.pieces()) == 1


def full_disk():
    error = DataError("cannot be written")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    return error


def test_a_full_disk_is_said_with_what_is_kept(tmp_path):
    with pytest.raises(DataError, match="Nothing was finished yet"), Unfinished(tmp_path / "x", FACTS):
        raise full_disk()
    begin(tmp_path / "x")
    kept = r"the disk is full.*kept in .*x\.parts: make room and give the same"
    with pytest.raises(DataError, match=kept), Unfinished(tmp_path / "x", FACTS):
        raise full_disk()
    with Unfinished(tmp_path / "x", FACTS) as parts:
        assert parts.taken_up


def test_other_errors_are_no_full_disk():
    assert not is_full(None)
    assert not is_full(DataError("cannot be written"))
    assert is_full(RuntimeError("HDF5: write failed, errno = 28, 'No space left on device'"))


def test_notes_in_a_folder_that_is_the_output(tmp_path):
    write_note(tmp_path, FACTS)
    assert json.loads((tmp_path / NOTE).read_text()) == FACTS
    check_note(tmp_path, FACTS)
    with pytest.raises(ConfigError, match=r"another input \(aaaaaaaaaaaa before, cccccccccccc now\)"):
        check_note(tmp_path, {**FACTS, "input": "c" * 64})


def test_a_kill_behind_the_last_step_leaves_nothing_for_ever(tmp_path):
    """The output is there, whole; lock and pieces of the process that made it are not swept by itself."""
    output, own = tmp_path / "x.parquet", tmp_path / "y.parquet.parts"
    output.write_bytes(b"whole")
    with contextlib.suppress(ValueError), Unfinished(output, {"input": "abc"}) as parts:
        (parts.folder / "1.npz").write_bytes(b"finished")
        raise ValueError("killed")
    (tmp_path / ".x.parquet.lock").write_text("1")
    own.mkdir()
    tidy_finished(output)
    tidy_finished(tmp_path / "y.parquet")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.parquet", "y.parquet.parts"]
