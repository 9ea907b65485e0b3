"""The network of a task: towers, their fusion, and a classifier on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from protclip.errors import ConfigError
from protclip.heads import HEADS, Standardise
from protclip.inference import Done, autocast
from protclip.modalities.base import Modality, budget_batches
from protclip.model import Inputs, build_side, kind_of
from protclip.tasks.serial import SerialTower

Fusion = Literal["concat", "serial"]
Features = Literal["tower", "shared"]


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


class TaskNetwork(nn.Module):
    """One or two towers, and a classifier on their features.

    Parameters
    ----------
    sides : sequence of Modality
        Structure first where there are two.
    classes : int
    fusion : {"concat", "serial"}
    features : {"tower", "shared"}
        ``shared`` puts projection heads between the towers and the classifier.
    dim : int
        Width of the shared space.
    projection : str
        Kind of the projection heads.
    head : {"linear", "mlp"}
    dropout : float
    frozen : sequence of str
        Towers that are not trained.

    Raises
    ------
    ConfigError
        If the parts do not fit together.
    """

    def __init__(
        self,
        sides: Sequence[Modality[Any]],
        classes: int,
        *,
        fusion: Fusion = "concat",
        features: Features = "tower",
        dim: int = 256,
        projection: str = "mlp",
        head: str = "mlp",
        dropout: float = 0.2,
        frozen: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.sides = {side.name: side for side in sides}
        self.fusion, self.feature_kind, self.frozen = fusion, features, tuple(frozen)
        self.options = {"head": head, "dropout": dropout, "dim": dim, "projection": projection}
        self.classes = classes
        self.towers = nn.ModuleDict({name: side.encoder for name, side in self.sides.items()})
        self.serial: SerialTower | None = None
        if fusion == "serial":
            self.serial = SerialTower(self.sides)
            # Registered by the serial tower; a module in two places would be saved twice.
            self.towers = nn.ModuleDict()
        self.projections = nn.ModuleDict(
            {name: HEADS[projection](side.encoder.out_dim, dim) for name, side in self.sides.items()}
            if features == "shared"
            else {}
        )
        self.head = Classifier(self.feature_dim, classes, kind=head, dropout=dropout)
        for name in self.frozen:
            self.encoder(name).requires_grad_(False)
            if name in self.projections:
                self.projections[name].requires_grad_(False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the towers."""
        return tuple(self.sides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Features of each part that is put side by side."""
        if self.serial is not None:
            return (self.serial.out_dim,)
        if self.feature_kind == "shared":
            return (int(self.options["dim"]),) * len(self.sides)  # type: ignore[call-overload]
        return tuple(side.encoder.out_dim for side in self.sides.values())

    @property
    def feature_dim(self) -> int:
        """Width of what the classifier sees."""
        return sum(self.widths)

    def encoder(self, name: str) -> nn.Module:
        """The tower called ``name``."""
        return self.sides[name].encoder

    def train(self, mode: bool = True) -> TaskNetwork:
        """Training mode, in which frozen towers stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.encoder(name).eval()
            if name in self.projections:
                self.projections[name].eval()
        return self

    def project(self, name: str, features: Tensor) -> Tensor:
        """What the classifier sees of one tower's features [n, d]."""
        if name not in self.projections:
            return features.float()
        return normalize(self.projections[name](features).float(), dim=-1, eps=1e-8)

    def features(self, parts: Sequence[tuple[str, Any]]) -> Tensor:
        """Features [n, feature_dim] of one batch per tower; a tensor stands for that tower's features."""
        if self.serial is not None:
            out: Tensor = self.serial(dict(parts), frozen=self.frozen).float()
            return out
        rows = []
        for name, batch in parts:
            if isinstance(batch, Tensor):
                rows.append(self.project(name, batch))
                continue
            with torch.set_grad_enabled(torch.is_grad_enabled() and name not in self.frozen):
                rows.append(self.project(name, self.towers[name](batch)))
        return torch.cat(rows, 1)

    def forward(self, inputs: Inputs) -> Tensor:
        """Logits [n, classes] in float32 of one batch per tower."""
        logits: Tensor = self.head(self.features(inputs.parts)).float()
        return logits

    def collate(self, items: Mapping[str, Any], index: Sequence[int]) -> list[tuple[str, Any]]:
        """Batches of some items of every tower; features (a tensor) are sliced."""
        return [
            (name, found[list(index)])
            if isinstance(found := items[name], Tensor)
            else (name, self.sides[name].collate([found[i] for i in index]))
            for name in self.names
        ]

    @torch.no_grad()
    def fit_scale(self, features: Tensor) -> None:
        """Standardise the classifier's input by the statistics of training features [n, feature_dim]."""
        self.head.standardise.fit(features.to(self.head.standardise.mean.device))

    @torch.inference_mode()
    def predict(
        self,
        items: Mapping[str, Any],
        *,
        device: torch.device,
        precision: str = "auto",
        features: bool = False,
        done: Done = lambda n: None,
    ) -> NDArray[np.float32]:
        """Logits [n, classes] (or features [n, feature_dim]) of the items of every tower, in their order.

        A row does not depend on the other items. A tensor stands for the features of a frozen tower.
        """
        costs = [1] * len(items[self.names[0]])
        budget = 65536
        for name in self.names:
            if not isinstance(items[name], Tensor):
                costs = [max(a, self.sides[name].cost(b)) for a, b in zip(costs, items[name], strict=True)]
                budget = min(budget, self.sides[name].budget)
        rows = np.zeros((len(costs), self.feature_dim if features else self.classes), np.float32)
        self.eval()
        for index in budget_batches(costs, budget):
            parts = [(name, part.to(device)) for name, part in self.collate(items, index)]
            with autocast(device, precision):
                out = self.features(parts) if features else self(Inputs(parts))
            rows[index] = out.float().cpu().numpy()
            done(len(index))
        return rows

    def config(self) -> dict[str, Any]:
        """Everything but the weights, as plain values."""
        return {
            "sides": [{"modality": kind_of(side), **side.config()} for side in self.sides.values()],
            "classes": self.classes,
            "fusion": self.fusion,
            "features": self.feature_kind,
            "frozen": list(self.frozen),
            **self.options,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TaskNetwork:
        """Rebuild an untrained network from :meth:`config`."""
        options = dict(config)
        sides = [build_side(side) for side in options.pop("sides")]
        return cls(sides, options.pop("classes"), **options)
