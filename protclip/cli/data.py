"""``protclip data``: build, describe and fetch corpora."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from protclip.cli import benchmarks

app = typer.Typer(help="Build, describe and fetch corpora and benchmarks.", no_args_is_help=True)
download_app = typer.Typer(help="Fetch published data from its official source.", no_args_is_help=True)
app.add_typer(download_app, name="download")
benchmarks.register(download_app)


class CathSet(str, Enum):
    """CATH's non-redundant sets, by sequence identity."""

    S20 = "S20"
    S40 = "S40"


@app.command("build")
def build(
    task: Annotated[
        str | None,
        typer.Argument(
            help="fold, reaction, ec, go, go-mf, go-bp or go-cc for a benchmark; none for a corpus."
        ),
    ] = None,
    cath: Annotated[
        Path | None, typer.Option("--cath", help="CATH folder, or a flat folder of structure files.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write (.h5); benchmarks go into the cache by default."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; one per core by default, 1 for a small folder.")
    ] = None,
    min_plddt: Annotated[
        float | None,
        typer.Option(min=0, max=100, help="Leave out residues of predicted models below this pLDDT."),
    ] = None,
    boundaries: Annotated[
        Path | None, typer.Option(help="Domain boundary list that cuts whole-chain files.")
    ] = None,
    domain_list: Annotated[
        Path | None, typer.Option(help="CATH domain list; found in or above the folder by default.")
    ] = None,
    lists: Annotated[Path | None, typer.Option(help="TASK: folder of the published lists.")] = None,
    structures: Annotated[
        Path | None, typer.Option(help="TASK: folder of structures, or an unpacked torchdrug archive.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="TASK ec, go: EnzymeCommission.zip or GeneOntology.zip of torchdrug.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="TASK: folder that `protclip data download` made elsewhere.")
    ] = None,
) -> None:
    """Parse a folder of structures into one corpus file, or the benchmark of a TASK into one file.

    May be interrupted at any time: the same command goes on where it stopped.
    """
    if task is not None:
        if cath or min_plddt is not None or boundaries or domain_list:
            raise typer.BadParameter("--cath and its options make a corpus; leave TASK away")
        benchmarks.build_task(
            task, out, lists=lists, structures=structures, archive=archive, source=source, workers=workers
        )
        return
    if cath is None or out is None:
        raise typer.BadParameter("a corpus needs --cath DIR and --out FILE, a benchmark the name of a TASK")
    from protclip.data.corpus.build import build_corpus

    try:
        report = build_corpus(
            cath,
            out,
            workers=workers,
            progress=True,
            min_plddt=min_plddt,
            boundaries=boundaries,
            domain_list=domain_list,
        )
    except KeyboardInterrupt:
        typer.echo(
            f"interrupted; finished work is kept in {out}.partial, run the same command again", err=True
        )
        raise typer.Exit(130) from None
    typer.echo(str(report))
    typer.echo(f"Next: protclip pretrain --cath {out} --paired 0.5")


@app.command("info")
def info(
    file: Annotated[Path, typer.Argument(help="Corpus or benchmark file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything and compare with the checksum.")
    ] = False,
) -> None:
    """Describe a corpus or benchmark file; a benchmark beside its published counts."""
    from protclip.data.benchmarks.benchmark_file import Benchmark, is_benchmark
    from protclip.data.corpus.store import Corpus

    with Corpus.open(file) as corpus:
        if verify:
            corpus.verify()
        facts = corpus.info()
    if is_benchmark(file):
        with Benchmark.open(file) as benchmark:
            facts = benchmark.info()
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=str(file), show_header=False, title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for key, entry in entries:
            table.add_row(f"{name} {key}".strip().replace("_", " "), _text(entry))
    if verify:
        table.add_row("checksum", "fits the content")
    Console().print(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {entry}" for key, entry in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


@app.command("sample")
def sample(
    name: Annotated[str, typer.Argument(help="Sample to make, e.g. shapes.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
) -> None:
    """Write one of the small samples that protclip makes itself, without network."""
    from protclip.data.paired.matched import write_sample

    folder = write_sample(name, out)
    typer.echo(f"{name}: {folder}")


@download_app.command("cath")
def download_cath(
    release: Annotated[str, typer.Option(help="CATH release (v4_3_0, v4_4_0) or latest.")] = "v4_3_0",
    subset: Annotated[
        CathSet, typer.Option("--set", help="Non-redundant set, by sequence identity.")
    ] = CathSet.S40,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to make; in the cache by default.")
    ] = None,
    from_file: Annotated[
        list[Path] | None,
        typer.Option(help="Archive fetched by hand; give it again for cath-domain-list*.txt."),
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option(help="Address that stands in for https://download.cathdb.info/cath/releases."),
    ] = None,
) -> None:
    """Fetch and unpack a CATH domain set; an interrupted download is continued."""
    from protclip.data.corpus.releases import CATH, LICENCE, fetch_cath

    folder = fetch_cath(
        out,
        release=release,
        subset=subset.value,
        from_files=from_file or (),
        base=mirror or CATH,
        progress=True,
        say=typer.echo,
    )
    typer.echo(LICENCE)
    typer.echo(f"Next: protclip pretrain --cath {folder} --paired 0.5")
