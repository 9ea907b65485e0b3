"""Both projection heads in closed form, from the features of the pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from protclip.alignment.cca import fit_cca
from protclip.errors import ConfigError
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import validation_scores

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DIMS = (16, 32, 64, 128, 256)


def fit_closed_form(model: TwoTower, data: AlignmentData) -> None:
    """Set both heads by CCA of the pairs; ridge and dimensions by validation retrieval where there is any.

    Parameters
    ----------
    model : TwoTower
    data : AlignmentData
        Both sides with features.
    """
    if len(data.pairs) < 2:
        raise ConfigError("CCA learns from pairs alone", where="--paired", got=f"{len(data.pairs)} pairs")
    heads: list[Any] = [model.heads[side.name] for side in data.sides]
    rows = []
    for head, side in zip(heads, data.sides, strict=True):
        if side.features is None:
            raise ConfigError("CCA needs the features of both towers")
        rows.append(head.standardise(side.features).double().numpy())
    x, y = (own[members] for own, members in zip(rows, data.pairs.T, strict=True))
    best, best_score = None, -np.inf
    for ridge in RIDGES:
        for dim in sorted({min(d, model.dim) for d in DIMS}):
            maps = fit_cca(x, y, dim=dim, ridge=ridge)
            if len(data.valid) < 2:
                value = -abs(np.log(ridge / 3.0)) - abs(np.log(dim / 64))
            else:
                vectors = [
                    apply(own[index]).astype(np.float32)
                    for apply, own, index in zip(
                        (maps.left, maps.right), rows, data.valid.rows.T, strict=True
                    )
                ]
                value = validation_scores(vectors, data.valid, model.names)["score"]
            if value > best_score:
                best, best_score = maps, value
    if best is None:
        raise ConfigError("CCA found no map: the features are constant or not finite")
    for head, (mean, weight) in zip(heads, best.affine, strict=True):
        head.start_from(torch.from_numpy(mean).float(), torch.from_numpy(weight).float())
