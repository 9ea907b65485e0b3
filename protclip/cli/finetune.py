"""``protclip finetune``: train and score a head for a downstream task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.resolve import resolve
from protclip.config.schema import RUN
from protclip.errors import ConfigError
from protclip.tasks.config import FinetuneConfig


@with_options(FinetuneConfig)
def finetune(
    task: str = typer.Argument(None, help="fold, reaction, go-mf, go-bp, go-cc or ec."),
    out: Path = typer.Option(None, help="Run folder [default: runs/DATE-TIME-TASK].", rich_help_panel=RUN),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with the run in --out, or with the newest unfinished.",
        rich_help_panel=RUN,
    ),
    config: Path = typer.Option(
        None, help="TOML file, as written into a run folder; options override it.", rich_help_panel=RUN
    ),
    **chosen: Any,
) -> None:
    """Train a head for a task, score it by the published protocol, and save it for `protclip predict`."""
    if task is not None:
        chosen["task"] = task
    folder, settings = _resumed(out, chosen, config) if resume else _new(out, chosen, config)
    _run(settings, folder, resume)


def _new(out: Path | None, chosen: dict[str, Any], config: Path | None) -> tuple[Path, FinetuneConfig]:
    from protclip.training.run_folder import new_run_folder

    if "task" not in chosen and config is None:
        raise ConfigError(
            "no task is named", where="TASK", expected="fold, reaction, go-mf, go-bp, go-cc, ec"
        )
    settings = resolve(FinetuneConfig, {"config": config, **chosen})
    return out if out is not None else new_run_folder(Path("runs"), settings.task), settings


def _resumed(out: Path | None, chosen: dict[str, Any], config: Path | None) -> tuple[Path, FinetuneConfig]:
    from protclip.training.run_folder import newest_unfinished

    folder = out if out is not None else newest_unfinished(Path("runs"), result="head", entry="task")
    if not (folder / "config.toml").exists():
        return _new(folder, chosen, config)
    return folder, resolve(FinetuneConfig, {"config": config, **chosen}, resume=folder)


def _run(settings: FinetuneConfig, folder: Path, resume: bool) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.tasks.find_benchmark import open_benchmark
    from protclip.tasks.finetune import Finetuning
    from protclip.tasks.report import results_lines, results_table

    display = TerminalDisplay()
    run = Finetuning(settings, folder, lambda: open_benchmark(settings.task, settings.data), display)
    try:
        metrics = run.run(resume=resume)
    finally:
        display.end()
    if not run.is_main:
        return
    console = Console()
    console.print(results_table(metrics))
    for line in results_lines(metrics):
        console.print(line, highlight=False)
    console.print(f"head: {folder / 'head'}", highlight=False, soft_wrap=True)
    console.print(
        f"use it: protclip predict {folder / 'head'} {_input(settings)} -o out.tsv",
        highlight=False,
        soft_wrap=True,
    )


def _input(settings: FinetuneConfig) -> str:
    """What the head is given, as options of ``protclip predict``."""
    if settings.vectors:
        return f"-i {'VECTORS' if settings.towers == 'sequence' else 'STRUCTURES --vectors VECTORS'}"
    return f"-i {'FASTA' if settings.towers == 'sequence' else 'STRUCTURES'}"
