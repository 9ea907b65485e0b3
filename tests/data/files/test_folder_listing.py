"""What a folder holds is read or counted, everything of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from protclip.data.files.folder_listing import list_folder


def test_every_entry_is_read_or_left_out_with_the_reason(tmp_path: Path) -> None:
    for name in ("a.pdb", "deep/b.pdb", "notes.txt", ".hidden.pdb", ".cache/c.pdb", "deep/.d.pdb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "broken.pdb").symlink_to(tmp_path / "nowhere.pdb")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "linked.pdb").symlink_to(tmp_path / "a.pdb")
    os.mkfifo(tmp_path / "pipe.pdb")
    found = list_folder(tmp_path, lambda path: path.suffix == ".pdb" and path.is_file(), "of another kind")
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == [
        "a.pdb",
        "deep/b.pdb",
        "linked.pdb",
    ]
    assert {path.name: reason for path, reason in found.left_out.items()} == {
        ".hidden.pdb": "hidden", ".cache": "hidden", ".d.pdb": "hidden", "broken.pdb": "a broken link",
        "circle": "a link to a folder", "notes.txt": "of another kind", "pipe.pdb": "of another kind",
    }  # fmt: skip
    with pytest.warns(UserWarning, match=r"7 entries were left out \(3 hidden, 1 a broken link"):
        found.warn(tmp_path)


def test_a_folder_read_whole_says_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    (tmp_path / "a.pdb").write_text("")
    list_folder(tmp_path, lambda path: True, "").warn(tmp_path)
    assert not recwarn.list
