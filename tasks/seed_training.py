"""One seed of a downstream run: build the network, train it, choose the epoch, calibrate the scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from protclip.files import cache_dir
from protclip.inference.cache import frozen_features
from protclip.inference.encode import running_total
from protclip.modalities.base import Modality
from protclip.modalities.vectors import VectorsModality
from protclip.parallel.processes import convert_sync_batchnorm
from protclip.tasks.batches import EpochSampler, TaskDataset
from protclip.tasks.calibration import Calibrator, fit_calibrator
from protclip.tasks.classifier import Classifier, train_classifier
from protclip.tasks.config import FinetuneConfig
from protclip.tasks.dataset import TaskData
from protclip.tasks.definitions import Recipe
from protclip.tasks.evaluation import validation_score
from protclip.tasks.metrics import fmax
from protclip.tasks.network import TaskNetwork
from protclip.tasks.starting_towers import Parent, build_towers
from protclip.tasks.supervision import Supervision
from protclip.tasks.task_loss import TaskLoss, class_weights
from protclip.tasks.trained import Alone, Trained, tower_inputs
from protclip.training.loop import Loop, Schedule
from protclip.typing import Display, Indices, Vectors
from protclip.work.fingerprint import fingerprint

CHECKPOINT_SECONDS = 60.0
"""Longest stretch of training that a crash can lose."""

SCALE_ROWS = 512
"""Training proteins whose features set the scale of the classifier's input."""


class TowerItems(Sequence[Any]):
    """Items of one tower for rows of a benchmark, read when asked for."""

    def __init__(self, data: TaskData, rows: Indices, tower: str) -> None:
        self.data, self.rows, self.tower = data, rows, tower

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.take(np.array([index]))[0]

    def take(self, index: Indices) -> list[Any]:
        """Several items, read in one call."""
        return self.data.items(self.rows[index], [self.tower])[self.tower]


