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
from protclip.losses import Objective, Term
from protclip.modalities.base import Encoder, Modality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Side
from protclip.scoring.galleries import Gallery, validation_scores
from protclip.training.batches import StepDataset
from protclip.training.contrast import Contrast
from protclip.training.loop import Loop, Schedule, Validation
from protclip.training.sampler import PairedUnpairedSampler
from protclip.training.tower_features import gallery_vectors


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
        sides = [
            Side(kind(norm=self.norm), side.items, side.pool)
            for kind, side in zip((Left, Right), self.data.sides, strict=True)
        ]
        model = TwoTower(*(side.modality for side in sides), dim=8, temperature=0.2)
        sampler = PairedUnpairedSampler(
            self.data.pairs, [side.pool for side in sides], batch_size=16, seed=config.seed
        )
        dataset = StepDataset(sampler, sides, views=views, micro_batch_size=config.micro_batch_size)
        target = folder or self.folder
        target.mkdir(parents=True, exist_ok=True)

        def validate(current: TwoTower) -> Validation:
            vectors = gallery_vectors(current, self.data.valid, sides)
            numbers = validation_scores(vectors, self.data.valid, current.names)
            return Validation((numbers.pop("score"),), numbers)

        fabric = Fabric(accelerator="cpu", devices=1)
        contrast = Contrast(
            fabric,
            model,
            Objective(loss or loss_preset("default", ssl_weight=0.1), extra(model)),
            config,
            steps=steps,
            validate=validate,
        )
        schedule = Schedule(
            steps=steps,
            epoch_steps=5,
            checkpoint_seconds=config.checkpoint_seconds,
            workers=config.workers,
            resume_hint=f"Go on with `protclip pretrain --out {target} --resume`",
            late=("valid_R@1", "valid_R@10", "valid_mrr"),
        )
        return Loop(fabric, contrast, dataset, schedule, folder=target)


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
            Gallery([str(i) for i in rows], np.stack([rows, rows], 1))
            for rows in (np.arange(60, 75), np.arange(75, 100))
        ]
        pairs = np.stack([np.arange(paired), np.arange(paired)], 1)
        pool = np.arange(paired, 60)
        data = AlignmentData(
            tuple(Side(kind(), list(rows), pool) for kind, rows in zip((Left, Right), sides, strict=True)),
            pairs,
            *held,
        )
        return Toy(tmp_path / "run", data, norm)

    return make
