"""The training loop: steps, validation, checkpoints, early stopping, exact resume.

It knows neither losses nor modalities: what is trained, and how one step goes, is a :class:`Trainee`.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import Dataset

from protclip.errors import ConfigError, ProtclipError
from protclip.parallel.fsdp import gather_blocks, load_optimizer, whole_optimizer
from protclip.training.batches import step_loader
from protclip.training.checkpoint import (
    damaged_state,
    load_state,
    load_trainable_state,
    save_state,
    trainable_state,
)
from protclip.training.running import Interrupted, Log, agree, catch_signals
from protclip.typing import OnStep
from protclip.work.unfinished import differences

Score = tuple[float, ...]
"""What validation says of the weights; larger is better, later entries break ties."""


class Validation(NamedTuple):
    """What validation says: the score that decides which weights are kept, and numbers for the log."""

    score: Score
    numbers: dict[str, float]


class Trainee(ABC):
    """What a loop trains.

    Attributes
    ----------
    model : Module
        Its trained parameters and buffers are saved and restored.
    optimizer : Optimizer
        Its groups say their highest rate as ``peak_lr``.
    parts : mapping of str to Module
        Further modules with a state, by the name under which a checkpoint holds it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    parts: Mapping[str, nn.Module] = {}

    @abstractmethod
    def rate(self, step: int) -> float:
        """Learning rate of step ``step`` (from 0) as a share of its peak."""

    @abstractmethod
    def gradients(self, step: int, batch: Any) -> dict[str, float]:
        """Compute the losses of a batch by name, ``loss`` the total, and leave its clipped gradient."""

    @abstractmethod
    def validate(self) -> Validation:
        """Look at the model in evaluation mode."""

    def numbers(self) -> dict[str, float]:
        """What the log says of the model after each step."""
        return {}


@dataclass
class Progress:
    """What a finished or interrupted loop knows.

    Attributes
    ----------
    step, best_step : int
        Steps done; steps after which the kept weights were validated.
    best_score : tuple of float
    epoch_steps : int
        Steps between two validations.
    epoch_loss : float
        Sum of the losses since the last validation, as a share of the epoch.
    stopped_early : bool
        Validation has not improved for as many epochs as the patience allows.
    losses, last : dict
        Of the last step; numbers of the last validation.
    waiting_seconds, total_seconds : float
        Time spent on waiting for batches, and in all.
    """

    step: int = 0
    best_step: int = 0
    best_score: Score = (-math.inf,)
    epoch_steps: int = 1
    epoch_loss: float = 0.0
    stopped_early: bool = False
    last: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    waiting_seconds: float = 0.0
    total_seconds: float = 0.0

    @property
    def best_epoch(self) -> int:
        """Number of the validation (from 1) whose weights are kept; 0 for none."""
        return self.best_step // self.epoch_steps


@dataclass(frozen=True)
class Schedule:
    """How long a loop runs and what it leaves behind on the way.

    Attributes
    ----------
    steps, epoch_steps : int
        Steps in all; steps between two validations.
    patience : int
        Validations without a better score after which training ends; 0 never ends early.
    rows : {"step", "epoch"}
        Whether the log has a row for each step or for each validation.
    checkpoint_seconds : float
        Longest time between two checkpoints.
    checkpoint_each_epoch : bool
        Whether there is one after each validation too.
    workers : int
        Processes that prepare batches.
    resume_hint : str
        Tells how to go on with an interrupted run.
    late : tuple of str
        Columns of the log that its first row may not have yet.
    made_from : mapping
        Contents that decide the result, by names that a user knows; a checkpoint made from others is refused.
    """

    steps: int
    epoch_steps: int
    patience: int = 0
    rows: Literal["step", "epoch"] = "step"
    checkpoint_seconds: float = 60.0
    checkpoint_each_epoch: bool = True
    workers: int = 0
    resume_hint: str = ""
    late: tuple[str, ...] = ()
    made_from: Mapping[str, Any] = field(default_factory=dict)


