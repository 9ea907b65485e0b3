"""``protclip embed MODEL -i -``: what comes through a pipe is what comes from a file."""

from __future__ import annotations

import bz2
import os
import subprocess
import sys
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

FAULTS = Path(__file__).parents[1] / "edge_cases" / "faults"


def embed(run: Path, source: str, out: Path, data: bytes = b"") -> tuple[int, str]:
    """Exit code and errors of the command, in a process of its own: it reads its standard input."""
    command = [sys.executable, "-m", "protclip", "embed", run, "-i", source, "-o", out, "--device", "cpu"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=300, check=False)
    return done.returncode, done.stderr.decode()


def content(path: Path) -> tuple[list[str], np.ndarray]:
    with h5py.File(path) as file:
        return list(file["ids"].asstr()), file["embeddings"][()]


@pytest.mark.parametrize(
    ("source", "name", "ids"),
    [
        ("-", "sequences/plain.fasta", ["a", "b"]),
        ("/dev/stdin", "structures/plain.pdb", ["stdin"]),
        ("pipe", "structures/plain.cif", ["pipe"]),
    ],
)
def test_piped_input_is_recognised(run_folder, cli, tmp_path, source, name, ids) -> None:
    data = bz2.compress((FAULTS / name).read_bytes())
    if source == "pipe":
        source = str(tmp_path / "pipe")
        os.mkfifo(source)
        threading.Thread(target=lambda: Path(source).write_bytes(data), daemon=True).start()
    code, errors = embed(run_folder, source, tmp_path / "piped.h5", data)
    assert code == 0, errors
    cli("embed", run_folder, "-i", FAULTS / name, "-o", tmp_path / "file.h5", "--device", "cpu")
    assert content(tmp_path / "piped.h5")[0] == ids
    np.testing.assert_array_equal(content(tmp_path / "piped.h5")[1], content(tmp_path / "file.h5")[1])


def test_what_is_neither_is_refused(run_folder, tmp_path) -> None:
    code, errors = embed(run_folder, "-", tmp_path / "x.h5", b"hello\n")
    assert code == 2
    assert "cannot tell which modality this is; got neither" in errors


def test_models_of_one_name_and_what_is_left_out(run_folder, cli, tmp_path) -> None:
    out = tmp_path / "out.h5"
    cli("embed", run_folder, "-i", FAULTS / "structures" / "same_stem", "-o", out, "--device", "cpu")
    assert content(out)[0] == ["r0/ranked_0", "r1/ranked_0", "r2/ranked_0"]
    with pytest.warns(UserWarning, match=r"1 entries were left out \(1 not named like a structure\)"):
        cli("embed", run_folder, "-i", FAULTS / "structures" / "odd_suffix", "-o", out, "--device", "cpu")
    assert content(out)[0] == ["a"]
