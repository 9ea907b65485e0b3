"""Two toy modalities that know nothing of proteins, and data to align them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from protclip.config.loss import LossConfig
from protclip.config.presets import loss_preset
from protclip.config.pretraining import TrainConfig
from protclip.inference.encode import gallery_vectors
from protclip.losses import Objective, Term
from protclip.modalities.base import Encoder, Modality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import Gallery, validation_scores
from protclip.training.batches import Side, StepDataset
from protclip.training.loop import Loop
from protclip.training.sampler import PairedUnpairedSampler


@dataclass
class ToyBatch:
    rows: Tensor

    def to(self, device: torch.device | str, non_blocking: bool = False) -> ToyBatch:
        return ToyBatch(self.rows.to(device))

    def __len__(self) -> int:
        return len(self.rows)


class ToyEncoder(Encoder):
    def __init__(self, in_dim: int, norm: bool) -> None:
        super().__init__()
        self.out_dim = 12
        self.net = nn.Sequential(
            nn.Linear(in_dim, 16), nn.BatchNorm1d(16) if norm else nn.Identity(), nn.GELU(), nn.Linear(16, 12)
        )

    def forward(self, batch: ToyBatch) -> Tensor:
        return self.net(batch.rows)


class Left(Modality[np.ndarray]):
    name: ClassVar[str] = "left"

    def __init__(self, in_dim: int = 10, norm: bool = True) -> None:
        self.in_dim = in_dim
        self.encoder = ToyEncoder(in_dim, norm)

    def config(self) -> dict[str, Any]:
        return {"in_dim": self.in_dim}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Left:
        return cls(**config)

    def collate(self, items: Sequence[np.ndarray]) -> ToyBatch:
        return ToyBatch(torch.from_numpy(np.stack(items)))

    def augment(self, item: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return item + rng.normal(0, 0.1, item.shape).astype(np.float32)

    def read(self, source: Any) -> Any:
        return iter(source.items())


class Right(Left):
    name: ClassVar[str] = "right"


@dataclass
class Toy:
    """Everything a loop needs, made anew from the same seeds at each call of :meth:`loop`."""

    folder: Path
    data: AlignmentData
    norm: bool = True

    def loop(
        self,
        *,
        steps: int = 12,
        folder: Path | None = None,
        loss: LossConfig | None = None,
        extra: Callable[[TwoTower], dict[str, Term]] = lambda model: {},
        views: bool = True,
        **options: Any,
    ) -> Loop:
        config = TrainConfig(batch_size=16, device="cpu", precision="fp32", **options)
        torch.manual_seed(0)
        sides = Left(norm=self.norm), Right(norm=self.norm)
        model = TwoTower(*sides, dim=8, temperature=0.2)
        sampler = PairedUnpairedSampler(
            self.data.pairs, self.data.left_pool, self.data.right_pool, batch_size=16, seed=config.seed
        )
        dataset = StepDataset(
            sampler,
            Side(sides[0], self.data.left),
            Side(sides[1], self.data.right),
            views=views,
            micro_batch_size=config.micro_batch_size,
        )
        target = folder or self.folder
        target.mkdir(parents=True, exist_ok=True)

        def validate(current: TwoTower) -> dict[str, float]:
            vectors = gallery_vectors(
                current, self.data.valid, (self.data.left, self.data.right), (None, None)
            )
            return validation_scores(*vectors, self.data.valid, current.names)

        return Loop(
            Fabric(accelerator="cpu", devices=1),
            model,
            Objective(loss or loss_preset("default", ssl_weight=0.1), extra(model)),
            dataset,
            config,
            steps=steps,
            epoch_steps=5,
            folder=target,
            scratch=(True, True),
            validate=validate,
        )


@pytest.fixture
def make_toy(tmp_path: Path) -> Callable[..., Toy]:
    """Linear images of one hidden variable: 60 training items, half of them paired, and 40 held out."""

    def make(norm: bool = True, paired: int = 30) -> Toy:
        rng = np.random.default_rng(0)
        hidden = rng.normal(size=(100, 6))
        sides = [
            (hidden @ rng.normal(size=(6, 10)) + 0.1 * rng.normal(size=(100, 10))).astype(np.float32)
            for _ in range(2)
        ]
        held = [
            Gallery([str(i) for i in rows], rows, rows) for rows in (np.arange(60, 75), np.arange(75, 100))
        ]
        pairs = np.stack([np.arange(paired), np.arange(paired)], 1)
        pool = np.arange(paired, 60)
        data = AlignmentData(list(sides[0]), list(sides[1]), pairs, pool, pool, *held)
        return Toy(tmp_path / "run", data, norm)

    return make
