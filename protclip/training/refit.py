"""Linear heads in closed form for the towers of a trained model, from pairs and whole unpaired pools."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from protclip.alignment import TransportAlignment
from protclip.alignment.cca import LinearMaps
from protclip.alignment.cross_validation import LEAST_PAIRS, SELECTION_ROUNDS
from protclip.alignment.prepare import Preparation
from protclip.errors import ConfigError
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.scoring.galleries import reciprocal_ranks
from protclip.training.tower_features import gallery_vectors
from protclip.typing import Matrix, Say

COMPONENTS = 400
"""Principal components of each tower's features that a fit uses, at most."""

GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cca": {"ridge": (0.3, 1.0, 3.0, 10.0, 30.0), "power": (0.5, 1.0), "dim": (16, 64, 256)},
    "transport": {"ridge": (1.0, 3.0, 10.0), "weight": (0.3, 1.0, 3.0), "plan": ("likelihood", "cosine")},
}
"""Settings tried on the validation items, by method."""

AUTO_GRIDS: dict[str, dict[str, tuple[Any, ...]]] = {
    "cca": {"ridge": (0.3, 1.0, 3.0, 10.0, 30.0), "dim": (16, 64, 256)},
    "transport": {"ridge": (1.0, 3.0, 10.0), "weight": (1.0, 3.0)},
}
"""The fewer ones of ``auto``, which nobody asked for and which must not take long."""

TRIAL_ITEMS = 4000
"""Items of each pool in the plans of trial fits."""


@dataclass(frozen=True)
class Refit:
    """A refitted model and how it came about.

    Attributes
    ----------
    model : TwoTower
        The same towers under new linear heads.
    facts : dict
        Method (``none`` where ``auto`` left the heads alone), pairs, pools, chosen settings and what chose
        them (TOML values).
    """

    model: TwoTower
    facts: dict[str, Any]


def refit_heads(
    model: TwoTower,
    data: AlignmentData,
    *,
    method: str,
    seed: int = 0,
    say: Say = lambda text: None,
) -> Refit:
    """Fit linear heads to tower features.

    Parameters
    ----------
    model : TwoTower
        Its towers are shared with the result; its heads are left as they are.
    data : AlignmentData
        Pairs, pools and the validation gallery, with the tower features of all items of both sides. Test
        items are not looked at.
    method : {"cca", "transport", "auto"}
        ``auto`` tries both, and keeps the heads as they are unless one of them is ahead of these on the
        validation items by more than the standard error of the difference; the model is the same then.
    seed : int
        Of the cross-validation that stands in where there are no validation items.
    say : callable
        Told in a sentence what was chosen.

    Raises
    ------
    ConfigError
        With fewer than two pairs, or an unknown method.
    """
    if method not in (*GRIDS, "auto"):
        raise ConfigError(
            "unknown", where="--method", got=repr(method), expected=" or ".join((*GRIDS, "auto"))
        )
    if method == "auto" and (len(data.pairs) < LEAST_PAIRS or len(data.valid) < 2):
        return Refit(model, {"method": "none", "chosen_by": "too few pairs or validation items"})
    if len(data.pairs) < 2:
        raise ConfigError(
            "a refit learns from pairs",
            where="--paired",
            got=f"{len(data.pairs)} pairs",
            expected="2 or more",
        )
    sides, ready, train = [], [], []
    for number, side in enumerate(data.sides):
        if side.features is None:
            raise ConfigError("a refit needs the features of both towers", where=side.name)
        rows, index = side.features.double().cpu().numpy(), data.training_items(number)
        sides.append(Preparation.of(rows[index], components=COMPONENTS))
        ready.append(sides[-1](rows))
        train.append(ready[-1][index])
    pairs = np.stack([np.arange(len(data.pairs))] * 2, 1)
    base = TransportAlignment(
        standardise=False,
        components=None,
        seed=seed,
        device=str(model.log_scale.device),
        dim=min(64, model.dim),
    )
    fit = (*train, pairs)
    grids = AUTO_GRIDS if method == "auto" else {method: GRIDS[method]}
    if len(data.valid) >= 2:
        best, ranks = _by_validation(base, fit, ready, data, model, grids)
        chosen_by = f"{len(data.valid)} validation items"
        if method == "auto" and (reason := _not_better(ranks, model, data)):
            say(f"the heads stay as trained: {reason}")
            return Refit(model, {"method": "none", "chosen_by": chosen_by, "reason": reason})
    elif len(pairs) >= LEAST_PAIRS:
        best = base.set_params(method=method, select=True).fit(*fit)
        chosen_by = "cross-validation of the pairs"
    else:
        best, chosen_by = (
            base.set_params(method=method).fit(*fit),
            "no held-out pairs: these are the defaults",
        )
    settings = {**best.get_params(), **getattr(best, "best_params_", {})}
    names = ["ridge", "dim", "power"]
    names += ["weight", "plan", "rounds"] if settings["method"] == "transport" else []
    facts = {
        "method": settings["method"],
        "pairs": len(pairs),
        "unpaired": [len(side.pool) for side in data.sides],
        "chosen_by": chosen_by,
        **{name: settings[name] for name in names},
    }
    said = ", ".join(f"{n} {settings[n]}" for n in names)
    say(f"refit by {settings['method']}: {said} ({chosen_by})")
    return Refit(_with_heads(model, best.maps_, sides), facts)


