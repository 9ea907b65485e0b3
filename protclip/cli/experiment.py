"""``protclip experiment``: every arm of a comparison with several seeds, and a report."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from protclip.cli.option_fields import with_options
from protclip.config.pretraining import PretrainConfig
from protclip.config.schema import LEARNING, RUN
from protclip.config.spelling import LOSS_ENTRIES, as_arguments, entries
from protclip.errors import ConfigError, ProtclipError

if TYPE_CHECKING:
    from protclip.experiments.commands import Plan

ARMS, DOWNSTREAM = "Experiment", "Downstream"


@with_options(PretrainConfig, advanced=True)
def experiment(
    name: str | None = typer.Argument(None, help="See --list."),
    list_: bool = typer.Option(
        False, "--list", help="Show the experiments, or the arms of NAME.", rich_help_panel=ARMS
    ),
    dry_run: bool = typer.Option(
        False, "--dry-run", help="Print the commands and run nothing.", rich_help_panel=ARMS
    ),
    out: Path | None = typer.Option(
        None,
        help="Result folder; the same again goes on with it [default: experiments/NAME].",
        rich_help_panel=ARMS,
    ),
    seeds: int = typer.Option(3, help="Repetitions of each arm, from --seed on.", rich_help_panel=ARMS),
    jobs: int = typer.Option(1, help="Runs at a time.", rich_help_panel=ARMS),
    threads: int | None = typer.Option(
        None, help="Threads of each run [default: the processors shared out].", rich_help_panel=ARMS
    ),
    gpus: str = typer.Option(
        "", help="Devices to deal out to the runs, e.g. 0,1,2,3 (CUDA_VISIBLE_DEVICES).", rich_help_panel=ARMS
    ),
    arms: list[str] = typer.Option(
        [], help="Only arms whose name matches, e.g. 'setclip*'; repeatable.", rich_help_panel=ARMS
    ),
    report: bool = typer.Option(
        False, "--report", help="Only write the report of what is finished.", rich_help_panel=ARMS
    ),
    tasks: str | None = typer.Option(
        None, help="Downstream tasks, e.g. fold,ec, or none.", rich_help_panel=DOWNSTREAM
    ),
    task_option: list[str] = typer.Option(
        [],
        help="Option of protclip finetune, repeatable, e.g. data=sample.",
        metavar="NAME=VALUE",
        rich_help_panel=DOWNSTREAM,
    ),
    zero_shot: list[str] = typer.Option(
        [],
        help="Folder of labelled items for zero-shot classification; repeatable.",
        rich_help_panel=DOWNSTREAM,
    ),
    prompt: list[str] = typer.Option(
        [], help="Prompt with {} for the class name; several are averaged.", rich_help_panel=DOWNSTREAM
    ),
    preset: str | None = typer.Option(None, help="As for protclip pretrain.", rich_help_panel=LEARNING),
    loss: list[str] = typer.Option(
        [], help="Any entry of the objective, repeatable.", metavar="NAME=VALUE", rich_help_panel=LEARNING
    ),
    config: Path | None = typer.Option(
        None, help="As for protclip pretrain, for every arm.", rich_help_panel=RUN
    ),
    model: Path | None = typer.Option(
        None, help="sampling-size: a trained model instead of untrained towers.", rich_help_panel=ARMS
    ),
    tolerance: float = typer.Option(
        0.01, help="sampling-size: largest divergence from the whole set.", rich_help_panel=ARMS
    ),
    **chosen: Any,
) -> None:
    """Run every arm of an experiment with several seeds on the same split and budget, and write a report.

    Every option of `protclip pretrain` is taken too, e.g. --cath, --epochs or --device, and
    goes to every arm. Finished runs are kept and unfinished ones resumed when the same command is given
    again.
    """
    from protclip.experiments.catalogue import find_experiment
    from protclip.experiments.commands import Plan
    from protclip.experiments.plan_folder import open_plan

    if name is None or list_:
        _show(name)
        return
    wanted = find_experiment(name)
    given = {**chosen, **entries(loss, "--loss", LOSS_ENTRIES)}
    given |= {k: str(v) for k, v in (("preset", preset), ("config", config)) if v is not None}
    folder = out if out is not None else Path("experiments") / name
    if wanted.kind == "sampling-size":
        _sampling_size(given, folder, seeds, model, tolerance, dry_run)
        return
    if model is not None:
        raise ConfigError("only sampling-size takes one", where="--model")
    plan = open_plan(
        Plan(
            wanted,
            folder,
            given=given,
            seeds=seeds,
            arms=tuple(arms),
            tasks=_tasks(tasks),
            task_options=entries(task_option, "--task-option"),
            zero_shot=tuple(zero_shot),
            prompts=tuple(prompt),
        )
    )
    if dry_run:
        _dry_run(plan)
        return
    _run(plan, jobs=jobs, threads=threads, gpus=[g for g in gpus.split(",") if g.strip()], only_report=report)


def _run(plan: Plan, *, jobs: int, threads: int | None, gpus: list[str], only_report: bool) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.experiments.plan_folder import save_plan
    from protclip.experiments.report import summary_table, write_report
    from protclip.experiments.runner import Runner

    display = TerminalDisplay()
    save_plan(plan)
    runs = plan.runs()
    left = [run for run in runs if not run.finished]
    if len(left) < len(runs):
        display.say(f"{len(runs) - len(left)} of {len(runs)} runs are finished already")
    outcomes = []
    if left and not only_report:
        runner = Runner(left, display=display, jobs=jobs, threads=threads, gpus=gpus)
        outcomes = runner.run(plan.experiment.name)
    write_report(plan, outcomes)
    if (table := summary_table(plan)) is not None:
        Console().print(table)
    typer.echo(f"report: {plan.out / 'results.md'}")
    finished, failed = sum(r.finished for r in runs), sum(o.state in ("failed", "busy") for o in outcomes)
    if any(o.state == "interrupted" for o in outcomes):
        raise Stopped(
            f"stopped; {finished} of {len(runs)} runs are finished, the rest is saved",
            where=str(plan.out),
            hint="The same command goes on",
        )
    if failed:
        raise ProtclipError(
            f"{failed} of {len(runs)} runs failed; the others are in the report",
            where=str(plan.out),
            hint="The end of results.md says why; the same command tries them again",
        )


class Stopped(ProtclipError):
    """The experiment was stopped by the user; everything is saved."""

    exit_code = 130


def _tasks(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return () if text == "none" else tuple(part.strip() for part in text.split(",") if part.strip())


def _dry_run(plan: Plan) -> None:
    from protclip.experiments.commands import shown

    typer.echo(f"# Options of each run go to {plan.out}/runs/ARM/seed-N.toml, from where")
    typer.echo("# `protclip pretrain --config` reads them; the same with flags, which needs no file:")
    for run in plan.runs():
        for stage in run.stages:
            done = "# finished: " if stage.finished else ""
            typer.echo(done + shown(stage.resume if stage.started else stage.arguments))


def _show(name: str | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from protclip.experiments.catalogue import EXPERIMENTS, find_experiment

    console = Console()
    if name is None:
        table = Table(title="Experiments", title_justify="left")
        for column in ("name", "question", "arms"):
            table.add_column(column)
        for found in EXPERIMENTS.values():
            table.add_row(found.name, found.title, str(len(found.arms)) if found.arms else "analysis")
        console.print(table)
        typer.echo("protclip experiment NAME --list shows its arms, --dry-run its commands")
        return
    found = find_experiment(name)
    console.print(f"{found.name}: {found.title}\n{found.about}", highlight=False)
    for what, value in (
        ("baseline", found.baseline),
        ("ceiling", found.ceiling),
        ("downstream tasks", ", ".join(found.tasks)),
        ("defaults, which your options override", shlex.join(as_arguments(found.options, PretrainConfig))),
        ("needs", ", ".join(f"--{option}" for option in found.needs)),
    ):
        if value:
            console.print(f"{what}: {value}", highlight=False)
    if found.arms:
        table = Table("arm", "options")
        for arm in found.arms:
            table.add_row(
                arm.slug,
                " ".join(as_arguments(arm.options, PretrainConfig)) if arm.pretrained else "no pretraining",
            )
        console.print(table)


def _sampling_size(
    given: Mapping[str, Any], out: Path, repeats: int, model: Path | None, tolerance: float, dry_run: bool
) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.experiments.commands import shown
    from protclip.experiments.sampling import sampling_size

    parts = ["experiment", "sampling-size", *as_arguments(given, PretrainConfig), "--seeds", str(repeats)]
    parts += ["--model", str(model)] if model is not None else []
    command = shown([*parts, "--tolerance", str(tolerance), "--out", str(out)])
    if dry_run:
        typer.echo(command)
        return
    display = TerminalDisplay()
    try:
        lines = sampling_size(
            out,
            options=given,
            model=model,
            seeds=repeats,
            tolerance=tolerance,
            command=command,
            display=display,
        )
    finally:
        display.end()
    console = Console()
    for line in lines:
        console.print(line, highlight=False)
    typer.echo(f"report: {out / 'results.md'}")
