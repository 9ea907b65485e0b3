"""Train a task network: epochs, validation, early stopping, checkpoints, exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protclip.errors import ProtclipError
from protclip.model.two_tower import Inputs
from protclip.tasks.batches import TaskBatch, TaskDataset
from protclip.tasks.definitions import Recipe
from protclip.tasks.network import TaskNetwork
from protclip.tasks.task_loss import TaskLoss
from protclip.training.batches import step_loader
from protclip.training.checkpoint import load_state, load_trainable_state, save_state, trainable_state
from protclip.training.running import Interrupted, Log, agree, catch_signals, learning_rate_factor, seed_step
from protclip.typing import OnStep

Validate = Callable[[TaskNetwork], tuple[float, float]]

WARMUP = 0.1
CHECKPOINT_SECONDS = 60.0
"""Longest stretch of training that a crash can lose."""


@dataclass
class Progress:
    """What a finished or interrupted loop knows."""

    step: int = 0
    best_epoch: int = 0
    best: tuple[float, float] = (-math.inf, -math.inf)
    epoch_loss: float = 0.0
    seconds: float = 0.0
    stopped_early: bool = False
    last: dict[str, float] = field(default_factory=dict)


class TaskLoop:
    """Train a network for a number of epochs and keep the weights of the best one.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    network : TaskNetwork
    loss : TaskLoss
    dataset : TaskDataset
    recipe : Recipe
    seed : int
    folder : Path
        Receives ``log.csv`` and ``state.pt``.
    validate : callable
        Network in evaluation mode -> (headline metric, tie-breaker); larger is better.
    workers : int
        Processes that prepare batches.
    resume_hint : str
        Command that goes on with an interrupted run.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: TaskNetwork,
        loss: TaskLoss,
        dataset: TaskDataset,
        recipe: Recipe,
        *,
        seed: int,
        folder: Path,
        validate: Validate,
        workers: int = 0,
        resume_hint: str = "",
        on_step: OnStep = lambda step, losses: None,
    ) -> None:
        self.fabric, self.network, self.dataset, self.recipe = fabric, network, dataset, recipe
        self.seed, self.folder, self.validate, self.workers = seed, folder, validate, workers
        self.resume_hint, self.on_step = resume_hint, on_step
        self.epoch_steps = dataset.sampler.epoch_steps
        self.steps = recipe.epochs * self.epoch_steps
        self.wrapped, self.optimizer = fabric.setup(network, make_optimizer(network, recipe))
        self.loss = loss.to(fabric.device)
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] | None = None
        self.log = Log(folder / "log.csv", enabled=fabric.is_global_zero)

    def run(self, *, resume: bool) -> Progress:
        """Train to the end and leave the best validated weights in the network.

        Raises
        ------
        Interrupted
            After SIGINT or SIGTERM, when the state has been saved.
        ProtclipError
            If the loss is not finite.
        """
        path = self.folder / "state.pt"
        if resume and path.exists():
            self._restore(path)
        else:
            self.log.start()
        began = saved = time.monotonic()
        progress = self.progress
        with catch_signals() as stopping:
            batches = step_loader(self.dataset, progress.step, self.steps, workers=self.workers)
            while progress.step < self.steps and not progress.stopped_early:
                row = self._step(progress.step, next(batches))
                progress.step += 1
                progress.epoch_loss += row["loss"] / self.epoch_steps
                ends_epoch = progress.step % self.epoch_steps == 0
                if ends_epoch:
                    row |= self._end_epoch(row["rate"])
                self.on_step(progress.step, row)
                due = time.monotonic() - saved > CHECKPOINT_SECONDS
                stop, due = agree(self.fabric, stopping.asked, due)
                # By time, not by epoch: an epoch on frozen features takes less than writing the state.
                if due or stop or progress.step == self.steps or progress.stopped_early:
                    self._save(path)
                    saved = time.monotonic()
                if stop and progress.step < self.steps and not progress.stopped_early:
                    raise Interrupted(
                        f"stopped after step {progress.step} of {self.steps}; everything is saved",
                        where=str(self.folder),
                        hint=self.resume_hint or None,
                    )
        progress.seconds = time.monotonic() - began
        if self.best_weights is not None:
            load_trainable_state(self.network, self.best_weights, where=str(path))
        return progress

    def _step(self, step: int, batch: TaskBatch) -> dict[str, float]:
        self.wrapped.train()
        rate = rate_factor(step, self.steps, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate
        seed_step(self.seed, step, 0, self.fabric.global_rank)
        device = self.fabric.device
        parts = [(name, part.to(device, non_blocking=True)) for name, part in batch.parts]
        loss = self.loss(self.wrapped(Inputs(parts)), batch.targets.to(device, non_blocking=True))
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.recipe.clip_gradient, error_if_nonfinite=False
        )
        value = float(self._mean(loss.detach()))
        if not math.isfinite(value):
            raise ProtclipError(
                f"the loss is {value} at step {step + 1}",
                where=str(self.folder),
                hint="Lower --lr, or use --precision fp32; the last checkpoint is kept",
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {"loss": value, "rate": rate}

    def _mean(self, value: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return value
        return cast(Tensor, self.fabric.all_reduce(value, reduce_op="mean"))

    def _end_epoch(self, rate: float) -> dict[str, float]:
        self.network.eval()
        found = self.validate(self.network)
        progress = self.progress
        epoch = progress.step // self.epoch_steps
        if found > progress.best:
            progress.best, progress.best_epoch = found, epoch
            # A copy: the network goes on changing.
            self.best_weights = trainable_state(self.network)
        patience = self.recipe.patience
        progress.stopped_early = bool(patience) and epoch - progress.best_epoch >= patience
        row = {"epoch": float(epoch), "rate": rate, "loss": progress.epoch_loss}
        row |= {"valid_score": found[0], "valid_loss": -found[1]}
        progress.epoch_loss = 0.0
        progress.last = row
        self.log.add(row)
        return {"valid_score": found[0]}

    def _save(self, path: Path) -> None:
        if self.fabric.is_global_zero:
            progress = self.progress
            save_state(
                path,
                {
                    "step": progress.step,
                    "best_epoch": progress.best_epoch,
                    "best_score": list(progress.best),
                    "epoch_loss": progress.epoch_loss,
                    "stopped_early": progress.stopped_early,
                    "log_bytes": self.log.sync(),
                    "model": trainable_state(self.network),
                    "best": self.best_weights,
                    "optimizer": self.optimizer.state_dict(),
                },
            )
        self.fabric.barrier()

    def _restore(self, path: Path) -> None:
        state = load_state(path)
        load_trainable_state(self.network, state["model"], where=str(path))
        self.optimizer.load_state_dict(state["optimizer"])
        self.best_weights = state["best"]
        self.progress = Progress(
            step=state["step"],
            best_epoch=state["best_epoch"],
            best=(state["best_score"][0], state["best_score"][1]),
            epoch_loss=state["epoch_loss"],
            stopped_early=state["stopped_early"],
        )
        self.log.resume(state["log_bytes"])


def rate_factor(step: int, steps: int, recipe: Recipe) -> float:
    """Learning rate as a share of its peak: a tenth after each milestone, or warm-up and a cosine.

    Examples
    --------
    >>> from protclip.tasks.definitions import TASKS
    >>> [round(rate_factor(s, 100, TASKS["ec"].cdconv), 3) for s in (0, 59, 60, 80)]
    [1.0, 1.0, 0.1, 0.01]
    """
    if not recipe.milestones:
        return learning_rate_factor(step, steps, WARMUP)
    passed = sum(step >= round(share * steps) for share in recipe.milestones)
    return float(0.1**passed)


def make_optimizer(network: TaskNetwork, recipe: Recipe) -> torch.optim.Optimizer:
    """SGD or AdamW over the trained parameters; pretrained towers have a rate of their own.

    AdamW does not decay vectors (biases, norms); SGD decays everything, as the published recipe does.
    """
    slow = {
        id(p)
        for name, side in network.sides.items()
        if side.pretrained
        for p in [
            *side.encoder.parameters(),
            *(network.projections[name].parameters() if name in network.projections else ()),
        ]
    }
    adaptive = recipe.optimizer == "adamw"
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for p in network.parameters():
        if p.requires_grad:
            rate = recipe.tower_lr if id(p) in slow else recipe.lr
            decay = recipe.weight_decay if p.ndim > 1 or not adaptive else 0.0
            groups.setdefault((rate, decay), []).append(p)
    rows: list[dict[str, Any]] = [
        {"params": ps, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay), ps in groups.items()
    ]
    if adaptive:
        return torch.optim.AdamW(rows)
    return torch.optim.SGD(rows, momentum=recipe.momentum)
