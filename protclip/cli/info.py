"""``protclip info``: what a model, run or corpus is."""

from __future__ import annotations

from pathlib import Path

import typer


def info(
    path: Path = typer.Argument(..., help="Model folder, run folder, corpus file or embeddings file."),
) -> None:
    """Describe a model, a run, a corpus or an embeddings file."""
    from protclip.describe import describe

    for key, value in describe(path).items():
        typer.echo(f"{key}: {value}")
