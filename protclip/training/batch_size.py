"""``--batch-size auto``: as many rows as stand for the distribution of either modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protclip.errors import DataError
from protclip.model.two_tower import TwoTower
from protclip.relations.pairs import AlignmentData
from protclip.training.sampling_size import TOLERANCE, SizeCurve, size_curve
from protclip.training.tower_features import side_vectors

ITEMS = 512
"""Training items of each modality that are embedded for the choice."""

SMALLEST, LARGEST = 32, 1024
"""Limits of the choice: contrastive terms want some negatives, memory is not endless."""


@dataclass(frozen=True)
class BatchSize:
    """A choice and its reasons.

    Attributes
    ----------
    size : int
    curves : dict of SizeCurve
        By modality; those with too few items or without any spread are missing.
    reason : str
        One sentence.
    """

    size: int
    curves: dict[str, SizeCurve]
    reason: str


def training_vectors(
    model: TwoTower,
    data: AlignmentData,
    *,
    items: int = ITEMS,
    precision: str = "auto",
    seed: int = 0,
) -> dict[str, NDArray[np.float32]]:
    """Unit vectors [n, dim] of up to ``items`` training items of each modality, by its name."""
    found = {}
    was_training = model.training
    model.eval()
    with torch.random.fork_rng(devices=[]):  # the weights and batches that follow stay those of a fixed size
        for number, side in enumerate(data.sides):
            index = np.unique(data.training_items(number))
            index = np.sort(np.random.default_rng([seed, 7, number]).permutation(index)[:items])
            found[side.name] = side_vectors(model, side, index, precision=precision)
    model.train(was_training)
    return found


def choose_batch_size(
    vectors: Mapping[str, NDArray[Any]],
    *,
    tolerance: float = TOLERANCE,
    available: int | None = None,
    least: int = SMALLEST,
    seed: int = 0,
) -> BatchSize:
    """Smallest power of two whose samples stand for each modality within ``tolerance``.

    Parameters
    ----------
    vectors : mapping of name -> float array [n, dim]
    tolerance : float
        See :data:`protclip.training.sampling_size.TOLERANCE`.
    available : int, optional
        Training items; a batch is not made larger than these.
    least : int
        Lower limit.
    seed : int
        Of the samples.
    """
    curves: dict[str, SizeCurve] = {}
    said = []
    for name, rows in vectors.items():
        try:
            curves[name] = size_curve(rows, seed=seed)
        except DataError as error:
            said.append(f"{name}: {error.message}")
            continue
        size = curves[name].smallest(tolerance)
        least_off = float(curves[name].divergence[-1])
        short = size == curves[name].whole and least_off > tolerance
        said.append(f"{name} needs {'all of its ' if short else ''}{size}")
    wanted = max((_power(curve.smallest(tolerance)) for curve in curves.values()), default=64)
    size = min(max(wanted, least, SMALLEST), LARGEST)
    if available is not None and size > available:
        size = max(2, available)
    reason = (
        f"batch size {size}: rows whose density is within {100 * tolerance**0.5:.0f} % of the whole set's "
        f"({'; '.join(said)}; limits {SMALLEST} to {LARGEST})"
    )
    return BatchSize(size, curves, reason)


def _power(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()
