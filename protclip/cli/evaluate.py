"""``protclip evaluate``: retrieval and nearest-neighbour accuracy of a model on a corpus."""

from __future__ import annotations

import json
from pathlib import Path

import typer


def evaluate(
    model: Path = typer.Argument(..., help="Model folder or run folder."),
    cath: str = typer.Option(None, help="CATH folder or corpus file [default: the shipped corpus]."),
    vectors: str = typer.Option(
        None, help="HDF5 embeddings for the vector side of a model trained on vectors."
    ),
    split: str = typer.Option(
        "auto", help="auto: held-out superfamilies only (not in training); all: every domain of the corpus."
    ),
    gallery: int = typer.Option(None, help="Score within blocks of this many items, as some papers do."),
    as_json: bool = typer.Option(False, "--json", help="Print the metrics object as JSON."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="auto (bf16 on CUDA), fp32 or bf16."),
) -> None:
    """Score cross-modal retrieval in both directions and k-NN accuracy at the CATH levels."""
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.corpus_evaluation import evaluate_corpus
    from protclip.embedding import load
    from protclip.training.report import metrics_lines, metrics_table

    display = TerminalDisplay()
    loaded = load(model, device, precision=precision)
    result = evaluate_corpus(
        loaded, cath or "", vectors=vectors or "", split=split, block=gallery, say=display.say
    )
    if as_json:
        typer.echo(json.dumps(result.metrics, indent=2))
        return
    console = Console()
    n = result.metrics["retrieval"]["gallery"]
    where = f", in blocks of {gallery}" if gallery else ""
    console.print(metrics_table(result.metrics, f"Retrieval on {n} domains{where}"))
    for line in metrics_lines(result.metrics):
        console.print(line, highlight=False)
