"""Refit a saved model: the same towers under new linear heads, as a model folder of its own."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from protclip.config.pretraining import PretrainConfig
from protclip.errors import ConfigError
from protclip.files import atomic_write
from protclip.inference.encode import encode
from protclip.model.folder import find_model
from protclip.model.two_tower import TwoTower
from protclip.relations.equal_contents import EQUAL_KEY
from protclip.relations.pairs import AlignmentData, Side, Source
from protclip.training.finish import assess_model
from protclip.training.refit import refit_heads
from protclip.training.report import ranks_table
from protclip.typing import Say
from protclip.work.fingerprint import file_digest

SPLIT = ("split_seed", "valid_fraction", "test_fraction")


@dataclass(frozen=True)
class RefitReport:
    """What :func:`refit_model` did.

    Attributes
    ----------
    out : Path
        The new model folder.
    facts : dict
        Method, settings, pairs and parent.
    before, after : dict or None
        Metrics on the held-out test items under the old and the new heads; None where none are held out.
    """

    out: Path
    facts: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def refit_model(
    parent: Path,
    config: PretrainConfig,
    out: Path,
    *,
    method: str = "transport",
    device: torch.device | str = "cpu",
    data: AlignmentData | None = None,
    say: Say = lambda text: None,
) -> RefitReport:
    """Fit linear heads to the towers of a saved model and write them as a model folder.

    Parameters
    ----------
    parent : Path
        Model folder or run folder; not changed.
    config : PretrainConfig
        Where the items come from, how they are divided, ``train.seed``, which decides what is paired, and
        ``train.precision``, in which the towers compute. The held-out part must be the parent's for the
        scores to mean anything.
    out : Path
        Must not exist.
    method : {"transport", "cca"}
    device : torch.device
        Of towers and plan.
    data : AlignmentData, optional
        Items that are Python objects, instead of those that ``config.source`` describes.
    say : callable
        Told in a sentence what goes on.

    Raises
    ------
    ConfigError
        If ``out`` exists, the sides are not those of the model, or there are fewer than two pairs.
    """
    if out.exists():
        raise ConfigError("something is there already", where=f"-o {out}", hint="Choose another folder")
    model, facts = TwoTower.load(parent, device)
    fingerprint = file_digest(find_model(parent) / "model.safetensors")
    if data is None:
        config.source.validate()
        source: Source = config.source.open()
        data = source.setup(config.data, seed=config.train.seed, say=say)
    if data.names != model.names:
        raise ConfigError(
            "the items are not of the model's modalities",
            where=str(parent),
            got=" and ".join(data.names),
            expected=" and ".join(model.names),
        )
    for notice in (*data.notices, *_other_split(facts, config, data.facts)):
        say(notice)
    data = dataclasses.replace(data, sides=_of_model(model, data.sides))

    def features(side: Side) -> torch.Tensor:
        say(f"{side.name}: tower features of {len(side.items)} items")
        rows = encode(
            side.modality,
            side.items,
            side.modality.encoder,
            device=model.log_scale.device,
            precision=config.train.precision,
        )
        return torch.from_numpy(rows)

    data = data.with_features(features)
    found = refit_heads(model, data, method=method, seed=config.train.seed, say=say)
    refit = {**found.facts, "parent": parent.name, "parent_fingerprint": fingerprint}
    own = {name: getattr(config.data, name) for name in SPLIT}
    record = {**facts, **own, **data.facts, "refit": refit}
    evaluation, replaced, card = assess_model(
        found.model,
        data,
        precision=config.train.precision,
        facts=record,
        loss={},
        replaces=model,
    )
    found.model.save(out, facts=record, card=card)
    after, before = (scores.metrics if scores else None for scores in (evaluation, replaced))
    metrics = {**(after or {}), "refit": refit, "before_refit": before}
    atomic_write(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    if evaluation is not None:
        atomic_write(out / "ranks.csv", ranks_table(data.test, evaluation, model.names))
    return RefitReport(out, refit, before, after)


def _other_split(facts: Mapping[str, Any], config: PretrainConfig, found: Mapping[str, Any]) -> list[str]:
    """Why the scores may flatter: test items that the parent's towers may have been trained on."""
    differs = [name for name in SPLIT if facts.get(name) not in (None, getattr(config.data, name))]
    if facts.get(EQUAL_KEY) != found.get(EQUAL_KEY):
        differs.append("copies kept in one part")
    same = facts.get("corpus_fingerprint") == found.get("corpus_fingerprint")
    if same and not differs:
        return []
    what = ", ".join(differs) or "other items"
    return [
        f"WARNING: not the split that the parent was trained with ({what}): its towers may have seen "
        "the items that are scored here"
    ]


def _of_model(model: TwoTower, sides: tuple[Side, Side]) -> tuple[Side, Side]:
    """The same items, seen by the towers of a model."""
    first, second = (dataclasses.replace(side, modality=model.sides[side.name]) for side in sides)
    return first, second
