"""Features and vectors of the sides of a run: computed once where a tower is not trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from protclip.files import cache_dir
from protclip.inference.cache import frozen_features
from protclip.inference.encode import embed_items, encode, project_features, running_total
from protclip.modalities.items import Chosen
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData, Side
from protclip.scoring.galleries import Gallery
from protclip.typing import Display, Indices, Vectors


def tower_features(side: Side, *, device: torch.device, precision: str, display: Display) -> Tensor:
    """Features of a tower that is not trained, float32 [n, d]; those of a frozen one are kept in the cache.

    Parameters
    ----------
    side : Side
        Its encoder is moved to ``device`` and set to evaluation.
    device : torch.device
    precision : {"auto", "fp32", "bf16"}
    display : Display
        Shown how many items are done.
    """
    modality, items = side.modality, side.items
    display.begin(f"{side.name} features", len(items))
    done = running_total(display.advance)
    modality.encoder.to(device).eval()
    if modality.frozen:
        ids = [str(i) for i in range(len(items))]
        cache = cache_dir() / "features"
        rows = frozen_features(
            modality, ids, items, device=device, precision=precision, cache=cache, progress=done
        )
    else:
        rows = encode(modality, items, modality.encoder, device=device, precision=precision, done=done)
    display.end()
    return torch.from_numpy(np.ascontiguousarray(rows))


def standardise_heads(model: TwoTower, data: AlignmentData) -> None:
    """Let the heads standardise the features that there are by those of the training items."""
    for number, side in enumerate(data.sides):
        if side.features is not None:
            rows = side.features[data.training_items(number)]
            model.heads[side.name].standardise.fit(rows)  # type: ignore[union-attr, operator]


def side_vectors(model: TwoTower, side: Side, index: Indices, *, precision: str = "auto") -> Vectors:
    """Unit vectors [n, dim] of the items at ``index`` [n], from their features where these are known."""
    if side.features is not None:
        return project_features(model, side.name, side.features[index])
    return embed_items(model, side.name, Chosen(side.items, index), precision=precision)


def gallery_vectors(
    model: TwoTower, gallery: Gallery, sides: Sequence[Side], *, precision: str = "auto"
) -> list[Vectors]:
    """Unit vectors [n, dim] of a gallery of n matches, one array for each side."""
    return [
        side_vectors(model, side, rows, precision=precision)
        for side, rows in zip(sides, gallery.rows.T, strict=True)
    ]