def _not_better(ranks: Matrix, model: TwoTower, data: AlignmentData) -> str:
    """Why the trained heads are kept: a refit has to be ahead of them by more than the standard error.

    The best of many settings is ahead by chance more often than not, and by less than that error mostly.
    """
    vectors = gallery_vectors(model, data.valid, data.sides)
    difference = ranks - reciprocal_ranks(vectors, data.valid, model.names)
    mean, error = float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))
    if mean > error:
        return ""
    return f"the best refit's reciprocal rank differs by {mean:+.3f}, with a standard error of {error:.3f}"


def _by_validation(
    base: TransportAlignment,
    fit: tuple[Any, ...],
    ready: list[Any],
    data: AlignmentData,
    model: TwoTower,
    grids: Mapping[str, Mapping[str, tuple[Any, ...]]],
) -> tuple[TransportAlignment, Matrix]:
    """The setting with the best mean reciprocal rank of validation partners, fitted; the items' ranks."""
    best: dict[str, Any] | None = None
    best_ranks = np.array([-np.inf])
    few = {"rounds": min(base.rounds, SELECTION_ROUNDS), "max_items": TRIAL_ITEMS}
    for setting in _settings(grids, model.dim):
        ranks = _ranks(TransportAlignment(**{**base.get_params(), **setting, **few}).fit(*fit), ready, data)
        if ranks.mean() > best_ranks.mean():
            best, best_ranks = setting, ranks
    if best is None:
        raise ConfigError("no map was found: the features are constant or not finite")
    chosen = TransportAlignment(**{**base.get_params(), **best}).fit(*fit)
    return chosen, _ranks(chosen, ready, data)


def _settings(grids: Mapping[str, Mapping[str, tuple[Any, ...]]], most: int) -> Iterator[dict[str, Any]]:
    for method, grid in grids.items():
        dims = {"dim": sorted({min(dim, most) for dim in grid["dim"]})} if "dim" in grid else {}
        choices = {**grid, **dims}
        for values in itertools.product(*choices.values()):
            yield {"method": method, **dict(zip(choices, values, strict=True))}


def _ranks(fitted: TransportAlignment, ready: list[Any], data: AlignmentData) -> Matrix:
    vectors = [
        apply(rows[index])
        for apply, rows, index in zip(
            (fitted.transform_left, fitted.transform_right), ready, data.valid.rows.T, strict=True
        )
    ]
    return reciprocal_ranks(vectors, data.valid, data.names)


@torch.no_grad()
def _with_heads(model: TwoTower, maps: LinearMaps, sides: list[Preparation]) -> TwoTower:
    found = TwoTower(
        *model.sides.values(),
        dim=model.dim,
        head="linear",
        max_scale=model.max_scale,
        learn_temperature=False,
    ).to(model.log_scale.device)
    found.log_scale.copy_(model.log_scale)
    for name, side, (mean, weight) in zip(model.names, sides, maps.affine, strict=True):
        head: Any = found.heads[name]
        centre, weight = side.unfold(mean, weight)
        head.standardise.mean.copy_(torch.from_numpy(side.mean))
        head.standardise.std.copy_(torch.from_numpy(side.scale))
        head.start_from(*(torch.from_numpy(value).to(model.log_scale) for value in (centre, weight)))
    return found.eval()
