"""A small model trained once through the command line on the shipped corpus."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from protclip.cli.app import app

QUICK = [
    *("--structure-size", "tiny", "--sequence-encoder", "scratch", "--esm-init", "random"),
    *("--batch-size", "16", "--device", "cpu", "--dim", "32", "--no-plots", "--refit", "none"),
]
"""Options of a run of seconds; pictures and refit would take as long again."""

COMMAND = [sys.executable, "-m", "protclip"]
"""The installed command, independent of PATH."""

Cli = Callable[..., Result]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run the command in this process; errors of the package come out as exceptions."""

    def run(*arguments: object, ok: bool = True) -> Result:
        result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=not ok)
        if ok:
            assert result.exit_code == 0, result.output
        return result

    return run


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Options of a run of seconds."""
    return QUICK


@pytest.fixture(scope="session")
def command() -> list[str]:
    """Start of a command line that runs protclip in another process."""
    return COMMAND


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory, cath_dir: Path, cli: Cli) -> Path:
    """Run folder of a small finished pretraining, with all that an ordinary one has."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    ordinary = [*QUICK, "--plots", "--refit", "auto"]
    cli("pretrain", "--cath", cath_dir, "--paired", 0.5, "--steps", 6, "--out", folder, *ordinary)
    return folder
