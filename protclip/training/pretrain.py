"""Pretraining from options to a model folder."""

from __future__ import annotations

import dataclasses
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric

from protclip.config.pretraining import PretrainConfig
from protclip.config.resolve import resolve
from protclip.config.sources import SourceOptions
from protclip.files import atomic_write
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Source
from protclip.scoring.galleries import Evaluation
from protclip.training.batch_size import choose_batch_size, training_vectors
from protclip.training.closed_form import fit_closed_form
from protclip.training.finish import finish_run
from protclip.training.loop import Progress
from protclip.training.refit import Refit, refit_heads
from protclip.training.run import Run
from protclip.training.run_folder import open_run_folder
from protclip.training.running import make_fabric
from protclip.training.tower_features import standardise_heads
from protclip.training.towers import train_towers
from protclip.typing import Display, Silent
from protclip.work.locks import claim


class Outcome(NamedTuple):
    """What a finished run came to.

    Attributes
    ----------
    evaluation : Evaluation or None
        Scores on the test gallery; None where no item was held out, and on other processes than the main one.
    losses : dict
        Of the last step; empty where nothing was trained in steps.
    is_main : bool
        Whether this process wrote the run folder.
    """

    evaluation: Evaluation | None
    losses: dict[str, float]
    is_main: bool


def run_pretraining(
    config: PretrainConfig,
    folder: Path,
    display: Display | None = None,
    data: AlignmentData | None = None,
    *,
    resume: bool = False,
) -> Outcome:
    """Train, evaluate on held-out items and write the model folder.

    Parameters
    ----------
    config : PretrainConfig
    folder : Path
        Run folder, created where needed.
    display : Display, optional
    data : AlignmentData, optional
        Both sides and their items, where they do not come from ``config.source``.
    resume : bool
        Go on with the run in ``folder``.

    Raises
    ------
    ConfigError
        If the folder holds another run, or the options contradict each other.
    """
    fabric = _fabric(config)
    # Two processes at work in one folder would overwrite each other's state.
    with claim(folder) if fabric.is_global_zero else nullcontext():
        run = _begin(config, folder, fabric, display or Silent(), data, resume=resume)
        progress = _train(run, resume=resume)
        evaluation = None
        if run.is_main:
            run.model.eval()
            evaluation = finish_run(run, progress, _refit(run))
        fabric.barrier()
    return Outcome(evaluation, progress.losses if progress else {}, run.is_main)


def _begin(
    config: PretrainConfig,
    folder: Path,
    fabric: Fabric,
    display: Display,
    data: AlignmentData | None,
    *,
    resume: bool,
) -> Run:
    """Open the folder, read the data, and put the untrained model together."""
    if data is not None:
        config = dataclasses.replace(config, source=SourceOptions())
    display = display if fabric.is_global_zero else Silent()
    with fabric.rank_zero_first():
        if fabric.is_global_zero:
            open_run_folder(folder, config.save, resume=resume)
        torch.manual_seed(config.train.seed)
        data = data if data is not None else load_data(config, display)
    for notice in data.notices:
        display.say(notice)
    config = dataclasses.replace(config, source=dataclasses.replace(config.source, **data.resolved))
    if fabric.is_global_zero:
        config.save(folder / "config.toml", data.remarks)
        atomic_write(folder / "split.json", json.dumps(data.split, indent=1) + "\n")
    model = TwoTower(
        *(side.modality for side in data.sides),
        dim=config.model.dim,
        head="linear" if config.train.objective == "cca" else "mlp",
        temperature=config.loss.temperature,
        learn_temperature=config.loss.learn_temperature,
        max_scale=config.loss.max_scale,
    )
    return Run(config, folder, fabric, display, data, model)


def _fabric(config: PretrainConfig) -> Fabric:
    train = config.train
    fabric = make_fabric(
        device=train.device,
        devices=train.devices,
        num_nodes=train.num_nodes,
        precision=train.precision,
        batch_size=train.batch_size
        if isinstance(train.batch_size, int)
        else 2 * train.devices * train.num_nodes,
    )
    fabric.launch()
    return fabric


def load_data(config: PretrainConfig, display: Display) -> AlignmentData:
    """Both sides and their items, as the options say where they come from and how they are split."""
    config.source.validate()
    source: Source = config.source.open()
    split = config.data
    if config.train.objective == "clip-all":
        split = dataclasses.replace(split, paired=1.0)
    return source.setup(split, seed=config.train.seed, say=display.say)


def _train(run: Run, *, resume: bool) -> Progress | None:
    """Train towers and heads, or fit the heads in closed form; None where nothing was trained in steps."""
    closed_form = run.train.objective == "cca"
    for side in run.data.sides:
        if side.modality.frozen or closed_form:
            side.modality.encoder.requires_grad_(False)
            side.features = run.features(side)
    standardise_heads(run.model, run.data)
    if closed_form:
        fit_closed_form(run.model, run.data)
        run.model.to(run.fabric.device)
        return None
    if run.train.init_heads == "cca":
        fit_closed_form(run.model, run.data_with_features())
    if run.train.batch_size == "auto":
        _choose_batch_size(run)
    return train_towers(run, resume=resume)


def _refit(run: Run) -> Refit | None:
    """Linear heads for the trained towers, where asked for."""
    method = run.train.refit
    # Closed-form heads have been chosen in the same way already.
    if method == "none" or (method == "auto" and run.train.objective == "cca"):
        return None
    data = run.data_with_features()
    return refit_heads(run.model, data, method=method, seed=run.train.seed, say=run.display.say)


def _choose_batch_size(run: Run) -> None:
    """Resolve ``batch_size="auto"`` from the vectors of the towers as they start."""
    size, reason = 0, ""
    if run.is_main:
        vectors = training_vectors(
            run.model.to(run.fabric.device), run.data, precision=run.train.precision, seed=run.train.seed
        )
        choice = choose_batch_size(
            vectors, available=len(run.data), least=2 * run.fabric.world_size, seed=run.train.seed
        )
        size, reason = choice.size, choice.reason
        run.display.say(reason)
    # One process decides for all: rounding must not make them differ.
    run.decide(reason, batch_size=run.fabric.broadcast(size))


def pretrain(
    out: Path | str,
    *,
    data: AlignmentData | None = None,
    resume: bool = False,
    display: Display | None = None,
    **options: Any,
) -> Evaluation | None:
    """Align two modalities from partly paired data, as ``protclip pretrain`` does.

    Parameters
    ----------
    out : path
        Run folder; the model is in its folder ``model``.
    data : AlignmentData, optional
        Both sides and their items, for items that are Python objects; else they come from the source that
        the options describe.
    resume : bool
        Go on with the run in ``out``.
    **options
        Options of :class:`protclip.config.pretraining.PretrainConfig` by name, entries of its loss,
        ``preset`` and ``config``, see :func:`protclip.config.resolve.resolve`.

    Returns
    -------
    Evaluation or None
        Scores on the held-out test items; None where none were held out.

    Raises
    ------
    ConfigError, DataError
        If options or data cannot be used.
    """
    config = resolve(PretrainConfig, options, resume=Path(out) if resume else None, place=str)
    return run_pretraining(config, Path(out), display, data, resume=resume).evaluation
