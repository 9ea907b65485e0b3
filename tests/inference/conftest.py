"""A model of the smallest towers, with random weights: what matters here is what it is given."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from protclip.inference.aligned_model import AlignedModel
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.model.two_tower import TwoTower
from protclip.structure.encoders.encoder import CDConvConfig


@pytest.fixture(scope="session")
def tiny_model() -> AlignedModel:
    """Structure and sequence, untrained."""
    torch.manual_seed(0)
    shape = CDConvConfig.sized("tiny", channels=(4,), radii=(8.0,), base_width=64.0)
    towers = TwoTower(StructureModality(shape), SequenceModality.create("scratch", init="random"), dim=8)
    return AlignedModel(towers.eval(), {"objective": "none"}, Path("tiny"))
