"""Networks that see images, and the constants that go with their weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from protclip.modalities.base import Encoder, TensorBatch
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.modalities.transformers import TowerSize

IMAGE_TOWERS: dict[str, TowerSize] = {
    "tiny": TowerSize(
        network={
            "model_type": "resnet",
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 32, 64],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        }
    ),
    "small": TowerSize(
        network={
            "model_type": "resnet",
            "embedding_size": 32,
            "hidden_sizes": [32, 64, 128, 256],
            "depths": [1, 1, 1, 1],
            "layer_type": "basic",
        }
    ),
    "resnet50": TowerSize("microsoft/resnet-50", {"model_type": "resnet"}),
    "vit-b32": TowerSize("google/vit-base-patch32-224-in21k", {"model_type": "vit", "patch_size": 32}),
}

HALF = (0.5, 0.5, 0.5)
"""Mean and deviation that bring bytes 0..255 to -1..1: what ViT was pretrained with, and from scratch."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation of ImageNet's red, green and blue (of 1): what ResNet-50 was pretrained with."""


class ImageEncoder(Encoder):
    """Normalises bytes and pools a network's feature map or takes its class token.

    Parameters
    ----------
    net : Module
        Of the transformers library.
    mean, deviation : three floats each
        Of red, green and blue on a scale of 0 to 1.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, net: Any, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        self.net = net
        config = net.config
        self.is_map = not hasattr(config, "hidden_size")  # residual networks have hidden_sizes
        self.out_dim = int(config.hidden_sizes[-1] if self.is_map else config.hidden_size)
        # Constants of the configuration, not weights.
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation).view(1, 3, 1, 1), persistent=False)

    def forward(self, batch: TensorBatch) -> Tensor:
        """Features [n, out_dim] of uint8 pixels [n, 3, size, size]."""
        (pixels,) = batch.tensors
        x = (pixels.float() / 255 - self.mean) / self.deviation
        if self.is_map:
            found: Tensor = self.net(x).last_hidden_state.mean((2, 3))
            return found
        fits = x.shape[-1] == getattr(self.net.config, "image_size", x.shape[-1])
        options = {} if fits else {"interpolate_pos_encoding": True}
        token: Tensor = self.net(x, **options).last_hidden_state[:, 0]
        return token


def published_constants(net: Any, origin: Provenance) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and deviation that pretrained weights want: those beside them, else the usual ones."""
    path = Path(origin.path) / "preprocessor_config.json"
    if path.is_file():
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            return list(map(float, values["image_mean"])), list(map(float, values["image_std"]))
        except (ValueError, KeyError, TypeError):
            pass  # an unusual processor: the usual constants of the architecture
    return IMAGENET if net.config.model_type == "resnet" else (HALF, HALF)
