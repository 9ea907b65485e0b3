"""``protclip finetune``: train and score a head for a downstream task."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from protclip.errors import ConfigError

if TYPE_CHECKING:
    from protclip.tasks.options import FinetuneConfig

DATA, TOWERS, TRAIN, RUN = "Data", "Towers", "Training", "Run"


def finetune(
    task: str = typer.Argument(None, help="fold, reaction, go-mf, go-bp, go-cc or ec."),
    data: str = typer.Option(
        None,
        help="Benchmark file, or `sample` for the demonstration set [default: the built benchmark].",
        rich_help_panel=DATA,
    ),
    vectors: str = typer.Option(
        None, help="HDF5 embeddings by protein id in place of the sequence tower.", rich_help_panel=DATA
    ),
    model: str = typer.Option(
        None,
        help="Pretrained model or run folder [default: towers from scratch].",
        rich_help_panel=TOWERS,
    ),
    towers: str = typer.Option(
        None, help="structure, sequence or both [default: structure].", rich_help_panel=TOWERS
    ),
    mode: str = typer.Option(
        None,
        help="full, lora (sequence tower) or probe (frozen towers) [default: full].",
        rich_help_panel=TOWERS,
    ),
    fusion: str = typer.Option(
        None,
        help="concat, or serial: sequence features of residues enter the graph [default: concat].",
        rich_help_panel=TOWERS,
    ),
    features: str = typer.Option(
        None,
        help="tower features, or their projections into the shared space [default: tower].",
        rich_help_panel=TOWERS,
    ),
    freeze: str = typer.Option(
        None, help="Tower that is not trained: structure or sequence.", rich_help_panel=TOWERS
    ),
    head: str = typer.Option(
        None, help="auto (linear for a probe), linear or mlp [default: auto].", rich_help_panel=TOWERS
    ),
    structure_size: str = typer.Option(
        None,
        help="From scratch: recipe, tiny, small or published [default: recipe].",
        rich_help_panel=TOWERS,
    ),
    structure_input: str = typer.Option(
        None, help="From scratch: residues or geometry [default: residues].", rich_help_panel=TOWERS
    ),
    sequence_encoder: str = typer.Option(
        None, help="Without --model: ESM-2 size [default: esm2_t6_8M_UR50D].", rich_help_panel=TOWERS
    ),
    esm_weights: str = typer.Option(None, help="ESM-2 checkpoint file.", rich_help_panel=TOWERS),
    esm_init: str = typer.Option(
        None, help="auto, pretrained or random [default: auto].", rich_help_panel=TOWERS
    ),
    lora_rank: int = typer.Option(
        None, help="Rank of low-rank updates [default: 8].", rich_help_panel=TOWERS
    ),
    recipe: str = typer.Option(
        None,
        help="auto, cdconv (published), finetune, probe or demonstration [default: auto].",
        rich_help_panel=TRAIN,
    ),
    seeds: int = typer.Option(
        None, help="Repetitions; mean and spread are reported [default: 1].", rich_help_panel=TRAIN
    ),
    seed: int = typer.Option(None, help="First seed [default: 0].", rich_help_panel=TRAIN),
    class_weights: bool = typer.Option(
        None,
        "--class-weights/--no-class-weights",
        help="Weigh classes by their rarity among the training labels.",
        rich_help_panel=TRAIN,
    ),
    calibration: str = typer.Option(
        None,
        help="auto, temperature (one class), platt or isotonic (several), none [default: auto].",
        rich_help_panel=TRAIN,
    ),
    epochs: int = typer.Option(None, help="[default: the recipe's].", rich_help_panel=TRAIN),
    batch_size: int = typer.Option(None, help="[default: the recipe's].", rich_help_panel=TRAIN),
    lr: float = typer.Option(
        None, help="Peak rate of head and scratch towers [default: the recipe's].", rich_help_panel=TRAIN
    ),
    tower_lr: float = typer.Option(
        None, help="Peak rate of pretrained towers [default: the recipe's].", rich_help_panel=TRAIN
    ),
    weight_decay: float = typer.Option(None, help="[default: the recipe's].", rich_help_panel=TRAIN),
    dropout: float = typer.Option(None, help="Of the classifier [default: 0.2].", rich_help_panel=TRAIN),
    noise: float = typer.Option(
        None, help="Noise on training coordinates, Angstrom [default: the recipe's].", rich_help_panel=TRAIN
    ),
    patience: int = typer.Option(
        None,
        help="Epochs without a better validation score before stopping; 0: never [default: the recipe's].",
        rich_help_panel=TRAIN,
    ),
    device: str = typer.Option(None, help="auto, cpu, cuda or cuda:N [default: auto].", rich_help_panel=RUN),
    devices: int = typer.Option(None, help="Processes on this machine [default: 1].", rich_help_panel=RUN),
    num_nodes: int = typer.Option(None, help="Machines [default: 1].", rich_help_panel=RUN),
    precision: str = typer.Option(
        None, help="auto (bf16 on CUDA), fp32 or bf16 [default: auto].", rich_help_panel=RUN
    ),
    workers: int = typer.Option(
        None, help="Processes that prepare batches [default: 0].", rich_help_panel=RUN
    ),
    out: Path = typer.Option(
        None, help="Run folder [default: runs/<date>-<time>-<task>].", rich_help_panel=RUN
    ),
    resume: bool = typer.Option(
        False,
        "--resume",
        help="Go on with the run in --out, or with the newest unfinished.",
        rich_help_panel=RUN,
    ),
    config: Path = typer.Option(
        None, help="TOML file, as written into a run folder; options override it.", rich_help_panel=RUN
    ),
) -> None:
    """Train a head for a task, score it by the published protocol, and save it for `protclip predict`."""
    chosen = {
        key: value
        for key, value in dict(locals()).items()
        if value is not None and key not in ("out", "resume", "config")
    }
    folder, settings = _resumed(out, chosen, config) if resume else _new(out, chosen, config)
    _run(settings, folder, resume)


def _new(out: Path | None, chosen: dict[str, Any], config: Path | None) -> tuple[Path, FinetuneConfig]:
    from protclip.tasks.options import FinetuneConfig
    from protclip.training.folders import new_run_folder

    if "task" not in chosen and config is None:
        raise ConfigError(
            "no task is named", where="TASK", expected="fold, reaction, go-mf, go-bp, go-cc, ec"
        )
    base = FinetuneConfig.load(config) if config is not None else FinetuneConfig()
    settings = base.merged(**chosen)
    return out if out is not None else new_run_folder(Path("runs"), settings.task), settings


def _resumed(out: Path | None, chosen: dict[str, Any], config: Path | None) -> tuple[Path, FinetuneConfig]:
    """The folder to go on with and its own options; options given again must not contradict them."""
    from protclip.tasks.options import MACHINE_OPTIONS, FinetuneConfig
    from protclip.training.folders import newest_unfinished

    folder = out if out is not None else newest_unfinished(Path("runs"), result="head", entry="task")
    if not (folder / "config.toml").exists():
        return _new(folder, chosen, config)
    saved = FinetuneConfig.load(folder / "config.toml")
    machine = saved.merged(**{k: v for k, v in chosen.items() if k in MACHINE_OPTIONS})
    if saved.merged(**chosen) != machine or config is not None:
        raise ConfigError(
            "a resumed run keeps the options that it was started with",
            where=f"--resume of {folder}",
            hint=f"Leave out everything but {', '.join('--' + k for k in sorted(MACHINE_OPTIONS))}, or start "
            "a new run",
        )
    return folder, machine


def _run(settings: FinetuneConfig, folder: Path, resume: bool) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.tasks.benchmarks import open_benchmark
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
        f"use it: protclip predict {folder / 'head'} -i proteins -o out.tsv", highlight=False, soft_wrap=True
    )
