"""Images as a modality: files -> squares of bytes -> a residual or a transformer network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from protclip.data.paired.images import is_image_file
from protclip.errors import ConfigError
from protclip.modalities.base import TensorBatch
from protclip.modalities.image.networks import HALF, IMAGE_TOWERS, ImageEncoder, published_constants
from protclip.modalities.image.pictures import Picture, PictureReader
from protclip.modalities.image.views import simclr_view, square
from protclip.modalities.sequence.esm_weights import Provenance
from protclip.modalities.transformers import (
    Init,
    NetworkModality,
    Tune,
    build_network,
    initial_network,
    network_text,
    settle_tune,
    tower_facts,
)


class ImageModality(NetworkModality[Picture]):
    """Images seen by a residual network or a vision transformer.

    Parameters
    ----------
    net : Module
        Network of the transformers library with its starting weights; :meth:`create` finds them.
    provenance : Provenance
        Where these are from.
    size : int
        Pixels per side that the tower sees: the central square, resized.
    mean, deviation : three floats each
        Normalisation of red, green and blue, on a scale of 0 to 1. Pretrained weights only work with the
        constants that they were trained with.
    tune : {"frozen", "full"}
    crop, strength, blur : float
        Augmented view, see :func:`protclip.modalities.image.views.simclr_view`.

    Examples
    --------
    >>> side = ImageModality.create("tiny", size=32)
    >>> ((_, picture),) = side.read({"grey": np.full((40, 60, 3), 128, np.uint8)})
    >>> side.encoder.eval()(side.collate([picture, picture])).shape
    torch.Size([2, 64])
    """

    name = "image"
    # In units of a 64-pixel image: 768 of these at once, or 63 images of 224 pixels.
    budget: ClassVar[int] = 768

    def __init__(
        self,
        net: nn.Module,
        provenance: Provenance,
        *,
        size: int = 64,
        mean: Sequence[float] = HALF,
        deviation: Sequence[float] = HALF,
        tune: Literal["frozen", "full"] = "full",
        crop: float = 0.08,
        strength: float = 1.0,
        blur: float = 0.5,
    ) -> None:
        if not 8 <= size <= 4096:
            raise ConfigError("out of range", where="size", got=str(size), expected="8 to 4096 pixels")
        for option, value, low, high in (
            ("crop", crop, 1e-3, 1),
            ("blur", blur, 0, 1),
            ("strength", strength, 0, 1),
        ):
            if not low <= value <= high:
                raise ConfigError("out of range", where=option, got=str(value), expected=f"{low:g} to {high}")
        self.size = size
        self.reader = PictureReader(size)
        self.normalisation = [float(x) for x in mean], [float(x) for x in deviation]
        self.view = {"crop": crop, "strength": strength, "blur": blur}
        self.adopt(net, provenance, tune)
        self.encoder: ImageEncoder = ImageEncoder(net, *self.normalisation)

    @classmethod
    def create(
        cls,
        encoder: str = "small",
        *,
        weights: str = "",
        init: Init = "auto",
        tune: Tune = "auto",
        size: int | None = None,
        mean: Sequence[float] | None = None,
        deviation: Sequence[float] | None = None,
        seed: int = 0,
        crop: float = 0.08,
        strength: float = 1.0,
        blur: float = 0.5,
    ) -> ImageModality:
        """Find or make starting weights and build the modality on them.

        Parameters
        ----------
        encoder : str
            ``tiny`` or ``small`` (residual networks trained from scratch), ``resnet50``, ``vit-b32``, a
            folder of the transformers library, or a name on its hub.
        weights : str
            Folder with the weights of ``encoder``.
        init : {"auto", "pretrained", "random"}
            See :func:`protclip.modalities.transformers.initial_network`.
        tune : {"auto", "frozen", "full"}
            ``auto`` freezes pretrained weights and trains random ones.
        size : int, optional
            By default 64 pixels from scratch and 224 for pretrained weights.
        mean, deviation : three floats, optional
            By default those in the weights' ``preprocessor_config.json``; without one, ImageNet's for
            residual networks and 0.5 for transformers. From scratch 0.5: -1 to 1 suits any images.
        seed : int
            Of random weights.
        crop, strength, blur : float
            Of the augmented view.

        Raises
        ------
        WeightsError, ConfigError
        """
        net, origin = initial_network(
            encoder, IMAGE_TOWERS, init=init, weights=weights, seed=seed, fallback="small"
        )
        if net is None:
            net = build_network(IMAGE_TOWERS[origin.name].network, seed)
            # Networks made for 224 pixels keep that size also from random weights.
            usual = 64 if origin.name in ("tiny", "small") else 224
            constants: tuple[Sequence[float], Sequence[float]] = (HALF, HALF)
        else:
            usual = int(getattr(net.config, "image_size", 224))
            constants = published_constants(net, origin)
        return cls(
            net,
            origin,
            size=size or usual,
            mean=mean or constants[0],
            deviation=deviation or constants[1],
            tune=settle_tune(tune, origin),
            crop=crop,
            strength=strength,
            blur=blur,
        )

    def resolved(self) -> dict[str, Any]:
        """Network, start, tuning and size."""
        return {**super().resolved(), "size": self.size}

    def config(self) -> dict[str, Any]:
        """Architecture, normalisation, view and provenance as plain values."""
        mean, deviation = self.normalisation
        return {
            "network": network_text(self.encoder.net),
            "size": self.size,
            "mean": mean,
            "deviation": deviation,
            "tune": self.tune,
            **self.view,
            "provenance": self.provenance.to_dict(),
        }

    def read(self, source: Any) -> Iterable[tuple[str, Picture | Exception]]:
        """Images from files, folders, arrays and Pillow images, see :class:`PictureReader`."""
        return self.reader.read(source)

    def accepts(self, path: Path) -> bool:
        """An image file, or a folder that holds one."""
        if path.is_dir():
            return any(is_image_file(file) for file in path.rglob("*"))
        return is_image_file(path)

    def collate(self, items: Sequence[Picture]) -> TensorBatch:
        """Bytes [n, 3, size, size] of the central squares (views are squares already)."""
        squares = [square(self.reader.pixels(item), self.size) for item in items]
        stacked = np.stack(squares) if squares else np.zeros((0, self.size, self.size, 3), np.uint8)
        return TensorBatch(torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))))

    def augment(self, item: Picture, rng: np.random.Generator) -> Picture:
        """The SimCLR view."""
        view = simclr_view(self.reader.pixels(item), self.size, rng, **self.view)
        return Picture(b"", (), view)

    def cost(self, item: Picture) -> int:
        """Area that the tower sees, in units of 64 x 64 pixels."""
        return max(1, round((self.size / 64) ** 2))

    def remarks(self, items: Iterable[Picture]) -> dict[str, int]:
        """Unusual images by what was done to them."""
        return dict(Counter(note for item in items for note in item.notes))

    def digest(self, item: Picture) -> bytes:
        """Hash of the pixels."""
        return item.digest

    def describe(self) -> dict[str, Any]:
        """Network, weights and what is seen."""
        seen = f"the central square at {self.size} x {self.size} pixels"
        return {
            "tower": str(self.encoder.net.config.model_type),
            **tower_facts(self.provenance, self.tune),
            "sees": seen,
        } | super().describe()
