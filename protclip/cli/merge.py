"""``protclip merge``: the shards of ``protclip embed`` checked and joined."""

from __future__ import annotations

from pathlib import Path

import typer


def merge(
    folder: Path = typer.Argument(..., help="Folder of shards that `protclip embed` wrote."),
    out: Path = typer.Option(None, "-o", "--out", help="Parquet file to join them in [default: check only]."),
) -> None:
    """Check that all shards are there, sound and of one run; with -o, join them.

    Of ids that stand in two shards the first counts; what is left out is listed in OUT.failed.tsv.
    """
    from protclip.inference.merge import check_shards, merge_shards
    from protclip.work.outputs import failed_path

    shards = check_shards(folder, may_clash=out is not None)
    text = f"{len(shards.paths)} shards, {shards.rows} vectors of {shards.dim} dimensions"
    typer.echo(text + (f"; {len(shards.failed)} items failed" if shards.failed else ""))
    if out is not None:
        merge_shards(shards, out)
        if shards.clashes:
            typer.echo(f"{len(shards.clashes)} left out, whose ids stand twice: see {failed_path(out)}")
        typer.echo(f"joined: {out}")
