"""Linear heads in closed form for the towers of a trained model, from pairs and whole unpaired pools."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from protclip.alignment import TransportAlignment
from protclip.alignment.cca import LinearMaps
from protclip.alignment.prepare import Preparation
from protclip.alignment.selection import LEAST_PAIRS, SELECTION_ROUNDS
from protclip.errors import ConfigError
from protclip.evaluation import validation_scores
from protclip.modalities.pairs import AlignmentData
from protclip.model import TwoTower

COMPONENTS = 400
"""Principal components of each tower's features that a fit uses, at most."""

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cca": {"ridge": (0.3, 1.0, 3.0, 10.0, 30.0), "power": (0.5, 1.0), "dim": (16, 64, 256)},
    "transport": {"ridge": (1.0, 3.0, 10.0), "weight": (0.3, 1.0, 3.0), "plan": ("likelihood", "cosine")},
}
"""Settings tried on the validation items, by method."""


@dataclass(frozen=True)
class Refit:
    """A refitted model and how it came about.

    Attributes
    ----------
    model : TwoTower
        The same towers under new linear heads.
    facts : dict
        Method, pairs, pools, chosen settings and what chose them (TOML values).
    """

    model: TwoTower
    facts: dict[str, Any]


def refit_heads(
    model: TwoTower,
    data: AlignmentData,
    features: tuple[Tensor, Tensor],
    *,
    method: str,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> Refit:
    """Fit linear heads to tower features.

    Parameters
    ----------
    model : TwoTower
        Its towers are shared with the result; its heads are left as they are.
    data : AlignmentData
        Pairs, pools and the validation gallery. Test items are not looked at.
    features : pair of float32 tensors [n, d_left], [m, d_right]
        Tower features of all items of both sides.
    method : {"cca", "transport"}
    seed : int
        Of the cross-validation that stands in where there are no validation items.
    say : callable
        Told in a sentence what was chosen.

    Raises
    ------
    ConfigError
        With fewer than two pairs, or an unknown method.
    """
    if method not in GRIDS:
        raise ConfigError("unknown", where="--method", got=repr(method), expected=" or ".join(GRIDS))
    if len(data.pairs) < 2:
        raise ConfigError(
            "a refit learns from pairs",
            where="--paired",
            got=f"{len(data.pairs)} pairs",
            expected="2 or more",
        )
    rows = features[0].double().cpu().numpy(), features[1].double().cpu().numpy()
    train = [
        np.concatenate([data.pairs[:, side], pool])
        for side, pool in enumerate((data.left_pool, data.right_pool))
    ]
    sides = [Preparation.of(rows[side][train[side]], components=COMPONENTS) for side in (0, 1)]
    ready = [sides[side](rows[side]) for side in (0, 1)]
    pairs = np.stack([np.arange(len(data.pairs))] * 2, 1)
    base = TransportAlignment(
        method=method,
        standardise=False,
        components=None,
        seed=seed,
        device=str(model.log_scale.device),
        dim=min(64, model.dim),
    )
    fit = (ready[0][train[0]], ready[1][train[1]], pairs)
    if len(data.valid) >= 2:
        best, chosen_by = _by_validation(base, fit, ready, data, model)
    elif len(pairs) >= LEAST_PAIRS:
        best, chosen_by = base.set_params(select=True).fit(*fit), "cross-validation of the pairs"
    else:
        best, chosen_by = base.fit(*fit), "no held-out pairs: these are the defaults"
    settings = {**best.get_params(), **getattr(best, "best_params_", {})}
    names = ["ridge", "dim", "power"]
    names += ["weight", "plan", "rounds"] if method == "transport" else []
    facts = {
        "method": method,
        "pairs": len(pairs),
        "unpaired": [len(data.left_pool), len(data.right_pool)],
        "chosen_by": chosen_by,
        **{name: settings[name] for name in names},
    }
    say(f"refit by {method}: " + ", ".join(f"{n} {settings[n]}" for n in names) + f" ({chosen_by})")
    return Refit(_with_heads(model, best.maps_, sides), facts)


def _by_validation(
    base: TransportAlignment,
    fit: tuple[Any, Any, Any],
    ready: list[Any],
    data: AlignmentData,
    model: TwoTower,
) -> tuple[TransportAlignment, str]:
    """The setting of the grid with the best mean reciprocal rank of validation partners."""
    grid: Mapping[str, tuple[Any, ...]] = GRIDS[base.method]
    best: dict[str, Any] | None = None
    best_score = -np.inf
    dims = {"dim": sorted({min(dim, model.dim) for dim in grid["dim"]})} if "dim" in grid else {}
    choices = {**grid, **dims}
    for values in itertools.product(*choices.values()):
        setting = dict(zip(choices, values, strict=True))
        few = {"rounds": min(base.rounds, SELECTION_ROUNDS)}
        trial = TransportAlignment(**{**base.get_params(), **setting, **few}).fit(*fit)
        left = trial.transform_left(ready[0][data.valid.left])
        right = trial.transform_right(ready[1][data.valid.right])
        score = validation_scores(left, right, data.valid, model.names)["score"]
        if score > best_score:
            best, best_score = setting, score
    if best is None:
        raise ConfigError("no map was found: the features are constant or not finite")
    chosen = TransportAlignment(**{**base.get_params(), **best}).fit(*fit)
    return chosen, f"{len(data.valid)} validation items"


@torch.no_grad()
def _with_heads(model: TwoTower, maps: LinearMaps, sides: list[Preparation]) -> TwoTower:
    left, right = model.sides.values()
    found = TwoTower(
        left, right, dim=model.dim, head="linear", max_scale=model.max_scale, learn_temperature=False
    ).to(model.log_scale.device)
    found.log_scale.copy_(model.log_scale)
    affine = ((maps.left_mean, maps.left_weight), (maps.right_mean, maps.right_weight))
    for name, side, (mean, weight) in zip(model.names, sides, affine, strict=True):
        head: Any = found.heads[name]
        centre, weight = side.unfold(mean, weight)
        head.standardise.mean.copy_(torch.from_numpy(side.mean))
        head.standardise.std.copy_(torch.from_numpy(side.scale))
        head.start_from(*(torch.from_numpy(value).to(model.log_scale) for value in (centre, weight)))
    return found.eval()
