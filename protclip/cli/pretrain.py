"""``protclip pretrain``: align two modalities from partly paired data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.schema import LEARNING, RUN
from protclip.config.spelling import LOSS_ENTRIES, entries


@with_options(PretrainConfig)
def pretrain(
    preset: str | None = typer.Option(
        None,
        help="Weights of the objective: default, paper, released or released-vit [default: default].",
        rich_help_panel=LEARNING,
    ),
    loss: list[str] = typer.Option(
        [],
        help="Any entry of the objective, repeatable, e.g. --loss sdd_weight=0.5.",
        metavar="NAME=VALUE",
        rich_help_panel=LEARNING,
    ),
    no_ssl: bool = typer.Option(
        False, "--no-ssl", help="Without self-supervision.", rich_help_panel=LEARNING, hidden=True
    ),
    no_sdd: bool = typer.Option(
        False,
        "--no-sdd",
        help="Without the semantic density distribution loss.",
        rich_help_panel=LEARNING,
        hidden=True,
    ),
    no_mmd: bool = typer.Option(
        False, "--no-mmd", help="Without the kernel distance.", rich_help_panel=LEARNING, hidden=True
    ),
    out: Path | None = typer.Option(
        None, help="Run folder [default: runs/DATE-TIME-OBJECTIVE].", rich_help_panel=RUN
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with the run in --out, or with the newest unfinished.",
        rich_help_panel=RUN,
    ),
    config: Path | None = typer.Option(
        None,
        help="TOML file, as written into a run folder, or a published setting "
        "(flickr8k, mini-coco, remote-sensing); options override it.",
        rich_help_panel=RUN,
    ),
    **chosen: Any,
) -> None:
    """Train both towers so that matching items meet in one space: structures and sequences by default."""
    from protclip.training.run_folder import new_run_folder, newest_unfinished

    terms = {"ssl_weight": no_ssl, "sdd_weight": no_sdd, "mmd_weight": no_mmd}
    weights = {name: 0.0 for name, off in terms.items() if off} | entries(loss, "--loss", LOSS_ENTRIES)
    if resume and out is None:
        out = newest_unfinished(Path("runs"))
    options = {"config": config, "preset": preset, **chosen, **weights}
    settings = resolve(PretrainConfig, options, resume=out if resume else None)
    settings.source.validate()
    folder = out if out is not None else new_run_folder(Path("runs"), settings.train.objective)
    _run(settings, folder, resume)


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
