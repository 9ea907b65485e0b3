"""``protclip data download fold|reaction|ec|go`` and ``protclip data build TASK``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Version(str, Enum):
    """EC and GO: the archive with structures, or the original lists and single PDB entries."""

    torchdrug = "torchdrug"
    deepfri = "deepfri"


class EntryFormat(str, Enum):
    """Format of single PDB entries."""

    bcif = "bcif"
    cif = "cif"


OUT = Annotated[Path | None, typer.Option("--out", "-o", help="Folder to make; in the cache by default.")]
FROM_FILE = Annotated[
    list[Path] | None,
    typer.Option(help="Archive or list fetched by hand; may be given several times."),
]
MIRROR = Annotated[str | None, typer.Option(help="Address that holds every file under its own name.")]
VERSION = Annotated[
    Version,
    typer.Option(help="torchdrug: one archive with structures; deepfri: original lists, PDB entries."),
]
STRUCTURES = Annotated[
    bool,
    typer.Option("--structures/--lists-only", help="Fetch the PDB entries of the listed chains as well."),
]
FORMAT = Annotated[
    EntryFormat | None, typer.Option("--format", help="Of PDB entries; bcif where biotite is installed.")
]


def _download(
    name: str,
    out: Path | None,
    from_file: list[Path] | None,
    mirror: str | None,
    version: Version = Version.torchdrug,
    structures: bool = True,
    entry_format: EntryFormat | None = None,
) -> None:
    from protclip.data.benchmarks.addresses import find_source
    from protclip.data.benchmarks.fetch import fetch_benchmark

    folder = fetch_benchmark(
        name,
        out,
        version=version.value,
        from_files=from_file or (),
        mirror=mirror,
        structures=structures,
        entry_format=entry_format.value if entry_format else None,
        progress=True,
        say=typer.echo,
    )
    typer.echo(find_source(name, version.value).licence)
    typer.echo(f"Next: protclip data build {name}" + (f" --from {folder}" if out else ""))


def download_fold(out: OUT = None, from_file: FROM_FILE = None, mirror: MIRROR = None) -> None:
    """Fetch the fold benchmark: HomologyTAPE lists and SCOP 1.75 domains."""
    _download("fold", out, from_file, mirror)


def download_reaction(
    out: OUT = None,
    from_file: FROM_FILE = None,
    mirror: MIRROR = None,
    structures: STRUCTURES = True,
    entry_format: FORMAT = None,
) -> None:
    """Fetch the enzyme reaction benchmark: ProtFunct lists and their PDB entries."""
    _download("reaction", out, from_file, mirror, structures=structures, entry_format=entry_format)


def download_ec(
    out: OUT = None,
    from_file: FROM_FILE = None,
    mirror: MIRROR = None,
    version: VERSION = Version.torchdrug,
    structures: STRUCTURES = True,
    entry_format: FORMAT = None,
) -> None:
    """Fetch the EC number benchmark."""
    _download("ec", out, from_file, mirror, version, structures, entry_format)


def download_go(
    out: OUT = None,
    from_file: FROM_FILE = None,
    mirror: MIRROR = None,
    version: VERSION = Version.torchdrug,
    structures: STRUCTURES = True,
    entry_format: FORMAT = None,
) -> None:
    """Fetch the Gene Ontology benchmark (one for the three namespaces)."""
    _download("go", out, from_file, mirror, version, structures, entry_format)


def register(download_app: typer.Typer) -> None:
    """Add the downloads of the downstream tasks to ``protclip data download``."""
    for command in (download_fold, download_reaction, download_ec, download_go):
        download_app.command(command.__name__.removeprefix("download_"))(command)


def build_task(
    task: str,
    out: Path | None = None,
    *,
    lists: Path | None = None,
    structures: Path | None = None,
    archive: Path | None = None,
    source: Path | None = None,
    workers: int | None = None,
) -> None:
    """Build the benchmark file of a task, or with ``go`` those of the three namespaces, and say what came."""
    import shutil

    from protclip.data.benchmarks.build_benchmark import build_benchmark, default_path
    from protclip.data.benchmarks.fetch import found_sources
    from protclip.errors import ConfigError

    tasks = ("go-mf", "go-bp", "go-cc") if task == "go" else (task,)
    if len(tasks) > 1 and out is not None:
        raise ConfigError(
            "one file for three tasks",
            where="--out",
            got=str(out),
            expected="go-mf, go-bp or go-cc as TASK",
            hint="Leave --out away to build all three in the cache",
        )
    given: dict[str, Path | None] = {"lists": lists, "structures": structures, "archive": archive}
    if not any(given.values()):
        from protclip.data.benchmarks.published import check_task

        check_task(tasks[0])
        given.update(found_sources(task, source))
    work = default_path(task).with_name(f"{task}.partial") if len(tasks) > 1 else None
    try:
        for name in tasks:
            report = build_benchmark(
                name,
                out,
                lists=given["lists"],
                structures=given["structures"],
                archive=given["archive"],
                work=work,
                workers=workers,
                progress=True,
            )
            typer.echo(str(report))
            typer.echo(f"Next: protclip finetune {name}" + (f" --data {out}" if out else ""))
    except KeyboardInterrupt:
        typer.echo("interrupted; finished work is kept, run the same command again", err=True)
        raise typer.Exit(130) from None
    if work is not None:
        shutil.rmtree(work, ignore_errors=True)
