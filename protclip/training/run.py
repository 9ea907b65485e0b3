"""What a pretraining run is: built once, passed whole."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor

from protclip.config.pretraining import PretrainConfig, TrainConfig
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Side
from protclip.training.tower_features import tower_features
from protclip.typing import Display


@dataclass
class Run:
    """A pretraining run under way.

    Attributes
    ----------
    config : PretrainConfig
        What was asked for; what was left to the program is filled in as it is decided.
    folder : Path
        Run folder.
    fabric : Fabric
        Device, precision and processes; launched.
    display : Display
        Says nothing on processes other than the main one.
    data : AlignmentData
        Sides, pairs and held-out galleries.
    model : TwoTower
    """

    config: PretrainConfig
    folder: Path
    fabric: Fabric
    display: Display
    data: AlignmentData
    model: TwoTower

    @property
    def train(self) -> TrainConfig:
        """Options of the optimisation and the machine."""
        return self.config.train

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run folder."""
        return bool(self.fabric.is_global_zero)

    def features(self, side: Side) -> Tensor:
        """Features of all items of a side by its tower as it is now, float32 [n, d]."""
        return tower_features(
            side, device=self.fabric.device, precision=self.train.precision, display=self.display
        )

    def data_with_features(self) -> AlignmentData:
        """The data with features of both towers, also of those that are trained."""
        return self.data.with_features(self.features)

    def decide(self, remark: str = "", **options: object) -> None:
        """Fill in training options that were left to the program, in the run's config too."""
        train = dataclasses.replace(self.train, **options)  # type: ignore[arg-type]
        self.config = dataclasses.replace(self.config, train=train)
        if self.is_main:
            remarks = [*self.data.remarks, *([remark] if remark else [])]
            self.config.save(self.folder / "config.toml", remarks)