class Loop:
    """Train for a number of steps and keep the weights that validate best.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    trainee : Trainee
    batches : Dataset
        Step -> batch, a pure function of the step.
    schedule : Schedule
    folder : Path
        Receives ``log.csv`` and ``state.pt``.
    on_step : callable
        Told of each step, for the progress bar.
    """

    def __init__(
        self,
        fabric: Fabric,
        trainee: Trainee,
        batches: Dataset[Any],
        schedule: Schedule,
        *,
        folder: Path,
        on_step: OnStep = lambda step, losses: None,
    ) -> None:
        self.fabric, self.trainee, self.batches, self.schedule = fabric, trainee, batches, schedule
        self.folder, self.on_step = folder, on_step
        self.progress = Progress(epoch_steps=schedule.epoch_steps)
        self.best: dict[str, Tensor] | None = None
        self.log = Log(folder / "log.csv", enabled=fabric.is_global_zero, late=schedule.late)

    def run(self, *, resume: bool) -> Progress:
        """Train to the end and leave the best validated weights in the model.

        Raises
        ------
        Interrupted
            After SIGINT or SIGTERM, when the state has been saved.
        ConfigError
            If the checkpoint to go on from was made from something else; names the differences.
        ProtclipError
            At the first step whose loss or temperature is not finite; the last checkpoint is kept.
        """
        path, plan = self.folder / "state.pt", self.schedule
        if resume and path.exists():
            self._restore(path)
        else:
            self.log.start()
        progress = self.progress
        began = saved = time.monotonic()
        with catch_signals() as stopping:
            batches = step_loader(self.batches, progress.step, plan.steps, workers=plan.workers)
            while progress.step < plan.steps and not progress.stopped_early:
                waited = time.monotonic()
                batch = next(batches)
                progress.waiting_seconds += time.monotonic() - waited
                row = self._step(progress.step, batch)
                progress.step += 1
                ends_epoch = progress.step % plan.epoch_steps == 0 or progress.step == plan.steps
                self._write(row, ends_epoch)
                # One process decides for all, so that none of them saves or stops alone.
                due = time.monotonic() - saved > plan.checkpoint_seconds
                stop, due = agree(self.fabric, stopping.asked, due)
                over = progress.step == plan.steps or progress.stopped_early
                if due or stop or over or (ends_epoch and plan.checkpoint_each_epoch):
                    self._save(path)
                    saved = time.monotonic()
                if stop and not over:
                    raise Interrupted(
                        f"stopped after step {progress.step} of {plan.steps}; everything is saved",
                        where=str(self.folder),
                        hint=plan.resume_hint or None,
                    )
        progress.total_seconds = time.monotonic() - began
        if self.best is not None:
            load_trainable_state(self.trainee.model, self.best, where=str(path))
        gather_blocks(self.trainee.model)
        return progress

    def _step(self, step: int, batch: Any) -> dict[str, float]:
        rate, optimizer = self.trainee.rate(step), self.trainee.optimizer
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate
        losses = self.trainee.gradients(step, batch)
        self._refuse_infinite(step, {"loss": losses["loss"]})
        optimizer.step()
        optimizer.zero_grad()
        numbers = self.trainee.numbers()
        self._refuse_infinite(step, numbers)
        self.progress.losses = {**losses, **numbers}
        self.progress.epoch_loss += losses["loss"] / self.schedule.epoch_steps
        return {"step": float(step + 1), "rate": rate, **self.progress.losses}

    def _refuse_infinite(self, step: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise ProtclipError(
                    f"the {name} is {value} at step {step + 1}",
                    where=str(self.folder),
                    hint="Lower the learning rates, or use --precision fp32; the last checkpoint is kept",
                )

    def _write(self, row: dict[str, float], ends_epoch: bool) -> None:
        """Validate where an epoch ends, log, and show the step."""
        progress, plan = self.progress, self.schedule
        found = self._validate() if ends_epoch else {}
        if plan.rows == "step":
            self.log.add(row | found)
        elif ends_epoch:
            epoch = float(progress.step // plan.epoch_steps)
            means = {"epoch": epoch, "rate": row["rate"], "loss": progress.epoch_loss}
            self.log.add(means | found)
        if ends_epoch:
            progress.epoch_loss = 0.0
        self.on_step(progress.step, row | found)

    def _validate(self) -> dict[str, float]:
        progress = self.progress
        self.trainee.model.eval()
        score, numbers = self.trainee.validate()
        if score > progress.best_score:
            progress.best_score, progress.best_step = score, progress.step
            # A copy: the model goes on changing.
            self.best = trainable_state(self.trainee.model)
        since = (progress.step - progress.best_step) // self.schedule.epoch_steps
        progress.stopped_early = bool(self.schedule.patience) and since >= self.schedule.patience
        progress.last = numbers
        return numbers

    def _save(self, path: Path) -> None:
        # Of a sharded model, every process gives its part.
        model, optimizer = trainable_state(self.trainee.model), whole_optimizer(self.trainee.optimizer)
        if self.fabric.is_global_zero:
            progress = self.progress
            save_state(
                path,
                {
                    "step": progress.step,
                    "best_step": progress.best_step,
                    "best_score": list(progress.best_score),
                    "epoch_loss": progress.epoch_loss,
                    "stopped_early": progress.stopped_early,
                    "made_from": dict(self.schedule.made_from),
                    "log_bytes": self.log.sync(),
                    "model": model,
                    "best": self.best,
                    "optimizer": optimizer,
                    **{name: part.state_dict() for name, part in self.trainee.parts.items()},
                },
            )
        self.fabric.barrier()

    def _restore(self, path: Path) -> None:
        state = load_state(path)
        # Version 0.1 noted nothing.
        if changes := differences(state.get("made_from", self.schedule.made_from), self.schedule.made_from):
            raise ConfigError(
                "the run was begun with other data, and would go on with a mixture",
                where=str(self.folder),
                got="another " + ", another ".join(changes),
                hint="Give it what it was begun with, or start a new run in another folder",
            )
        with damaged_state(path):
            load_trainable_state(self.trainee.model, state["model"], where=str(path))
            load_optimizer(self.trainee.optimizer, state["optimizer"])
            for name, part in self.trainee.parts.items():
                part.load_state_dict(state[name])
            self.best = None if state["best"] is None else dict(state["best"])
            # Version 0.1 counted a task's best epoch, and had one number for the score of pretraining.
            epochs = state.get("best_epoch", 0) * self.schedule.epoch_steps
            score = state["best_score"]
            self.progress = Progress(
                step=int(state["step"]),
                best_step=int(state.get("best_step", epochs)),
                best_score=tuple(map(float, score if isinstance(score, list) else [score])),
                epoch_steps=self.schedule.epoch_steps,
                epoch_loss=float(state.get("epoch_loss", 0.0)),
                stopped_early=bool(state.get("stopped_early", False)),
            )
            size = int(state["log_bytes"])
        self.log.resume(size)
