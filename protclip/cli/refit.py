"""``protclip refit``: new linear heads for a trained model, in closed form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.checks import check_choice
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.sources import DEFAULT_SOURCE, source_options
from protclip.config.spelling import FlatOption
from protclip.errors import ConfigError

METHODS = ("transport", "cca", "auto")


def _of_items(option: FlatOption) -> bool:
    return option.section in ("source", "data") or option.field.name in ("seed", "device", "precision")


@with_options(PretrainConfig, only=_of_items, defaults=False)
def refit(
    model: Path = typer.Argument(..., help="Run folder or model folder; it is not changed."),
    out: Path = typer.Option(..., "-o", "--out", help="Model folder to write."),
    method: str = typer.Option(
        "transport",
        help="transport: pairs and the whole unpaired pools; cca: the pairs alone; auto: one of these if "
        "validation items are clearly better by it.",
    ),
    **chosen: Any,
) -> None:
    """Refit the heads of a trained model as linear maps; items and pairing are the run's unless given."""
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.inference.encode import pick_device
    from protclip.training.refit_model import refit_model
    from protclip.training.report import metrics_lines, metrics_table, retrieval_lines

    check_choice("--method", method, METHODS)
    # The items are the run's, the machine is this one.
    config = resolve(PretrainConfig, {"device": "auto", **chosen}, base=_base(model))
    report = refit_model(
        model, config, out, method=method, device=pick_device(config.train.device), say=TerminalDisplay().say
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
    source = source_options(str(facts.get("source", DEFAULT_SOURCE)), f"{model}: source")()
    if not source.implementation:
        raise ConfigError("the items of this model are not known", where=str(model), got="Python objects")
    return resolve(PretrainConfig, known, base=PretrainConfig(source=source))
