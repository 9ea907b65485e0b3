"""Features of the towers of a run, computed once where a tower is not trained, for the heads on top of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protclip.files import cache_dir
from protclip.inference.cache import frozen_features
from protclip.inference.encode import encode, running_total
from protclip.modalities.base import Modality
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.typing import Display

Features = tuple[Tensor | None, Tensor | None]
"""Float32 [n, d_left] and [m, d_right] of all items of both sides; None for a tower that is trained."""


def tower_features(
    side: Modality[Any],
    items: Sequence[Any],
    *,
    device: torch.device,
    precision: str,
    display: Display,
) -> Tensor:
    """Features of a tower that is not trained, float32 [n, d]; those of a frozen one are kept in the cache.

    Parameters
    ----------
    side : Modality
        Its encoder is moved to ``device`` and set to evaluation.
    items : sequence of n items
    device : torch.device
    precision : {"auto", "fp32", "bf16"}
    display : Display
        Shown how many items are done.
    """
    display.begin(f"{side.name} features", len(items))
    done = running_total(display.advance)
    side.encoder.to(device).eval()
    if side.frozen:
        ids = [str(i) for i in range(len(items))]
        rows = frozen_features(
            side,
            ids,
            items,
            device=device,
            precision=precision,
            cache=cache_dir() / "features",
            progress=done,
        )
    else:
        rows = encode(side, items, side.encoder, device=device, precision=precision, done=done)
    display.end()
    return torch.from_numpy(np.ascontiguousarray(rows))


def standardise_heads(model: TwoTower, data: AlignmentData, features: Features) -> None:
    """Let the heads standardise the features that there are by those of the training items."""
    for name, own, column, pool in zip(
        model.names, features, (0, 1), (data.left_pool, data.right_pool), strict=True
    ):
        if own is not None:
            rows = own[np.concatenate([data.pairs[:, column], pool])]
            model.heads[name].standardise.fit(rows)  # type: ignore[union-attr, operator]
