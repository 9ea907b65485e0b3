"""``protclip evaluate``: retrieval and nearest-neighbour accuracy of a model on a corpus."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.checks import check_choice
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.sources import DEFAULT_SOURCE, source_options
from protclip.errors import ConfigError

if TYPE_CHECKING:
    from protclip.inference.aligned_model import AlignedModel
    from protclip.typing import Say

SPLITS = ("auto", "all")


@with_options(PretrainConfig, only=lambda option: bool(option.field.metadata["evaluation"]))
def evaluate(
    model: Path = typer.Argument(..., help="Model folder or run folder."),
    split: str = typer.Option("auto", help="auto: only what was held out of training; all: every item."),
    gallery: int = typer.Option(None, help="Score within blocks of this many items, as some papers do."),
    zero_shot: Path | None = typer.Option(
        None, help="Instead: classify the items of this folder of classes by prompts of the other side."
    ),
    prompt: list[str] = typer.Option(
        [], help="Prompt with {} for the class name; several are averaged [default: a photograph of {}.]."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print the metrics object as JSON."),
    **chosen: Any,
) -> None:
    """Score cross-modal retrieval in both directions, and k-NN accuracy where items have classes."""
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.inference.aligned_model import load
    from protclip.inference.held_out import evaluate_held_out
    from protclip.training.report import metrics_lines, metrics_table

    check_choice("--split", split, SPLITS)
    machine = {name: chosen.pop(name) for name in list(chosen) if name in ("device", "precision")}
    train = resolve(PretrainConfig, machine).train
    display = TerminalDisplay()
    loaded = load(model, train.device, precision=train.precision)
    if zero_shot is not None:
        _zero_shot(loaded, zero_shot, prompt, as_json, display.say)
        return
    kind = str(loaded.facts.get("source", DEFAULT_SOURCE))
    options = resolve(PretrainConfig, chosen, base=PretrainConfig(source=source_options(kind)())).source
    if options.kind != kind:
        raise ConfigError(
            "the model was trained on a source of another kind",
            where=str(model),
            got=f"options of {options.kind!r}",
            expected=repr(kind),
        )
    result = evaluate_held_out(loaded, options, split=split, block=gallery, say=display.say)
    if as_json:
        typer.echo(json.dumps(result.metrics, indent=2))
        return
    console = Console()
    n = result.metrics["retrieval"]["gallery"]
    where = f", in blocks of {gallery}" if gallery else ""
    console.print(metrics_table(result.metrics, f"Retrieval on {n} items{where}"))
    for line in metrics_lines(result.metrics):
        console.print(line, highlight=False)


def _zero_shot(model: AlignedModel, folder: Path, prompts: list[str], as_json: bool, say: Say) -> None:
    from rich.console import Console

    from protclip.inference.zero_shot import TEMPLATE
    from protclip.inference.zero_shot import zero_shot as classify
    from protclip.training.report import zero_shot_table

    metrics = classify(model, folder, prompts or [TEMPLATE], say=say).metrics()
    if as_json:
        typer.echo(json.dumps({"zero_shot": metrics}, indent=2))
    else:
        Console().print(zero_shot_table(metrics, f"Zero-shot on {folder}"))
