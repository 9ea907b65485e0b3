"""Classify items of one modality by the nearest prompt of the other, without any training on the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protclip.data.paired.class_folders import read_classes
from protclip.errors import ConfigError, DataError
from protclip.inference.aligned_model import AlignedModel
from protclip.typing import Say

TEMPLATE = "a photograph of {}."
TIE = 1e-6
"""Cosines closer than this are tied: rounding of float32 vectors."""


@dataclass(frozen=True)
class ZeroShot:
    """Scores of a zero-shot classification.

    A tie between classes counts by its expectation, so that an encoder that maps everything to one point is
    at chance.

    Attributes
    ----------
    classes : list of str
        Names as they stood in the prompts.
    truth : int64 array [n]
        Class of each item.
    ahead, tied : int64 arrays [n]
        Classes nearer to the item than its own, and equally near.
    predicted : int64 array [n]
        Nearest class.
    failed : int
        Items that could not be read.
    """

    classes: list[str]
    truth: NDArray[np.int64]
    ahead: NDArray[np.int64]
    tied: NDArray[np.int64]
    predicted: NDArray[np.int64]
    failed: int

    def __repr__(self) -> str:
        top1, chance = float(self.hits(1).mean()), 1 / len(self.classes)
        failed = f"; {self.failed} failed" if self.failed else ""
        return f"ZeroShot({len(self.truth)} items, top1 {top1:.3f}, chance {chance:.3f}{failed})"

    def hits(self, k: int) -> NDArray[np.float64]:
        """Share of the orders of ties that put the item's own class among the first ``k`` [n], 0 to 1."""
        share: NDArray[np.float64] = np.clip((k - self.ahead) / (self.tied + 1), 0.0, 1.0)
        return share

    def metrics(self) -> dict[str, Any]:
        """Accuracies 0 to 1, with what guessing would give beside them."""
        n, k = len(self.truth), len(self.classes)
        counts = np.bincount(self.truth, minlength=k)
        hits = self.hits(1)
        return {
            "items": n,
            "classes": k,
            "failed": self.failed,
            "top1": float(hits.mean()),
            "top5": float(self.hits(5).mean()),
            "chance_top1": 1 / k,
            "chance_top5": min(1.0, 5 / k),
            "largest_class": float(counts.max() / n),
            "per_class": {
                name: {"items": int(counts[i]), "top1": float(hits[self.truth == i].mean())}
                for i, name in enumerate(self.classes)
                if counts[i]
            },
        }


def zero_shot(
    model: AlignedModel,
    folder: Path | str,
    templates: Sequence[str] = (TEMPLATE,),
    *,
    side: str = "",
    say: Say = lambda text: None,
) -> ZeroShot:
    """Classify the items of a labelled folder.

    The side that accepts the items embeds them, the other side embeds one prompt for each class; with
    several templates a class is the mean of its prompts.

    Parameters
    ----------
    model : AlignedModel
    folder : path
        See :func:`protclip.data.paired.class_folders.read_classes`.
    templates : sequence of str
        Prompts with ``{}`` where the class name goes.
    side : str
        The side that embeds the items; by default the one that accepts them.
    say : callable
        Gets a sentence on items that could not be read.

    Raises
    ------
    ConfigError
        If a template has no ``{}``, or the side cannot be told.
    DataError
        If there are no classes, or nothing can be read.
    """
    if not templates:
        raise ConfigError("no prompt", where="--prompt", expected=repr(TEMPLATE))
    for template in templates:
        if "{}" not in template:
            raise ConfigError(
                "no place for the class name", where="--prompt", got=repr(template), expected="{} in the text"
            )
    classes = read_classes(Path(folder))
    side = side or model.side_of(classes.example)
    if side not in model.towers.names:
        raise ConfigError(
            "the model has no such side", got=repr(side), expected=" or ".join(model.towers.names)
        )
    left, right = model.towers.names
    prompts = _prompt_vectors(model, right if side == left else left, classes.names, templates)

    rows: list[NDArray[np.float32]] = []
    truth: list[int] = []
    failed: dict[str, str] = {}
    for number, source in enumerate(classes.sources):
        for window in model.stream(side, source):
            failed |= {f"{classes.names[number]}/{id}": reason for id, reason in window.failed.items()}
            if window.ids:
                rows.append(window.vectors)
                truth += [number] * len(window.ids)
    if failed:
        id, reason = next(iter(failed.items()))
        say(f"{len(failed)} items could not be read and are left out (the first is {id}: {reason})")
    if not rows:
        raise DataError("nothing could be read", where=str(folder))
    scores = np.concatenate(rows) @ prompts.T
    label = np.array(truth, np.int64)
    own = scores[np.arange(len(label)), label][:, None]
    nearer = (scores > own + TIE).sum(1)
    level = (np.abs(scores - own) <= TIE).sum(1) - 1
    return ZeroShot(classes.names, label, nearer, level, scores.argmax(1), len(failed))


def _prompt_vectors(
    model: AlignedModel, side: str, names: Sequence[str], templates: Sequence[str]
) -> NDArray[np.float32]:
    """Unit vectors [classes, dim]."""
    total = np.zeros((len(names), model.dim), np.float32)
    for template in templates:
        texts = {str(i): template.replace("{}", name) for i, name in enumerate(names)}
        found = model.embed(side, texts)
        if found.failed:
            id, reason = next(iter(found.failed.items()))
            raise DataError("a prompt cannot be embedded", where=texts[id], got=reason)
        total += found.vectors
    unit: NDArray[np.float32] = total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)
    return unit
