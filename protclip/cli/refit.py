"""``protclip refit``: new linear heads for a trained model, in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.pretraining import DataConfig, PretrainConfig, merge
from protclip.config.sources import DEFAULT_SOURCE, source_kinds, source_options
from protclip.errors import ConfigError


@with_options(*source_kinds().values(), DataConfig)
def refit(
    model: Path = typer.Argument(..., help="Run folder or model folder; it is not changed."),
    out: Path = typer.Option(..., "-o", "--out", help="Model folder to write."),
    method: str = typer.Option(
        "transport",
        help="transport: pairs and the whole unpaired pools; cca: the pairs alone; auto: one of these if "
        "validation items are clearly better by it.",
    ),
    seed: int = typer.Option(None, help="Decides which items keep their pairing [default: the run's]."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or cuda:N."),
    **chosen: Any,
) -> None:
    """Refit the heads of a trained model as linear maps; items and pairing are the run's unless given."""
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.inference.encode import pick_device
    from protclip.training.refit_model import refit_model
    from protclip.training.report import metrics_lines, metrics_table, retrieval_lines

    if seed is not None:
        chosen["seed"] = seed
    config = merge(_base(model), chosen)
    report = refit_model(
        model, config, out, method=method, device=pick_device(device), say=TerminalDisplay().say
    )
    console = Console()
    if report.before is not None and report.after is not None:
        for line in retrieval_lines(report.before):
            console.print(f"before: {line}", highlight=False)
        n = report.after["retrieval"]["gallery"]
        console.print(metrics_table(report.after, f"After the refit, on {n} {config.source.title()}"))
        for line in metrics_lines(report.after):
            console.print(line, highlight=False)
    console.print(f"model: {report.out}", highlight=False, soft_wrap=True)


def _base(model: Path) -> PretrainConfig:
    """The run's own options, or for a bare model folder those its facts tell."""
    from protclip.model.folder import find_model, read_config

    for folder in (model, find_model(model).parent):
        if (folder / "config.toml").is_file() and (folder / "model").is_dir():
            return PretrainConfig.load(folder / "config.toml")
    facts = read_config(find_model(model), "model", expected="a model folder").get("training", {})
    known = {name: facts[name] for name in ("split_seed", "valid_fraction", "test_fraction") if name in facts}
    if "paired_fraction" in facts:
        known["paired"] = facts["paired_fraction"]
    if "seed" in facts:
        known["seed"] = facts["seed"]
    kind = str(facts.get("source", DEFAULT_SOURCE))
    if kind not in source_kinds():
        raise ConfigError("the items of this model are not known", where=str(model), got=f"source {kind!r}")
    return merge(PretrainConfig(source=source_options(kind)()), known)
