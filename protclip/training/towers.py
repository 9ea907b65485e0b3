"""The training of both towers, put together from the options of a run: batches, losses, validation, loop."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lightning_fabric import Fabric

from protclip.config.pretraining import PretrainConfig
from protclip.errors import ConfigError
from protclip.inference.encode import gallery_vectors
from protclip.losses import Objective, Term
from protclip.model.two_tower import TwoTower
from protclip.parallel.processes import convert_sync_batchnorm
from protclip.relations.pairs import Setup
from protclip.scoring.galleries import validation_scores
from protclip.training.batches import Side, StepDataset
from protclip.training.loop import Loop, Progress
from protclip.training.sampler import PairedUnpairedSampler
from protclip.training.tower_features import Features
from protclip.training.transport_targets import TransportTargets, frozen_vectors
from protclip.typing import Display


def train_towers(
    fabric: Fabric,
    model: TwoTower,
    setup: Setup,
    features: Features,
    *,
    config: PretrainConfig,
    folder: Path,
    display: Display,
    resume: bool,
) -> Progress:
    """Train a model by the objective of ``config``; its best validated weights are left in it.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes; launched.
    model : TwoTower
    setup : Setup
        Both sides of the model and the data.
    features : pair of float32 tensors [n, d_left], [m, d_right] or None
        Of the towers that are not trained.
    config : PretrainConfig
        Of any objective but ``cca``, with a batch size that is a number.
    folder : Path
        Run folder; receives ``log.csv`` and ``state.pt``.
    display : Display
    resume : bool
        Go on from the state in ``folder``.

    Raises
    ------
    ConfigError
        If the batch size is not decided yet or does not suit the data.
    Interrupted
        If the user stopped the training; its state is saved.
    """
    train, data = config.train, setup.data
    if not isinstance(train.batch_size, int):
        raise ConfigError("not decided yet", where="--batch-size", got=str(train.batch_size))
    sampler = PairedUnpairedSampler(
        data.pairs,
        data.left_pool,
        data.right_pool,
        batch_size=train.batch_size,
        pairs_per_batch=train.pairs_per_batch,
        use_unpaired=train.objective not in ("clip", "clip-all"),
        seed=train.seed,
    )
    loss = config.loss.for_objective(train.objective)
    if not any(side.has_keywords for side in (setup.left, setup.right)):
        loss = dataclasses.replace(loss, keyword_weight=0.0)
    dataset = StepDataset(
        sampler,
        Side(setup.left, data.left, features[0]),
        Side(setup.right, data.right, features[1]),
        views=loss.ssl_weight > 0 and loss.clip_weight > 0,
        micro_batch_size=train.micro_batch_size,
        keywords=loss.pseudo_labels == "s-clip" and loss.keyword_weight > 0,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
    )
    steps = train.steps if train.steps is not None else train.epochs * sampler.epoch_steps

    def validate(current: TwoTower) -> dict[str, float]:
        if len(data.valid) < 2:
            return {}
        vectors = gallery_vectors(
            current, data.valid, (data.left, data.right), features, precision=train.precision
        )
        return validation_scores(*vectors, data.valid, current.names)

    if fabric.world_size > 1:
        convert_sync_batchnorm(model)
    extra = {}
    if loss.transport_weight:
        targets = TransportTargets(
            loss,
            data,
            model.dim,
            steps=steps,
            seed=train.seed,
            recompute=frozen_vectors(model, features),
        )
        extra["transport"] = Term(loss.transport_weight, targets)
    display.begin(f"{train.objective}", steps)
    loop = Loop(
        fabric,
        model,
        Objective(loss, extra),
        dataset,
        train,
        steps=steps,
        epoch_steps=max(sampler.epoch_steps, -(-steps // 50)),
        folder=folder,
        scratch=(not setup.left.pretrained, not setup.right.pretrained),
        validate=validate,
        on_step=display.advance,
    )
    progress = loop.run(resume=resume)
    display.end()
    return progress
