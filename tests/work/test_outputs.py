"""What would fail at the end of the work is said before it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protclip.errors import ConfigError, DataError
from protclip.files import atomic_path, atomic_write
from protclip.work.outputs import check_output, failed_path, list_failures


def test_an_ordinary_output_is_fine(tmp_path):
    (tmp_path / "in").mkdir()
    check_output(tmp_path / "new" / "deep" / "x.h5", inputs=[tmp_path / "in", "MKV", {"a": 1}, "no\0file"])
    (tmp_path / "x.h5").write_bytes(b"old")
    check_output(tmp_path / "x.h5")
    check_output(tmp_path / "in", folder=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "x.h5"]


@pytest.mark.parametrize("spelling", ["as it is", "relative", "link", "hard link"])
def test_the_input_is_never_the_output(tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.h5").write_bytes(b"mine")
    output = {
        "as it is": tmp_path / "x.h5",
        "relative": Path("../") / tmp_path.name / "x.h5",
        "link": tmp_path / "other.h5",
        "hard link": tmp_path / "other.h5",
    }[spelling]
    if spelling == "link":
        output.symlink_to(tmp_path / "x.h5")
    if spelling == "hard link":
        output.hardlink_to(tmp_path / "x.h5")
    with pytest.raises(ConfigError, match="the output is the input"):
        check_output(output, inputs=[tmp_path / "x.h5"])


def test_an_output_inside_the_input_folder(tmp_path):
    with pytest.raises(ConfigError, match="would lie in the folder of the input"):
        check_output(tmp_path / "deep" / "x.h5", inputs=[tmp_path])
    check_output(tmp_path / "deep" / "x.h5", inputs=[tmp_path], inside=True)


@given(st.integers(1, 300), st.sampled_from("aé漢"))
def test_a_name_that_passes_can_be_written_with_all_that_goes_beside_it(tmp_path_factory, length, letter):
    output = tmp_path_factory.mktemp("long") / (letter * length)
    if len(os.fsencode(output.name)) > 255 - 41:
        with pytest.raises(ConfigError, match="too long"):
            check_output(output)
    else:
        check_output(output)
        atomic_write(output, "x")
        list_failures(output, [("a", "b")])


def test_no_right_to_write(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root, who may all
    with pytest.raises(DataError, match="no right to write in"):
        check_output(tmp_path / "new" / "x.h5")


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="no right to write"):
        check_output(tmp_path / "file" / "x.h5")
    with pytest.raises(DataError, match="a file stands in the place of the folder"):
        check_output(tmp_path / "file", folder=True)


def test_only_files_are_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for place, said in (("pipe", "a device or a pipe"), ("folder", "a folder stands")):
        with pytest.raises(DataError, match=said):
            check_output(tmp_path / place)
        with pytest.raises(DataError, match=said), atomic_path(tmp_path / place):
            pass
    with pytest.raises(DataError, match="a device or a pipe"):
        check_output(Path("/dev/stdout"))
    with pytest.raises(DataError, match="a device or a pipe"):
        check_output(Path("/dev/zero"))


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_are_as_readable_as_the_user_wants(tmp_path, umask):
    """However private their writer made them."""
    code = f"""
import os, sys, tempfile
from pathlib import Path
os.umask({umask})
from protclip.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    handle, name = tempfile.mkstemp(dir=temporary.parent)
    os.rename(name, temporary)
Path(sys.argv[1] + ".plain").write_bytes(b"")
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], check=True)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {0o666 & ~umask}


def test_lists_of_failures_belong_to_one_output(tmp_path):
    outputs = [tmp_path / name for name in ("x.h5", "x.parquet", "x", "x.tsv")]
    assert len({failed_path(output) for output in outputs}) == len(outputs)
    for output in outputs:
        list_failures(output, [(output.name, "why")])
    assert all(failed_path(output).read_text() == f"id\treason\n{output.name}\twhy\n" for output in outputs)
    assert list_failures(outputs[0], []) is None
    assert not failed_path(outputs[0]).exists()
    assert failed_path(outputs[1]).exists()


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=5))
def test_a_failure_is_one_line_whatever_it_says(tmp_path_factory, rows):
    path = list_failures(tmp_path_factory.mktemp("list") / "x", rows)
    lines = path.read_bytes().decode().split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line.count("\t") == 1 for line in lines[:-1])
