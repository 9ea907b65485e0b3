"""The training loop: steps, validation, checkpoints, exact resume. It knows no modality by name."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protclip.config.pretraining import TrainConfig
from protclip.errors import ProtclipError
from protclip.losses import Keywords, Objective, Views, gather_views
from protclip.model.two_tower import Inputs, TwoTower, frozen_statistics
from protclip.parallel.fsdp import (
    clip_gradients,
    gather_blocks,
    is_sharded,
    load_optimizer,
    shard_blocks,
    whole_optimizer,
)
from protclip.training.batches import StepBatch, StepDataset, Stream, step_loader
from protclip.training.checkpoint import load_state, load_trainable_state, save_state, trainable_state
from protclip.training.running import Interrupted, Log, agree, catch_signals, learning_rate_factor, seed_step
from protclip.typing import OnStep

Validate = Callable[[TwoTower], dict[str, float]]


@dataclass
class Progress:
    """What a finished or interrupted loop knows."""

    step: int = 0
    best_step: int = 0
    best_score: float = -math.inf
    last: dict[str, float] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)
    waiting_seconds: float = 0.0
    total_seconds: float = 0.0


class Loop:
    """Train a model for a number of steps.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    model : TwoTower
    objective : Objective
    dataset : StepDataset
    config : TrainConfig
    steps, epoch_steps : int
        Optimiser steps in all; steps between two validations.
    folder : Path
        Run folder; receives ``log.csv`` and ``state.pt``.
    scratch : tuple of bool
        Whether the left and the right tower are trained from scratch (higher learning rate).
    validate : callable
        Model -> numbers for the log; ``score`` among them decides which weights are kept.
    on_step : callable
        Called after each step on the main process, for the progress bar.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: TwoTower,
        objective: Objective,
        dataset: StepDataset,
        config: TrainConfig,
        *,
        steps: int,
        epoch_steps: int,
        folder: Path,
        scratch: tuple[bool, bool],
        validate: Validate,
        on_step: OnStep = lambda step, losses: None,
    ) -> None:
        self.fabric, self.model, self.objective, self.dataset, self.config = (
            fabric,
            model,
            objective,
            dataset,
            config,
        )
        self.steps, self.epoch_steps, self.folder = steps, epoch_steps, folder
        self.validate, self.on_step = validate, on_step
        if config.strategy == "fsdp":
            shard_blocks(model.to(fabric.device))
        optimizer = torch.optim.AdamW(parameter_groups(model, objective, config, scratch))
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        objective.to(fabric.device)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None
        self.log = Log(
            folder / "log.csv", enabled=fabric.is_global_zero, late=("valid_R@1", "valid_R@10", "valid_mrr")
        )

    def run(self, *, resume: bool) -> Progress:
        """Train to the end and leave the best validated weights in the model.

        Raises
        ------
        Interrupted
            After SIGINT or SIGTERM, when the state has been saved.
        ProtclipError
            At the first step whose loss is not finite; the last checkpoint is kept.
        """
        path = self.folder / "state.pt"
        if resume and path.exists():
            self._restore(path)
        else:
            self.log.start()
        began = saved = time.monotonic()
        with catch_signals() as stopping:
            batches = step_loader(self.dataset, self.progress.step, self.steps, workers=self.config.workers)
            while self.progress.step < self.steps:
                waited = time.monotonic()
                batch = next(batches)
                self.progress.waiting_seconds += time.monotonic() - waited
                row = self._step(self.progress.step, batch)
                self.progress.losses = {k: v for k, v in row.items() if k not in ("step", "rate")}
                self.progress.step += 1
                ends_epoch = self.progress.step % self.epoch_steps == 0 or self.progress.step == self.steps
                if ends_epoch:
                    row |= self._validate()
                self.log.add(row)
                self.on_step(self.progress.step, row)
                # One process decides for all, so that none of them saves or stops alone.
                stop, due = agree(
                    self.fabric, stopping.asked, time.monotonic() - saved > self.config.checkpoint_seconds
                )
                if ends_epoch or due or stop:
                    self._save(path)
                    saved = time.monotonic()
                if stop and self.progress.step < self.steps:
                    raise Interrupted(
                        f"stopped after step {self.progress.step} of {self.steps}; everything is saved",
                        where=str(self.folder),
                        hint=f"Go on with `protclip pretrain --out {self.folder} --resume`",
                    )
        self.progress.total_seconds = time.monotonic() - began
        if self.best is not None:
            load_trainable_state(self.model, self.best, where=str(path))
        gather_blocks(self.model)
        return self.progress

    def _step(self, step: int, batch: StepBatch) -> dict[str, float]:
        self.wrapped.train()
        self.objective.train()
        rate = learning_rate_factor(step, self.steps, self.config.warmup_fraction)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * rate
        streams = [batch.streams[key] for key in batch.streams]
        chunks = max(len(stream.chunks) for stream in streams)
        losses = (
            self._forward_whole(step, batch) if chunks == 1 else self._forward_chunked(step, batch, chunks)
        )
        if self.config.strategy == "fsdp":
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            clip_gradients(trained, self.config.clip_gradient)
        else:
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=self.config.clip_gradient, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        row = {"step": float(step + 1), "rate": rate}
        row |= {name: float(value.detach()) for name, value in losses.items()}
        row["temperature"] = 1.0 / float(self.model.scale.detach())
        if not math.isfinite(row["loss"]):
            raise ProtclipError(
                f"the loss is {row['loss']} at step {step + 1}",
                where=str(self.folder),
                hint="Lower the learning rates, or use --precision fp32; the last checkpoint is kept",
            )
        return row

    def _forward_whole(self, step: int, batch: StepBatch) -> dict[str, Tensor]:
        seed_step(self.config.seed, step, 0, self.fabric.global_rank)
        keys, inputs = self._chunk(batch.streams, 0)
        vectors, scale = self.wrapped(inputs)
        losses = self._losses(dict(zip(keys, vectors, strict=True)), batch, scale)
        self.fabric.backward(losses["loss"])
        return losses

    def _forward_chunked(self, step: int, batch: StepBatch, chunks: int) -> dict[str, Tensor]:
        """The same loss over all rows with one chunk in memory at a time.

        The vectors are computed twice: without gradients for the loss and its gradient with respect to
        them, then chunk by chunk with the same random numbers to carry that gradient into the towers.
        """
        held: dict[str, list[Tensor]] = {key: [] for key in batch.streams}
        with torch.no_grad(), frozen_statistics(self.model):
            for chunk in range(chunks):
                keys, inputs = self._chunk(batch.streams, chunk)
                seed_step(self.config.seed, step, chunk, self.fabric.global_rank)
                for key, vector in zip(keys, self.wrapped(inputs)[0], strict=True):
                    held[key].append(vector)
        leaves = {key: torch.cat(vectors).requires_grad_() for key, vectors in held.items()}
        scale = self.model.scale.detach().requires_grad_()
        losses = self._losses(leaves, batch, scale)
        torch.autograd.backward(losses["loss"])
        pieces = {
            key: torch.split(leaf.grad, [len(v) for v in held[key]])
            for key, leaf in leaves.items()
            if leaf.grad is not None
        }
        for chunk in range(chunks):
            keys, inputs = self._chunk(batch.streams, chunk)
            seed_step(self.config.seed, step, chunk, self.fabric.global_rank)
            with self.fabric.no_backward_sync(self.wrapped, enabled=chunk < chunks - 1):
                vectors, own_scale = self.wrapped(inputs)
                carried = sum(
                    ((v * pieces[k][chunk]).sum() for k, v in zip(keys, vectors, strict=True) if k in pieces),
                    start=vectors[0].sum() * 0,
                )
                if chunk == 0 and scale.grad is not None:
                    carried = carried + own_scale * scale.grad
                self.fabric.backward(carried)
        return losses

    def _chunk(self, streams: dict[str, Stream], chunk: int) -> tuple[list[str], Inputs]:
        present = {key: s for key, s in streams.items() if chunk < len(s.chunks)}
        # Views lack residues, prompts are no captions: a tower's running statistics are for the items alone.
        altered = [place for place, key in enumerate(present) if key not in ("left", "right")]
        parts = [(s.name, self._move(s.chunks[chunk])) for s in present.values()]
        return list(present), Inputs(parts, altered)

    def _losses(self, vectors: dict[str, Tensor], batch: StepBatch, scale: Tensor) -> dict[str, Tensor]:
        """Losses over the rows of all processes, matched rows first."""

        def keywords(key: str) -> Keywords | None:
            if key not in batch.candidates:
                return None
            # A process may have no share of few keywords.
            rows = vectors.get(f"{key}_keywords", vectors[key][:0])
            return Keywords(rows, self._move(batch.candidates[key]))

        views = Views(
            u=vectors["left"],
            v=vectors["right"],
            u_view=vectors.get("left_view"),
            v_view=vectors.get("right_view"),
            n_pairs=batch.n_pairs,
            scale=scale,
            u_items=self._move(batch.items["left"]),
            v_items=self._move(batch.items["right"]),
            u_keywords=keywords("left"),
            v_keywords=keywords("right"),
        )
        losses: dict[str, Tensor] = self.objective(gather_views(views))
        return losses

    def _move(self, batch: Any) -> Any:
        return batch.to(self.fabric.device, non_blocking=True)

    def _validate(self) -> dict[str, float]:
        self.model.eval()
        scores = self.validate(self.model)
        score = scores.pop("score", math.nan)
        if score > self.progress.best_score:
            self.progress.best_score, self.progress.best_step = score, self.progress.step
            self.best = trainable_state(self.model)
        self.progress.last = scores
        return scores

    def _save(self, path: Path) -> None:
        # Of a sharded model, every process gives its part.
        model, optimizer = trainable_state(self.model), whole_optimizer(self.optimizer)
        if self.fabric.is_global_zero:
            save_state(
                path,
                {
                    "step": self.progress.step,
                    "best_step": self.progress.best_step,
                    "best_score": self.progress.best_score,
                    "log_bytes": self.log.sync(),
                    "model": model,
                    "best": self.best,
                    "optimizer": optimizer,
                    "objective": self.objective.state_dict(),
                },
            )
        self.fabric.barrier()

    def _restore(self, path: Path) -> None:
        state = load_state(path)
        load_trainable_state(self.model, state["model"], where=str(path))
        load_optimizer(self.optimizer, state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        self.best = state["best"]
        self.progress = Progress(state["step"], state["best_step"], state["best_score"])
        self.log.resume(state["log_bytes"])


def parameter_groups(
    model: TwoTower, objective: nn.Module, config: TrainConfig, scratch: tuple[bool, bool]
) -> list[dict[str, Any]]:
    """Trained parameters with their peak rates; no weight decay on vectors (biases, norms, temperature)."""
    rates: dict[str, float] = {}
    for name, from_scratch in zip(model.names, scratch, strict=True):
        rates[f"encoders.{name}."] = config.scratch_lr if from_scratch else config.encoder_lr
    # Whole and sharded tensors cannot be updated in one call.
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    named = [*model.named_parameters(), *objective.named_parameters(prefix="objective")]
    for name, parameter in named:
        if parameter.requires_grad:
            rate = next((r for prefix, r in rates.items() if name.startswith(prefix)), config.head_lr)
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay, is_sharded(parameter)), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "peak_lr": rate, "weight_decay": decay}
        for (rate, decay, _), parameters in groups.items()
    ]
