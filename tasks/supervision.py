"""One step of a downstream run: the predictions, their loss against the labels, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protclip.model.two_tower import Inputs
from protclip.tasks.batches import TaskBatch
from protclip.tasks.definitions import Recipe
from protclip.tasks.network import TaskNetwork
from protclip.tasks.task_loss import TaskLoss
from protclip.training.loop import Trainee, Validation
from protclip.training.running import learning_rate_factor, seed_step

WARMUP = 0.1
"""Share of the steps over which the rate rises, where the recipe has no milestones."""


class Supervision(Trainee):
    """A task network trained on labels.

    Parameters
    ----------
    fabric : Fabric
        Device, precision and processes.
    network : TaskNetwork
    loss : TaskLoss
    recipe : Recipe
    seed : int
        Of dropout.
    steps : int
        Of the whole run.
    validate : callable
        Network in evaluation mode -> (headline metric, tie-breaker); larger is better.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: TaskNetwork,
        loss: TaskLoss,
        recipe: Recipe,
        *,
        seed: int,
        steps: int,
        validate: Callable[[TaskNetwork], tuple[float, float]],
    ) -> None:
        self.fabric, self.network, self.recipe = fabric, network, recipe
        self.seed, self.steps, self._validation = seed, steps, validate
        self.wrapped, self.optimizer = fabric.setup(network, make_optimizer(network, recipe))
        self.loss = loss.to(fabric.device)
        self.model = network

    def rate(self, step: int) -> float:
        """As the recipe says."""
        return rate_factor(step, self.steps, self.recipe)

    def validate(self) -> Validation:
        """Headline metric and loss."""
        score = self._validation(self.network)
        return Validation(score, {"valid_score": score[0], "valid_loss": -score[1]})

    def gradients(self, step: int, batch: TaskBatch) -> dict[str, float]:
        """Mean loss over all processes, and its gradient."""
        self.wrapped.train()
        seed_step(self.seed, step, 0, self.fabric.global_rank)
        device = self.fabric.device
        parts = [(name, part.to(device, non_blocking=True)) for name, part in batch.parts]
        loss = self.loss(self.wrapped(Inputs(parts)), batch.targets.to(device, non_blocking=True))
        self.fabric.backward(loss)
        self.fabric.clip_gradients(
            self.wrapped, self.optimizer, max_norm=self.recipe.clip_gradient, error_if_nonfinite=False
        )
        return {"loss": float(self._mean(loss.detach()))}

    def _mean(self, value: Tensor) -> Tensor:
        if self.fabric.world_size == 1:
            return value
        return cast(Tensor, self.fabric.all_reduce(value, reduce_op="mean"))


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
