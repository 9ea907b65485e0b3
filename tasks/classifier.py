"""The classifier on top of towers, and how one is trained on features that are already there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from protclip.errors import ConfigError
from protclip.model.heads import Standardise
from protclip.tasks.task_loss import TaskLoss
from protclip.training.running import learning_rate_factor, seed_step


class Classifier(nn.Module):
    """Features [n, in_dim] -> logits [n, classes].

    Parameters
    ----------
    in_dim, classes : int
    kind : {"linear", "mlp"}
        ``mlp`` has one hidden layer with batch normalisation, LeakyReLU and dropout.
    dropout : float
        Of the hidden layer, or of the features where there is none.
    """

    def __init__(self, in_dim: int, classes: int, *, kind: str = "mlp", dropout: float = 0.2) -> None:
        super().__init__()
        if kind not in ("linear", "mlp"):
            raise ConfigError("unknown classifier", where="--head", got=repr(kind), expected="linear or mlp")
        self.standardise = Standardise(in_dim)
        hidden = max(in_dim, min(classes, 1024))
        self.layers = (
            nn.Sequential(nn.Dropout(dropout), nn.Linear(in_dim, classes))
            if kind == "linear"
            else nn.Sequential(
                nn.Linear(in_dim, hidden),
                nn.BatchNorm1d(hidden),
                nn.LeakyReLU(0.1),
                nn.Dropout(dropout),
                nn.Linear(hidden, classes),
            )
        )

    def forward(self, features: Tensor) -> Tensor:
        """Logits [n, classes]."""
        logits: Tensor = self.layers(self.standardise(features))
        return logits


def train_classifier(
    network: Classifier,
    features: Tensor,
    targets: Tensor,
    loss: TaskLoss,
    *,
    seed: int,
    epochs: int | None = None,
    batch_size: int = 256,
    lr: float = 1e-2,
    weight_decay: float = 1e-2,
) -> None:
    """Train on features [n, d], standardised by their statistics, with AdamW, warm-up and a cosine.

    Parameters
    ----------
    network : Classifier
        On the CPU; left in evaluation mode.
    features, targets : tensors
        Targets as :class:`protclip.tasks.task_loss.TaskLoss` takes them.
    loss : TaskLoss
    seed : int
        Of the order of rows and of dropout.
    epochs : int, optional
        By default 30, or as many more as make 600 steps.
    batch_size : int
        All rows at once where there are fewer.
    lr, weight_decay : float
    """
    network.standardise.fit(features)
    n = len(features)
    size = min(batch_size, n)
    epoch_steps = max(1, n // size)
    steps = (epochs or max(30, -(-600 // epoch_steps))) * epoch_steps
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=weight_decay)
    network.train()
    for step in range(steps):
        epoch, slot = divmod(step, epoch_steps)
        order = np.random.default_rng([seed, epoch]).permutation(n)
        rows = torch.from_numpy(order[slot * size : (slot + 1) * size])
        seed_step(seed, 1 + step)
        for group in optimizer.param_groups:
            group["lr"] = lr * learning_rate_factor(step, steps, 0.1)
        optimizer.zero_grad()
        loss(network(features[rows]), targets[rows]).backward()
        optimizer.step()
    network.eval()
