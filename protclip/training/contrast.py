"""One step of pretraining: both towers' vectors, the objective over all rows, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protclip.config.pretraining import TrainConfig
from protclip.losses import Keywords, Objective, Views, gather_views
from protclip.model.two_tower import Inputs, TwoTower, frozen_statistics
from protclip.parallel.fsdp import clip_gradients, is_sharded, shard_blocks
from protclip.training.batches import StepBatch, Stream
from protclip.training.loop import Trainee, Validation
from protclip.training.running import learning_rate_factor, seed_step

Key = tuple[str, str]
"""Side and kind of a stream."""


class Contrast(Trainee):
    """Two towers trained by an objective.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    model : TwoTower
    objective : Objective
    config : TrainConfig
    steps : int
        Of the whole run.
    validate : callable
        Model -> what validation says of it.
    """

    def __init__(
        self,
        fabric: Fabric,
        model: TwoTower,
        objective: Objective,
        config: TrainConfig,
        *,
        steps: int,
        validate: Callable[[TwoTower], Validation],
    ) -> None:
        self.fabric, self.objective, self.config = fabric, objective, config
        self.towers, self.steps, self._validation = model, steps, validate
        if config.strategy == "fsdp":
            shard_blocks(model.to(fabric.device))
        optimizer = torch.optim.AdamW(parameter_groups(model, objective, config))
        self.wrapped, self.optimizer = fabric.setup(model, optimizer)
        objective.to(fabric.device)
        self.model, self.parts = model, {"objective": objective}

    def rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine."""
        return learning_rate_factor(step, self.steps, self.config.warmup_fraction)

    def validate(self) -> Validation:
        """Score the towers."""
        return self._validation(self.towers)

    def numbers(self) -> dict[str, float]:
        """The temperature."""
        return {"temperature": float(1.0 / self.towers.scale.detach().double())}

    def gradients(self, step: int, batch: StepBatch) -> dict[str, float]:
        """Losses of the rows of all processes, and the gradient of their total."""
        self.wrapped.train()
        self.objective.train()
        chunks = max(len(stream.chunks) for stream in batch.streams)
        losses = self._whole(step, batch) if chunks == 1 else self._chunked(step, batch, chunks)
        if self.config.strategy == "fsdp":
            trained = [p for group in self.optimizer.param_groups for p in group["params"]]
            clip_gradients(trained, self.config.clip_gradient)
        else:
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=self.config.clip_gradient, error_if_nonfinite=False
            )
        return {name: float(value.detach()) for name, value in losses.items()}

    def _whole(self, step: int, batch: StepBatch) -> dict[str, Tensor]:
        seed_step(self.config.seed, step, 0, self.fabric.global_rank)
        keys, inputs = self._chunk(batch.streams, 0)
        vectors, scale = self.wrapped(inputs)
        losses = self._losses(dict(zip(keys, vectors, strict=True)), batch, scale)
        self.fabric.backward(losses["loss"])
        return losses

    def _chunked(self, step: int, batch: StepBatch, chunks: int) -> dict[str, Tensor]:
        """The same loss over all rows with one chunk in memory at a time.

        The vectors are computed twice: without gradients for the loss and its gradient with respect to
        them, then chunk by chunk with the same random numbers to carry that gradient into the towers.
        """
        held: dict[Key, list[Tensor]] = {(s.name, s.kind): [] for s in batch.streams}
        with torch.no_grad(), frozen_statistics(self.towers):
            for chunk in range(chunks):
                keys, inputs = self._chunk(batch.streams, chunk)
                seed_step(self.config.seed, step, chunk, self.fabric.global_rank)
                for key, vector in zip(keys, self.wrapped(inputs)[0], strict=True):
                    held[key].append(vector)
        leaves = {key: torch.cat(vectors).requires_grad_() for key, vectors in held.items()}
        scale = self.towers.scale.detach().requires_grad_()
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

    def _chunk(self, streams: list[Stream], chunk: int) -> tuple[list[Key], Inputs]:
        present = [stream for stream in streams if chunk < len(stream.chunks)]
        # Views lack residues, prompts are no captions: a tower's running statistics are for the items alone.
        altered = [place for place, stream in enumerate(present) if stream.kind != "items"]
        parts = [(stream.name, self._move(stream.chunks[chunk])) for stream in present]
        return [(stream.name, stream.kind) for stream in present], Inputs(parts, altered)

    def _losses(self, vectors: dict[Key, Tensor], batch: StepBatch, scale: Tensor) -> dict[str, Tensor]:
        """Losses over the rows of all processes, matched rows first."""

        def keywords(name: str) -> Keywords | None:
            if name not in batch.candidates:
                return None
            # A process may have no share of few keywords.
            rows = vectors.get((name, "keywords"), vectors[name, "items"][:0])
            return Keywords(rows, self._move(batch.candidates[name]))

        u, v = self.towers.names
        views = Views(
            u=vectors[u, "items"],
            v=vectors[v, "items"],
            u_view=vectors.get((u, "view")),
            v_view=vectors.get((v, "view")),
            n_pairs=batch.n_pairs,
            scale=scale,
            u_items=self._move(batch.items[u]),
            v_items=self._move(batch.items[v]),
            u_keywords=keywords(u),
            v_keywords=keywords(v),
            copies=batch.copies,
        )
        losses: dict[str, Tensor] = self.objective(gather_views(views))
        return losses

    def _move(self, batch: Any) -> Any:
        return batch.to(self.fabric.device, non_blocking=True)


def parameter_groups(model: TwoTower, objective: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Trained parameters with their peak rates; no weight decay on vectors (biases, norms, temperature).

    Towers from scratch, pretrained towers and everything else have a rate each.
    """
    rates = {
        f"encoders.{name}.": config.encoder_lr if side.pretrained else config.scratch_lr
        for name, side in model.sides.items()
    }
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
