"""``protclip embed``: vectors of items into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from protclip.inference.aligned_model import AlignedModel
    from protclip.inference.shards import ShardsReport
    from protclip.inference.to_file import EmbedReport


def embed(
    model: Path = typer.Argument(..., help="Model folder or run folder."),
    input: Path = typer.Option(
        ...,
        "-i",
        "--input",
        help="Items as one of the two modalities reads them: file, folder, or - (stdin).",
    ),
    out: Path = typer.Option(..., "-o", "--out", help="Output: .h5 or .parquet; for shards, a folder."),
    modality: str = typer.Option(
        None, help="Which of the two modalities it is [default: by the looks of the input]."
    ),
    per_residue: bool = typer.Option(False, help="Also write the tower's residue features (HDF5)."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="auto (bf16 on CUDA), fp32 or bf16."),
    shard: str = typer.Option(
        None,
        help="Only part i/n of the input, 1/n to n/n; each may run on another machine.",
        show_default=False,
    ),
    shards: int = typer.Option(None, min=1, help="All parts of a cut into so many, one after the other."),
    engine: str = typer.Option("local", help="local, or ray: all --shards at once on Ray Data."),
    workers: int = typer.Option(None, min=1, help="Ray: models at work [default: as many as fit]."),
    gpu_share: float = typer.Option(1.0, help="Ray: part of a GPU for each of them."),
) -> None:
    """Embed a file or folder; an interrupted run goes on when the same command is given again."""
    from protclip.cli.display import TerminalDisplay
    from protclip.inference.aligned_model import load
    from protclip.inference.encode import running_total
    from protclip.inference.to_file import embed_to_file

    _check_engine(engine, shard, shards, per_residue)
    loaded = load(model, device, precision=precision)
    name = modality or loaded.side_of(input)
    if shard or shards:
        _embed_shards(
            loaded, name, input, out, shard, shards, engine, (device, precision), workers, gpu_share
        )
        return
    display = TerminalDisplay()
    display.begin_stream(f"embedding ({name})")
    try:
        report = embed_to_file(
            loaded, name, input, out, per_residue=per_residue, done=running_total(display.count)
        )
    finally:
        display.end()
    text = _counts(report, "by an earlier, interrupted run")
    if report.skipped or report.failed:
        text += f", listed in {report.failed_list}"
    typer.echo(f"{text}: {report.out}")
    for remark, count in report.remarks.items():
        typer.echo(f"{count} {remark}")


def _counts(report: EmbedReport | ShardsReport, earlier: str) -> str:
    """What became of all inputs, in words; the numbers add up."""
    text = f"{report.inputs} inputs: {report.embedded} embedded"
    if report.resumed:
        text += f" ({report.resumed} of them {earlier})"
    return f"{text}, {report.skipped} skipped, {report.failed} failed"


def _check_engine(engine: str, shard: str | None, shards: int | None, per_residue: bool) -> None:
    from protclip.errors import ConfigError

    if engine not in ("local", "ray"):
        raise ConfigError("unknown engine", where=f"--engine {engine}", expected="local or ray")
    if shard is not None and shards is not None:
        raise ConfigError("one part or all of them?", where="--shard and --shards", expected="one of the two")
    if engine == "ray" and shards is None:
        raise ConfigError("into how many parts?", where="--engine ray", hint="Add --shards N")
    if per_residue and (shard is not None or shards is not None):
        raise ConfigError("shards hold no residue features", where="--per-residue", expected="no --shard")


def _embed_shards(
    model: AlignedModel,
    name: str,
    input: Path,
    out: Path,
    shard: str | None,
    shards: int | None,
    engine: str,
    compute: tuple[str, str],
    workers: int | None,
    gpu_share: float,
) -> None:
    """One shard, or all of them, in this process or on Ray."""
    from protclip.data.files.spans import parse_shard
    from protclip.errors import DataError
    from protclip.inference.shards import RayJob, ShardsReport, embed_on_ray, embed_shard, list_files

    files = list_files(model, name, input.absolute())
    numbers, count = range(1, (shards or 0) + 1), shards or 0
    if shard is not None:
        number, count = parse_shard(shard)
        numbers = range(number, number + 1)
    if engine == "ray":
        job = RayJob(model.path.absolute(), name, files, count, out.absolute(), *compute)
        report = embed_on_ray(job, workers=workers, gpu_share=gpu_share)
    else:
        report = ShardsReport()
        for number in numbers:
            one = embed_shard(model, name, files, number, count, out)
            report.add(vars(one))
    typer.echo(f"{report.shards} of {count} shards: {_counts(report, 'by an earlier run')}: {out}")
    if report.errors:
        number, reason = next(iter(report.errors.items()))
        raise DataError(
            f"{len(report.errors)} shards could not be made",
            where=str(out),
            got=f"shard {number}: {reason}",
            hint="The same command makes those that are lacking",
        )
