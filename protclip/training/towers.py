"""The training of both towers, put together from the options of a run: batches, losses, validation, loop."""

from __future__ import annotations

import dataclasses
import math

from protclip.config.loss import LossConfig
from protclip.errors import ConfigError
from protclip.losses import Objective, Term
from protclip.model.two_tower import TwoTower
from protclip.parallel.processes import convert_sync_batchnorm
from protclip.scoring.galleries import validation_scores
from protclip.training.batches import StepDataset
from protclip.training.contrast import Contrast
from protclip.training.equal_items import equal_groups
from protclip.training.loop import Loop, Progress, Schedule, Validation
from protclip.training.made_from import run_made_from
from protclip.training.run import Run
from protclip.training.sampler import PairedUnpairedSampler
from protclip.training.tower_features import gallery_vectors
from protclip.training.transport_targets import TransportTargets, frozen_vectors

VALIDATED = ("valid_R@1", "valid_R@10", "valid_mrr")
PAIRS_ALONE = ("clip", "clip-all")
"""Objectives whose batches hold matched rows only."""


def train_towers(run: Run, *, resume: bool) -> Progress:
    """Train a model by the objective of its run; its best validated weights are left in it.

    Parameters
    ----------
    run : Run
        Of any objective but ``cca``, with a batch size that is a number. Its folder receives ``log.csv``
        and ``state.pt``.
    resume : bool
        Go on from the state in the folder.

    Raises
    ------
    ConfigError
        If the batch size is not decided yet or does not suit the data.
    Interrupted
        If the user stopped the training; its state is saved.
    """
    train, data, fabric, model = run.train, run.data, run.fabric, run.model
    if not isinstance(train.batch_size, int):
        raise ConfigError("not decided yet", where="--batch-size", got=str(train.batch_size))
    sampler = PairedUnpairedSampler(
        data.pairs,
        [side.pool for side in data.sides],
        batch_size=train.batch_size,
        pairs_per_batch=train.pairs_per_batch,
        use_unpaired=train.objective not in PAIRS_ALONE,
        seed=train.seed,
    )
    loss = _loss(run)
    dataset = StepDataset(
        sampler,
        data.sides,
        views=loss.ssl_weight > 0 and loss.clip_weight > 0,
        micro_batch_size=train.micro_batch_size,
        keywords=loss.pseudo_labels == "s-clip" and loss.keyword_weight > 0,
        groups=[equal_groups(side, data.training_items(i)) for i, side in enumerate(data.sides)]
        if loss.clip_weight > 0
        else None,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    steps = train.steps if train.steps is not None else train.epochs * sampler.epoch_steps
    if fabric.world_size > 1:
        convert_sync_batchnorm(model)
    extra = {}
    if loss.transport_weight:
        recompute = frozen_vectors(model, data.sides)
        targets = TransportTargets(loss, data, model.dim, steps=steps, seed=train.seed, recompute=recompute)
        extra["transport"] = Term(loss.transport_weight, targets)
    run.display.begin(f"{train.objective}", steps)
    contrast = Contrast(
        fabric,
        model,
        Objective(loss, extra),
        train,
        steps=steps,
        validate=lambda current: _validate(run, current),
    )
    schedule = Schedule(
        steps=steps,
        epoch_steps=max(sampler.epoch_steps, -(-steps // 50)),
        checkpoint_seconds=train.checkpoint_seconds,
        workers=train.workers,
        resume_hint=f"Go on with `protclip pretrain --out {run.folder} --resume`",
        late=VALIDATED,
        made_from=run_made_from(run),
    )
    loop = Loop(fabric, contrast, dataset, schedule, folder=run.folder, on_step=run.display.advance)
    progress = loop.run(resume=resume)
    run.display.end()
    return progress


def _loss(run: Run) -> LossConfig:
    """The terms of the run's objective that its sides can have."""
    loss = run.config.loss.for_objective(run.train.objective)
    if not any(side.modality.has_keywords for side in run.data.sides):
        loss = dataclasses.replace(loss, keyword_weight=0.0)
    return loss


def _validate(run: Run, model: TwoTower) -> Validation:
    data = run.data
    if len(data.valid) < 2:
        return Validation((math.nan,), {})
    vectors = gallery_vectors(model, data.valid, data.sides, precision=run.train.precision)
    numbers = validation_scores(vectors, data.valid, model.names)
    return Validation((numbers.pop("score"),), numbers)
