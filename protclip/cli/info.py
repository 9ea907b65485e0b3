"""``protclip info``: what a file or folder is, how it was made, and what can be done with it next."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer


def info(
    path: Path = typer.Argument(..., help="Any file or folder that protclip writes or reads."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what a file or folder is, how it was made, and what can be done with it next."""
    from protclip.describe.kinds import describe

    facts = describe(path)
    if as_json:
        typer.echo(json.dumps(facts, indent=1, default=str))
        return
    for key, value in facts.items():
        for entry in value if isinstance(value, list) else [value]:
            typer.echo(f"{key}: {_text(entry)}")


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(entry)}" for key, entry in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
