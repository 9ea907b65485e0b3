"""``protclip data``: what a user types and sees."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protclip.cli.data import app
from protclip.data.corpus.store import Corpus
from protclip.errors import DataError

runner = CliRunner()


def test_build_and_info(cath_dir: Path, tmp_path: Path) -> None:
    out = tmp_path / "corpus.h5"
    built = runner.invoke(app, ["build", "--cath", str(cath_dir), "-o", str(out), "--workers", "1"])
    assert built.exit_code == 0, built.output
    assert "168 proteins, " in built.output
    assert "left out while reading" in built.output
    assert f"Next: protclip pretrain --cath {out}" in built.output
    shown = runner.invoke(app, ["info", str(out), "--verify"])
    assert shown.exit_code == 0, shown.output
    for text in ("superfamilies", "87", "fingerprint", "fits the content"):
        assert text in shown.output
    facts = json.loads(runner.invoke(app, ["info", str(out), "--json"]).output)
    assert facts["proteins"] == 168
    assert facts["cath"] == {"classes": 5, "architectures": 19, "topologies": 62, "superfamilies": 87}
    assert facts["fingerprint"] == Corpus.open(out).fingerprint


def test_boundaries_and_plddt(cath_dir: Path, tmp_path: Path) -> None:
    shutil.copy(cath_dir / "dompdb" / "1ubiA00", tmp_path / "1ubiA")
    (tmp_path / "cuts.txt").write_text("1ubiA01 1-20\n")
    out = tmp_path / "c.h5"
    options = ["--boundaries", str(tmp_path / "cuts.txt")]
    assert runner.invoke(app, ["build", "--cath", str(tmp_path), "-o", str(out), *options]).exit_code == 0
    assert Corpus.open(out).lengths.tolist() == [20]


def test_errors_are_protclips_own(tmp_path: Path) -> None:
    for command in (
        ["build", "--cath", str(tmp_path / "none"), "-o", "x.h5"],
        ["info", str(tmp_path / "none.h5")],
    ):
        result = runner.invoke(app, command)
        assert isinstance(result.exception, DataError)
        assert "none" in str(result.exception)


def test_interrupt_tells_how_to_go_on(
    cath_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("protclip.data.corpus.parse.parse_chunk", interrupted)
    result = runner.invoke(app, ["build", "--cath", str(cath_dir), "-o", str(tmp_path / "c.h5")])
    assert result.exit_code == 130
    assert "finished work is kept" in result.output


def test_help_loads_nothing_heavy() -> None:
    heavy = "('h5py', 'gemmi', 'torch', 'requests')"
    code = f"import sys, protclip.cli.data; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
