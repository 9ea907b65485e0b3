"""Both projection heads in closed form, from the features of the pairs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.alignment.cca import fit_cca
from protclip.errors import ConfigError
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import validation_scores

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
DIMS = (16, 32, 64, 128, 256)


def fit_closed_form(
    model: TwoTower, data: AlignmentData, features: tuple[Tensor | None, Tensor | None]
) -> None:
    """Set both heads by CCA of the pairs; ridge and dimensions by validation retrieval where there is any."""
    if len(data.pairs) < 2:
        raise ConfigError("CCA learns from pairs alone", where="--paired", got=f"{len(data.pairs)} pairs")
    if features[0] is None or features[1] is None:
        raise ConfigError("CCA needs the features of both towers")
    heads = [model.heads[name] for name in model.names]
    rows = _standardised(heads[0], features[0]), _standardised(heads[1], features[1])
    x, y = rows[0][data.pairs[:, 0]], rows[1][data.pairs[:, 1]]
    best, best_score = None, -np.inf
    for ridge in RIDGES:
        for dim in sorted({min(d, model.dim) for d in DIMS}):
            maps = fit_cca(x, y, dim=dim, ridge=ridge)
            if len(data.valid) < 2:
                value = -abs(np.log(ridge / 3.0)) - abs(np.log(dim / 64))
            else:
                left = maps.left(rows[0][data.valid.left]).astype(np.float32)
                right = maps.right(rows[1][data.valid.right]).astype(np.float32)
                value = validation_scores(left, right, data.valid, model.names)["score"]
            if value > best_score:
                best, best_score = maps, value
    if best is None:
        raise ConfigError("CCA found no map: the features are constant or not finite")
    for name, mean, weight in (
        (model.names[0], best.left_mean, best.left_weight),
        (model.names[1], best.right_mean, best.right_weight),
    ):
        head: Any = model.heads[name]
        head.start_from(torch.from_numpy(mean).float(), torch.from_numpy(weight).float())


def _standardised(head: Any, features: Tensor) -> NDArray[np.float64]:
    rows: NDArray[np.float64] = head.standardise(features).double().numpy()
    return rows
