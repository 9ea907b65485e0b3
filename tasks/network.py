"""The network of a task: towers, their fusion, and a classifier on top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from protclip.errors import ConfigError
from protclip.inference.encode import in_batches
from protclip.modalities.base import Modality
from protclip.modalities.registry import build_side, kind_of
from protclip.model.heads import HEADS
from protclip.model.two_tower import Inputs
from protclip.tasks.classifier import Classifier
from protclip.tasks.serial import SerialTower
from protclip.typing import Done

Fusion = Literal["concat", "serial"]
Features = Literal["tower", "shared"]


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
    sequence_only : bool
        Also hold :attr:`alone`, a classifier on the sequence tower's features, for proteins without
        structure. It has no part in training the rest.

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
        sequence_only: bool = False,
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
        self.alone: Classifier | None = None
        if sequence_only:
            width = self.widths[self.names.index("sequence")]
            self.alone = Classifier(width, classes, kind="linear", dropout=0.0).requires_grad_(False)
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

    def _classify(self, features: Tensor, alone: bool) -> Tensor:
        if not alone:
            return cast(Tensor, self.head(features))
        if self.alone is None:
            raise ConfigError("the network has no classifier for sequences alone")
        return cast(Tensor, self.alone(features))

    def collate(
        self, items: Mapping[str, Any], index: Sequence[int], names: Sequence[str]
    ) -> list[tuple[str, Any]]:
        """Batches of some items of the towers ``names``; features (a tensor) are sliced."""
        return [
            (name, found[list(index)])
            if isinstance(found := items[name], Tensor)
            else (name, self.sides[name].collate([found[i] for i in index]))
            for name in names
        ]

    @torch.no_grad()
    def fit_scale(self, features: Tensor) -> None:
        """Standardise the classifier's input by the statistics of training features [n, feature_dim]."""
        self.head.standardise.fit(features.to(self.head.standardise.mean.device))

    def predict(
        self,
        items: Mapping[str, Any],
        *,
        device: torch.device,
        precision: str = "auto",
        features: bool = False,
        alone: bool = False,
        done: Done = lambda n: None,
    ) -> NDArray[np.float32]:
        """Logits [n, classes] (or features [n, d]) of the items of every tower, in their order.

        A row does not depend on the other items. A tensor stands for the features of a frozen tower. With
        ``alone`` only the sequence tower is asked.
        """
        names = ("sequence",) if alone else self.names
        width = sum(w for name, w in zip(self.names, self.widths, strict=False) if name in names)
        budgets = [self.sides[name].budget for name in names if not isinstance(items[name], Tensor)]
        rows = np.zeros((len(items[names[0]]), width if features else self.classes), np.float32)

        def forward(*batches: Any) -> Tensor:
            seen = self.features(list(zip(names, batches, strict=True)))
            return seen if features else self._classify(seen, alone)

        self.eval()
        for index, out in in_batches(
            [self.sides[name] for name in names],
            [items[name] for name in names],
            forward,
            device=device,
            precision=precision,
            budget=min([65536, *budgets]),
        ):
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
            "sequence_only": self.alone is not None,
            **self.options,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> TaskNetwork:
        """Rebuild an untrained network from :meth:`config`."""
        options = dict(config)
        sides = [build_side(side) for side in options.pop("sides")]
        return cls(sides, options.pop("classes"), **options)
