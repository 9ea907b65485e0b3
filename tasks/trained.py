"""A trained network with what was decided on validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from protclip.tasks.calibration import Calibrator
from protclip.tasks.dataset import TaskData
from protclip.tasks.network import TaskNetwork
from protclip.tasks.starting_towers import Parent
from protclip.training.loop import Progress
from protclip.typing import Indices, Vectors


@dataclass
class Alone:
    """The classifier for sequences alone, as it does on validation."""

    calibrator: Calibrator
    threshold: float | None
    valid: Vectors


@dataclass
class Trained:
    """A trained network and what was decided on validation."""

    network: TaskNetwork
    parent: Parent
    features: dict[str, Tensor]
    progress: Progress
    calibrator: Calibrator
    threshold: float | None
    valid: Vectors
    alone: Alone | None = None
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "auto"

    def predict(self, data: TaskData, rows: Indices, *, alone: bool = False) -> Vectors:
        """Logits [n, classes] of rows of a benchmark; ``alone`` asks the classifier for sequences alone."""
        towers = ["sequence"] if alone else None
        inputs = tower_inputs(self.network, data, rows, self.features, towers)
        return self.network.predict(inputs, device=self.device, precision=self.precision, alone=alone)


def tower_inputs(
    network: TaskNetwork,
    data: TaskData,
    rows: Indices,
    features: dict[str, Tensor],
    towers: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Items of the towers for rows of a benchmark, or their features where these are known."""
    names = network.names if towers is None else towers
    known = {name: features[name][torch.from_numpy(rows)] for name in names if name in features}
    return {**data.items(rows, [name for name in names if name not in known]), **known}
