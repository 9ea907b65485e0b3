"""``protclip predict``: classes of new proteins from a trained head."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from protclip.errors import ConfigError

if TYPE_CHECKING:
    from protclip.tasks.selection import Threshold


def predict(
    head: Path = typer.Argument(..., help="Head folder or run folder of `protclip finetune`."),
    input: Path = typer.Option(
        ..., "-i", "--input", help="FASTA or structure file, folder of structures, HDF5 vectors."
    ),
    out: Path = typer.Option(..., "-o", "--out", help="Output: .tsv, .json or .parquet."),
    top_k: int = typer.Option(
        None, help="At most so many classes per protein [default: 1, or 5 for tasks with several]."
    ),
    threshold: str = typer.Option(
        None, help="Least probability, or `fmax`: the threshold of the highest F1 on validation."
    ),
    propagate: Path = typer.Option(
        None, help="go-basic.obo: GO terms get at least the highest score of their descendants."
    ),
    ec_consistent: bool = typer.Option(
        False, "--ec-consistent", help="EC classes get at least the highest score of what they contain."
    ),
    vectors: Path = typer.Option(
        None, help="HDF5 embeddings by protein id, for a head trained with --towers both --vectors."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    precision: str = typer.Option("auto", help="auto (bf16 on CUDA), fp32 or bf16."),
) -> None:
    """Predict classes with calibrated probabilities; inputs that fail are listed in <out>.failed.tsv."""
    from protclip.cli.display import TerminalDisplay
    from protclip.inference.encode import running_total
    from protclip.tasks.dataset import DEMONSTRATION
    from protclip.tasks.predict import load_head
    from protclip.tasks.predict_files import predict_to_file

    least = _threshold(threshold)
    loaded = load_head(head, device, precision=precision, vectors=vectors)
    display = TerminalDisplay()
    if loaded.demonstration:
        display.say(f"the head was trained on the sample that ships with protclip: {DEMONSTRATION}")
    if loaded.sequences_alone(input):
        display.say(
            "the input holds sequences, so the head's classifier for sequences alone is used, not the one "
            f"for both towers (validation {loaded.task.metric} {loaded.sequence_only['valid']:.3f} against "
            f"{loaded.facts['valid']:.3f})"
        )
    display.begin_stream(f"predicting {loaded.task.name}")
    try:
        report = predict_to_file(
            loaded,
            input,
            out,
            top_k=top_k,
            threshold=least,
            propagate=propagate,
            ec_consistent=ec_consistent,
            done=running_total(display.count),
        )
    finally:
        display.end()
    text = f"{report.inputs} inputs: {report.predicted} predicted"
    if report.resumed:
        text += f" ({report.resumed} of them by an earlier, interrupted run)"
    text += f", {report.skipped} skipped, {report.failed} failed"
    if report.failed_list:
        text += f", listed in {report.failed_list}"
    typer.echo(f"{text}: {report.out}")


def _threshold(text: str | None) -> Threshold:
    if text is None or text == "fmax":
        return text  # type: ignore[return-value]
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            "neither a number nor fmax", where="--threshold", got=repr(text), expected="0 to 1, or fmax"
        ) from None
