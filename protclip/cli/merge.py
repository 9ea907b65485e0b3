"""``protclip merge``: the shards of ``protclip embed`` checked and joined."""

from __future__ import annotations

from pathlib import Path

import typer


def merge(
    folder: Path = typer.Argument(..., help="Folder of shards that `protclip embed` wrote."),
    out: Path = typer.Option(None, "-o", "--out", help="Parquet file to join them in [default: check only]."),
) -> None:
    """Check that all shards are there, sound and of one run; with -o, join them."""
    from protclip.inference.shards import check_shards, merge_shards

    shards = check_shards(folder)
    text = f"{len(shards.paths)} shards, {shards.rows} vectors of {shards.dim} dimensions"
    typer.echo(text + (f"; {len(shards.failed)} items failed" if shards.failed else ""))
    if out is not None:
        merge_shards(shards, out)
        typer.echo(f"joined: {out}")
