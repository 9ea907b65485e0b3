"""``protclip finetune``: train and score a head for a downstream task."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.resolve import resolve
from protclip.config.schema import RUN
from protclip.errors import ConfigError
from protclip.tasks.config import AUTO, FinetuneConfig


@with_options(FinetuneConfig)
def finetune(
    task: str | None = typer.Argument(None, help="fold, reaction, go-mf, go-bp, go-cc or ec."),
    out: Path | None = typer.Option(
        None, help="Run folder [default: runs/DATE-TIME-TASK].", rich_help_panel=RUN
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with the run in --out, or with the newest unfinished.",
        rich_help_panel=RUN,
    ),
    config: Path | None = typer.Option(
        None, help="TOML file, as written into a run folder; options override it.", rich_help_panel=RUN
    ),
    **chosen: Any,
) -> None:
    """Train a head for a task, score it by the published protocol, and save it for `protclip predict`.

    Without options: on the built benchmark, which is fetched where it has to be, from the newest finished run
    in `runs/`.
    """
    if task is not None:
        chosen["task"] = task
    if config is None:  # a resumed run's own file says what that stood for
        chosen.setdefault("model", AUTO)
    elif "data" in chosen:
        chosen["fallback"] = None
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
    from protclip.tasks.find_benchmark import get_by_hand
    from protclip.tasks.finetune import Finetuning, prepare
    from protclip.tasks.report import demonstration_warning, results_lines, results_table
    from protclip.training.run_folder import check_free
    from protclip.typing import Silent

    speaks = _is_first_process()
    if speaks and not resume:
        check_free(folder)  # before hours of fetching
    display = TerminalDisplay() if speaks else Silent()
    settings, benchmark = prepare(
        settings,
        folder,
        resume=resume,
        say=display.say,
        warn=_warn if speaks else lambda text: None,
        progress=speaks,
    )
    run = Finetuning(settings, folder, lambda: benchmark, display)
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
    typer.echo(f"head: {folder / 'head'}")
    typer.echo(f"use it: {shlex.join(['protclip', 'predict', str(folder / 'head'), *_input(settings)])}")
    if settings.fallback:
        typer.echo(f"for the benchmark: this command where there is a network. {get_by_hand(settings.task)}")
    if metrics["benchmark"]["demonstration"]:
        _warn(demonstration_warning(settings.task, metrics["benchmark"]["note"]))


def _warn(text: str) -> None:
    typer.secho(text, fg=typer.colors.RED, bold=True)


def _is_first_process() -> bool:
    """Whether this process speaks for all; launchers number theirs in these variables."""
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def _input(settings: FinetuneConfig) -> list[str]:
    """What the head is given, as options of ``protclip predict``."""
    if settings.towers == "sequence":
        given = ["-i", "VECTORS" if settings.vectors else "FASTA"]
    else:
        given = ["-i", "STRUCTURES", *(["--vectors", "VECTORS"] if settings.vectors else [])]
    return [*given, "-o", "out.tsv"]