class SeedTraining:
    """Trains for one seed after another, with everything that seeds share.

    Parameters
    ----------
    config : FinetuneConfig
    out : Path
        Folder of the whole run, which a user resumes.
    data : TaskData
    fabric : Fabric
        Launched: device, precision and processes.
    display : Display
    """

    def __init__(
        self, config: FinetuneConfig, out: Path, data: TaskData, fabric: Fabric, display: Display
    ) -> None:
        self.config, self.out, self.data = config, out, data
        self.fabric, self.display = fabric, display

    def _network(self, recipe: Recipe, seed: int) -> tuple[TaskNetwork, Parent]:
        config, data = self.config, self.data
        torch.manual_seed(seed)
        sides, parent = build_towers(config, recipe, seed=seed, vectors=data.vectors, say=self.display.say)
        for side in sides:
            if isinstance(side, VectorsModality) and not side.pretrained:
                side.fit(np.stack(data.items(data.splits["train"], [side.name])[side.name]))
        network = TaskNetwork(
            sides,
            len(data.classes),
            fusion=config.fusion,
            features=config.features,
            dim=parent.dim,
            projection=parent.head,
            head=("linear" if config.mode == "probe" else "mlp") if config.head == "auto" else config.head,
            dropout=config.dropout,
            frozen=[
                side.name
                for side in sides
                if config.mode == "probe" or side.frozen or side.name == config.freeze
            ],
            sequence_only=config.towers == "both" and config.fusion == "concat" and not config.vectors,
        )
        for name in network.projections:
            network.projections[name].load_state_dict(parent.projections[name].state_dict())
        return network, parent

    def run(self, recipe: Recipe, seed: int, folder: Path, resume: bool) -> Trained:
        """Train the network of one seed and calibrate it on validation.

        Parameters
        ----------
        recipe : Recipe
        seed : int
        folder : Path
            Receives the log and the checkpoint.
        resume : bool
            Go on from the checkpoint where there is one.

        Raises
        ------
        ConfigError, DataError, WeightsError
            If towers, options and benchmark do not fit together.
        Interrupted
            After SIGINT or SIGTERM, when the state has been saved.
        """
        config, task, data = self.config, self.data.task, self.data
        fabric, display = self.fabric, self.display
        network, parent = self._network(recipe, seed)
        device = fabric.device
        network.to(device)
        features = {
            name: self._features(network.sides[name]) for name in network.frozen if config.fusion == "concat"
        }
        if parent.facts or config.mode == "probe" or config.vectors:
            self._fit_scale(network, features, seed)
        if fabric.world_size > 1:
            convert_sync_batchnorm(network)
        weights = (
            class_weights(data.labels[data.splits["train"]], task.kind) if config.class_weights else None
        )
        dataset = TaskDataset(
            data,
            network.sides,
            EpochSampler(len(data.splits["train"]), recipe.batch_size, seed, fabric.world_size),
            noise=recipe.noise,
            features=features,
            rank=fabric.global_rank,
        )
        valid = data.splits["valid"]
        truth = data.labels[valid]
        held = tower_inputs(network, data, valid, features)

        def validate(current: TaskNetwork) -> tuple[float, float]:
            logits = current.predict(held, device=device, precision=config.precision)
            return validation_score(task, logits, truth)

        schedule = Schedule(
            steps=recipe.epochs * dataset.sampler.epoch_steps,
            epoch_steps=dataset.sampler.epoch_steps,
            patience=recipe.patience,
            rows="epoch",
            checkpoint_seconds=CHECKPOINT_SECONDS,
            # By time, not by epoch: an epoch on frozen features takes less than writing the state.
            checkpoint_each_epoch=False,
            workers=config.workers,
            resume_hint=f"Go on with `protclip finetune {task.name} --out {self.out} --resume`",
            made_from=self._made_from(parent, recipe),
        )
        supervision = Supervision(
            fabric,
            network,
            TaskLoss(task.kind, weights),
            recipe,
            seed=seed,
            steps=schedule.steps,
            validate=validate,
        )
        display.begin(f"{task.name} (seed {seed})", schedule.steps)
        loop = Loop(fabric, supervision, dataset, schedule, folder=folder, on_step=display.advance)
        progress = loop.run(resume=resume)
        display.end()
        logits = network.predict(held, device=device, precision=config.precision)
        calibrator, threshold = self._calibrate(logits, truth)
        trained = Trained(
            network,
            parent,
            features,
            progress,
            calibrator,
            threshold,
            logits,
            device=device,
            precision=config.precision,
        )
        if network.alone is not None and fabric.is_global_zero:
            trained.alone = self._train_alone(trained, weights, seed)
        return trained

    def _made_from(self, parent: Parent, recipe: Recipe) -> dict[str, Any]:
        """Contents that decide the run beside its options, by names that a user knows."""
        data, vectors = self.data, self.config.vectors
        found = {
            "benchmark": fingerprint(data.ids, data.classes, data.labels, data.splits),
            "proteins of the benchmark": str(getattr(data.benchmark, "fingerprint", "")),
            "recipe": fingerprint(dataclasses.asdict(recipe)),
            "precision": str(self.fabric.strategy.precision.precision),
        }
        if parent.facts:
            found["model"] = parent.facts["fingerprint"]
        if vectors:
            found["vectors"] = fingerprint(Path(vectors))
        return found

    def _calibrate(self, logits: Vectors, truth: NDArray[np.bool_]) -> tuple[Calibrator, float | None]:
        calibrator = fit_calibrator(logits, truth, self.data.task.kind, self.config.calibration)
        multi = self.data.task.kind == "multi"
        return calibrator, fmax(calibrator(logits), truth).threshold if multi else None

    def _train_alone(self, trained: Trained, weights: Vectors | None, seed: int) -> Alone:
        """Train the classifier for sequences alone on what the sequence tower has become."""
        data, device = self.data, self.fabric.device
        network, rows = trained.network, data.splits["train"]
        classifier = cast(Classifier, network.alone)
        seen = network.predict(
            tower_inputs(network, data, rows, trained.features, ["sequence"]),
            device=device,
            precision=self.config.precision,
            features=True,
            alone=True,
        )
        classifier.cpu().requires_grad_(True)
        targets = torch.from_numpy(data.targets(rows))
        loss = TaskLoss(data.task.kind, weights)
        train_classifier(classifier, torch.from_numpy(seen), targets, loss, seed=seed)
        classifier.to(device).requires_grad_(False)
        valid = data.splits["valid"]
        logits = trained.predict(data, valid, alone=True)
        return Alone(*self._calibrate(logits, data.labels[valid]), logits)

    def _features(self, side: Modality[Any]) -> Tensor:
        """Features [rows of the benchmark, d] of a frozen tower; zeros in rows of no split."""
        data, fabric, display = self.data, self.fabric, self.display
        rows = np.concatenate(list(data.splits.values()))
        display.begin(f"{side.name} features", len(rows))
        # Vectors are there already: one read of the file. Other items are read when their turn comes.
        items: Sequence[Any] = (
            data.items(rows, [side.name])[side.name]
            if isinstance(side, VectorsModality)
            else TowerItems(data, rows, side.name)
        )
        with fabric.rank_zero_first():
            found = frozen_features(
                side,
                [data.ids[i] for i in rows],
                items,
                device=fabric.device,
                precision=self.config.precision,
                # Towers from random weights are never met again.
                cache=cache_dir() / "features" if side.pretrained else None,
                progress=running_total(display.advance),
            )
        display.end()
        whole = torch.zeros(len(data.ids), found.shape[1])
        whole[torch.from_numpy(rows)] = torch.from_numpy(found)
        return whole

    def _fit_scale(self, network: TaskNetwork, features: dict[str, Tensor], seed: int) -> None:
        data = self.data
        rows = data.splits["train"]
        if set(features) != set(network.names) and len(rows) > SCALE_ROWS:
            rows = np.sort(np.random.default_rng(seed).choice(rows, SCALE_ROWS, replace=False))
        inputs = tower_inputs(network, data, rows, features)
        found = network.predict(
            inputs, device=self.fabric.device, precision=self.config.precision, features=True
        )
        network.fit_scale(torch.from_numpy(found))
