"""``protclip pretrain``: align two modalities from partly paired data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import entries, flags, with_options
from protclip.config.pretraining import (
    MACHINE_OPTIONS,
    DataConfig,
    ModelConfig,
    PretrainConfig,
    TrainConfig,
    merge,
    named_config,
)
from protclip.config.schema import LOSS, RUN
from protclip.config.sources import source_kinds
from protclip.errors import ConfigError


def train(
    preset: str = typer.Option(
        None, help="default, paper, released or released-vit [default: default].", rich_help_panel=LOSS
    ),
    loss: list[str] = typer.Option(
        [],
        help="Any entry of the objective, NAME=VALUE, repeatable, e.g. --loss sdd_weight=0.5.",
        rich_help_panel=LOSS,
    ),
    no_ssl: bool = typer.Option(False, "--no-ssl", help="Without self-supervision.", rich_help_panel=LOSS),
    no_sdd: bool = typer.Option(
        False, "--no-sdd", help="Without the semantic density distribution loss.", rich_help_panel=LOSS
    ),
    no_mmd: bool = typer.Option(False, "--no-mmd", help="Without the kernel distance.", rich_help_panel=LOSS),
    out: Path = typer.Option(
        None, help="Run folder [default: runs/<date>-<time>-<objective>].", rich_help_panel=RUN
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with the run in --out, or with the newest unfinished.",
        rich_help_panel=RUN,
    ),
    config: Path = typer.Option(
        None,
        help="TOML file, as written into a run folder, or the name of a published setting "
        "(flickr8k, mini-coco, remote-sensing); options override it.",
        rich_help_panel=RUN,
    ),
    **chosen: Any,
) -> None:
    """Train both towers so that matching items meet in one space: structures and sequences by default."""
    terms = {"ssl_weight": no_ssl, "sdd_weight": no_sdd, "mmd_weight": no_mmd}
    overrides: dict[str, Any] = {name: 0.0 for name, off in terms.items() if off} | entries(loss, "--loss")
    if resume:
        folder, settings = _resumed(out, config, chosen, preset, overrides)
    else:
        settings = _settings(config, chosen, preset, overrides)
        folder = _folder(out, settings)
    _run(settings, folder, resume)


pretrain = with_options(*source_kinds().values(), DataConfig, ModelConfig, TrainConfig)(train)


def _run(settings: PretrainConfig, folder: Path, resume: bool) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.training.pretrain import run_pretraining
    from protclip.training.report import metrics_lines, metrics_table

    display = TerminalDisplay()
    try:
        evaluation, losses, is_main = run_pretraining(settings, folder, display, resume=resume)
    finally:
        display.end()
    if not is_main:
        return
    console = Console()
    if losses:
        console.print(
            "final losses: " + ", ".join(f"{k} {v:.4f}" for k, v in losses.items()), highlight=False
        )
    if evaluation is None:
        console.print("no item was held out, so there is nothing to score")
    else:
        n = evaluation.metrics["retrieval"]["gallery"]
        console.print(metrics_table(evaluation.metrics, f"Retrieval on {n} {settings.source.title()}"))
        for line in metrics_lines(evaluation.metrics):
            console.print(line, highlight=False)
    console.print(f"model: {folder / 'model'}", highlight=False, soft_wrap=True)
    console.print(
        f"use it: protclip embed {folder / 'model'} -i ITEMS -o out.h5",
        highlight=False,
        soft_wrap=True,
    )


def _settings(
    config: Path | None, chosen: dict[str, Any], preset: str | None, overrides: dict[str, Any]
) -> PretrainConfig:
    from protclip.config.loss import LossConfig
    from protclip.config.presets import loss_preset

    base = PretrainConfig.load(named_config(config)) if config is not None else PretrainConfig()
    if preset is not None:
        base = dataclasses.replace(base, loss=loss_preset(preset))
        if preset != "default":  # as published: heads as they were trained
            chosen = {"refit": "none", **chosen}
    merged = merge(base, chosen)
    return dataclasses.replace(merged, loss=LossConfig.from_dict({**merged.loss.to_dict(), **overrides}))


def _folder(out: Path | None, settings: PretrainConfig) -> Path:
    from protclip.training.run_folder import new_run_folder

    return out if out is not None else new_run_folder(Path("runs"), settings.train.objective)


def _resumed(
    out: Path | None,
    config: Path | None,
    chosen: dict[str, Any],
    preset: str | None,
    overrides: dict[str, Any],
) -> tuple[Path, PretrainConfig]:
    """The folder to go on with and its own options; options given again must not contradict them."""
    from protclip.training.run_folder import newest_unfinished

    folder = out if out is not None else newest_unfinished(Path("runs"))
    if not (folder / "config.toml").exists():
        return folder, _settings(config, chosen, preset, overrides)
    saved = PretrainConfig.load(folder / "config.toml")
    if chosen.get("batch_size") == "auto":  # the folder has what came of it
        chosen.pop("batch_size")
    wished = merge(saved, chosen)
    wished_machine = merge(saved, {k: v for k, v in chosen.items() if k in MACHINE_OPTIONS})
    if wished != wished_machine or overrides or preset or config:
        raise ConfigError(
            "a resumed run keeps the options that it was started with",
            where=f"--resume of {folder}",
            hint=f"Give only {flags(MACHINE_OPTIONS)} again, or start a new run",
        )
    return folder, wished_machine
