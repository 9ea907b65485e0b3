"""``protclip pretrain``: align two modalities from partly paired data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from protclip.errors import ConfigError

if TYPE_CHECKING:
    from protclip.options import PretrainConfig

DATA, MODEL, LOSS, TRAIN, RUN = "Data", "Model", "Objective", "Training", "Run"


def pretrain(
    cath: str = typer.Option(
        None,
        help="CATH folder or corpus file [default: the small corpus shipped with protclip].",
        rich_help_panel=DATA,
    ),
    paired: float = typer.Option(
        None,
        help="Fraction of the training domains that keep their pairing, 0 to 1 [default: 0.5].",
        rich_help_panel=DATA,
    ),
    pools: str = typer.Option(
        None,
        help="shuffled: unpaired partners are in the other pool; disjoint: they are not [default: shuffled].",
        rich_help_panel=DATA,
    ),
    unpaired_sequences: str = typer.Option(
        None, help="FASTA file of sequences without structure.", rich_help_panel=DATA
    ),
    unpaired_structures: str = typer.Option(
        None, help="Folder of structures without partner.", rich_help_panel=DATA
    ),
    vectors: str = typer.Option(
        None, help="HDF5 file of per-protein embeddings that take the sequence side.", rich_help_panel=DATA
    ),
    min_plddt: float = typer.Option(
        None, help="Leave out less confident residues of predicted models.", rich_help_panel=DATA
    ),
    valid_fraction: float = typer.Option(
        None, help="Domains held out for choosing the epoch [default: 0.15].", rich_help_panel=DATA
    ),
    test_fraction: float = typer.Option(
        None, help="Domains held out for the final scores [default: 0.25].", rich_help_panel=DATA
    ),
    split_seed: int = typer.Option(
        None, help="Seed of the held-out split [default: 0].", rich_help_panel=DATA
    ),
    structure_input: str = typer.Option(
        None,
        help="residues (as published) or geometry (no residue types) [default: residues].",
        rich_help_panel=MODEL,
    ),
    structure_size: str = typer.Option(
        None, help="tiny, small or published [default: small].", rich_help_panel=MODEL
    ),
    sequence_encoder: str = typer.Option(
        None, help="ESM-2 size by its published name [default: esm2_t6_8M_UR50D].", rich_help_panel=MODEL
    ),
    esm_weights: str = typer.Option(None, help="ESM-2 checkpoint file.", rich_help_panel=MODEL),
    esm_init: str = typer.Option(
        None,
        help="auto, pretrained or random; auto trains from scratch without weights [default: auto].",
        rich_help_panel=MODEL,
    ),
    tune: str = typer.Option(
        None,
        help="auto, frozen, lora or full training of the sequence encoder [default: auto].",
        rich_help_panel=MODEL,
    ),
    dim: int = typer.Option(None, help="Width of the shared space [default: 256].", rich_help_panel=MODEL),
    objective: str = typer.Option(
        None,
        help="setclip, clip (pairs only), clip-all (ceiling) or cca [default: setclip].",
        rich_help_panel=LOSS,
    ),
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
    epochs: int = typer.Option(
        None, help="Passes over the training items [default: 20].", rich_help_panel=TRAIN
    ),
    steps: int = typer.Option(None, help="Optimiser steps, instead of epochs.", rich_help_panel=TRAIN),
    batch_size: int = typer.Option(
        None, help="Rows per modality and step [default: 64].", rich_help_panel=TRAIN
    ),
    pairs_per_batch: int = typer.Option(
        None, help="Matched rows of a batch [default: half, or the pairs' share].", rich_help_panel=TRAIN
    ),
    micro_batch_size: int = typer.Option(
        None, help="Rows in memory at once; the loss sees all.", rich_help_panel=TRAIN
    ),
    head_lr: float = typer.Option(
        None, help="Peak learning rate of the heads [default: 0.001].", rich_help_panel=TRAIN
    ),
    scratch_lr: float = typer.Option(
        None, help="... of towers trained from scratch [default: 0.001].", rich_help_panel=TRAIN
    ),
    encoder_lr: float = typer.Option(
        None, help="... of pretrained towers [default: 1e-05].", rich_help_panel=TRAIN
    ),
    init_heads: str = typer.Option(
        None, help="random or cca (closed-form start) [default: random].", rich_help_panel=TRAIN
    ),
    seed: int = typer.Option(
        None, help="Seed of pairing, weights, batches and views [default: 0].", rich_help_panel=TRAIN
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
        None, help="Run folder [default: runs/<date>-<time>-<objective>].", rich_help_panel=RUN
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
    """Train both towers so that matching structures and sequences meet in one space."""
    given = dict(locals())
    chosen = {key: value for key, value in given.items() if value is not None}
    for key in ("out", "resume", "config", "preset", "loss", "no_ssl", "no_sdd", "no_mmd"):
        chosen.pop(key, None)
    terms = {"ssl_weight": no_ssl, "sdd_weight": no_sdd, "mmd_weight": no_mmd}
    overrides: dict[str, Any] = {name: 0.0 for name, off in terms.items() if off} | _loss_entries(loss)
    if resume:
        folder, settings = _resumed(out, config, chosen, preset, overrides)
    else:
        settings = _settings(config, chosen, preset, overrides)
        folder = _folder(out, settings)
    _run(settings, folder, resume)


def _run(settings: PretrainConfig, folder: Path, resume: bool) -> None:
    from rich.console import Console

    from protclip.cli.display import TerminalDisplay
    from protclip.modalities.proteins import setup
    from protclip.training.pretrain import Pretraining
    from protclip.training.report import metrics_lines, metrics_table

    display = TerminalDisplay()
    train = settings.train
    run = Pretraining(
        settings,
        folder,
        lambda say: setup(settings.data, settings.model, objective=train.objective, seed=train.seed, say=say),
        display,
    )
    try:
        evaluation = run.run(resume=resume)
    finally:
        display.end()
    if not run.is_main:
        return
    console = Console()
    if run.losses:
        console.print(
            "final losses: " + ", ".join(f"{k} {v:.4f}" for k, v in run.losses.items()), highlight=False
        )
    if evaluation is None:
        console.print("no domain was held out, so there is nothing to score")
    else:
        n = evaluation.metrics["retrieval"]["gallery"]
        sees = f"structure input: {settings.model.structure_input}"
        console.print(
            metrics_table(evaluation.metrics, f"Retrieval on {n} domains of held-out superfamilies ({sees})")
        )
        for line in metrics_lines(evaluation.metrics):
            console.print(line, highlight=False)
    console.print(f"model: {folder / 'model'}", highlight=False, soft_wrap=True)
    console.print(
        f"use it: protclip embed {folder / 'model'} -i proteins.fasta -o out.h5",
        highlight=False,
        soft_wrap=True,
    )


def _settings(
    config: Path | None, chosen: dict[str, Any], preset: str | None, overrides: dict[str, Any]
) -> PretrainConfig:
    from protclip.config import LossConfig, loss_preset
    from protclip.options import PretrainConfig, merge

    base = PretrainConfig.load(config) if config is not None else PretrainConfig()
    if preset is not None:
        base = dataclasses.replace(base, loss=loss_preset(preset))
    merged = merge(base, chosen)
    return dataclasses.replace(merged, loss=LossConfig.from_dict({**merged.loss.to_dict(), **overrides}))


def _folder(out: Path | None, settings: PretrainConfig) -> Path:
    from protclip.training.folders import new_run_folder

    return out if out is not None else new_run_folder(Path("runs"), settings.train.objective)


def _resumed(
    out: Path | None,
    config: Path | None,
    chosen: dict[str, Any],
    preset: str | None,
    overrides: dict[str, Any],
) -> tuple[Path, PretrainConfig]:
    """The folder to go on with and its own options; options given again must not contradict them."""
    from protclip.options import MACHINE_OPTIONS, PretrainConfig, merge
    from protclip.training.folders import newest_unfinished

    folder = out if out is not None else newest_unfinished(Path("runs"))
    if not (folder / "config.toml").exists():
        return folder, _settings(config, chosen, preset, overrides)
    saved = PretrainConfig.load(folder / "config.toml")
    wished = merge(saved, chosen)
    wished_machine = merge(saved, {k: v for k, v in chosen.items() if k in MACHINE_OPTIONS})
    if wished != wished_machine or overrides or preset or config:
        raise ConfigError(
            "a resumed run keeps the options that it was started with",
            where=f"--resume of {folder}",
            hint="Give only "
            + ", ".join(f"--{name}" for name in sorted(MACHINE_OPTIONS))
            + " again, or start a new run",
        )
    return folder, wished_machine


def _loss_entries(entries: list[str]) -> dict[str, Any]:
    from protclip.files import toml_value

    values: dict[str, Any] = {}
    for entry in entries:
        name, equals, text = entry.partition("=")
        if not equals:
            raise ConfigError("not NAME=VALUE", where=f"--loss {entry}")
        values[name.strip()] = toml_value(text.strip())
    return values
