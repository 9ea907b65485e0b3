"""Items in, vectors out: the one inference path of validation, evaluation and embedding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from protclip.config.checks import check_choice
from protclip.config.pretraining import PRECISIONS
from protclip.errors import ConfigError
from protclip.modalities.base import CUDA_BATCH, Modality, budget_batches
from protclip.modalities.items import take
from protclip.model.two_tower import TwoTower
from protclip.typing import Done, Vectors

WINDOW = 1024
"""Items that are read at once to learn their costs; so many are kept in memory."""


def running_total(tell: Done) -> Done:
    """A callable that is told how many items were just done, and tells how many are done by now.

    Examples
    --------
    >>> done = running_total(print)
    >>> done(2), done(3)
    2
    5
    (None, None)
    """
    total = 0

    def add(n: int) -> None:
        nonlocal total
        total += n
        tell(total)

    return add


def pick_device(wish: str) -> torch.device:
    """``auto`` is CUDA where present, else the CPU; anything else is a torch device name.

    Raises
    ------
    ConfigError
        If the device does not exist here.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            "no such device here", where="--device", got=repr(wish), expected="auto, cpu, cuda or cuda:N"
        ) from error
    return device


def resolved_precision(device: torch.device, precision: str) -> Literal["fp32", "bf16"]:
    """What ``auto`` means here: bf16 on CUDA, fp32 elsewhere; ``fp32`` and ``bf16`` decide themselves.

    Raises
    ------
    ConfigError
        If the precision is none of these.

    Examples
    --------
    >>> resolved_precision(torch.device("cpu"), "auto")
    'fp32'
    """
    check_choice("--precision", precision, PRECISIONS)
    half = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return "bf16" if half else "fp32"


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Autocast to bf16 where :func:`resolved_precision` says so."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=resolved_precision(device, precision) == "bf16"
    )


class Survey:
    """What batching has to know of items, from reading them once, many at a time.

    Parameters
    ----------
    modality : Modality
    items : sequence
    digests : bool
        Whether to take digests besides.

    Attributes
    ----------
    costs : list of int
    digests : list of bytes
        Empty unless asked for.
    items : sequence
        To go on with: as they were read, if they are few; else the sequence, so that memory is bounded.
    """

    def __init__(self, modality: Modality[Any], items: Sequence[Any], *, digests: bool = False) -> None:
        self.costs: list[int] = []
        self.digests: list[bytes] = []
        self.items = items
        for start in range(0, len(items), WINDOW):
            window = take(items, range(start, min(start + WINDOW, len(items))))
            self.costs += [modality.cost(item) for item in window]
            if digests:
                self.digests += [modality.digest(item) for item in window]
            if len(items) <= WINDOW:
                self.items = window


def in_batches(
    sides: Sequence[Modality[Any]],
    items: Sequence[Sequence[Any] | Tensor],
    forward: Callable[..., Any],
    *,
    device: torch.device,
    precision: str = "auto",
    budget: int | None = None,
    costs: Sequence[int] | None = None,
) -> Iterator[tuple[list[int], Any]]:
    """The one loop from items to what a network makes of them, batch by batch of like size.

    Parameters
    ----------
    sides : sequence of Modality
        Of the parts of an item.
    items : sequence of (sequence of n items, or tensor [n, ...])
        One for each side; the items of a batch are read in one call. Rows of a tensor need no collating.
    forward : callable
        Collated batches on ``device``, one for each side -> anything.
    device, precision
        See :func:`pick_device` and :func:`resolved_precision`.
    budget : int, optional
        Largest summed cost of a batch; by default that of the first side, sixteen times as much on CUDA.
    costs : sequence of n int, optional
        Known costs; by default the largest among the parts of an item.

    Yields
    ------
    (list of int, result)
        Places of the batch's items, and what ``forward`` gave.
    """
    parts: list[Sequence[Any] | Tensor] = list(items)
    if costs is None:
        costs = [1] * len(parts[0])
        for number, (side, part) in enumerate(zip(sides, items, strict=True)):
            if not isinstance(part, Tensor):
                survey = Survey(side, part)
                parts[number] = survey.items
                costs = list(map(max, costs, survey.costs))
    if budget is None:
        budget = sides[0].budget * (CUDA_BATCH if device.type == "cuda" else 1)
    for index in budget_batches(costs, budget):
        with torch.inference_mode():
            batches = [
                (part[index] if isinstance(part, Tensor) else side.collate(take(part, index))).to(device)
                for side, part in zip(sides, parts, strict=True)
            ]
            with autocast(device, precision):
                out = forward(*batches)
        yield index, out


def encode(
    modality: Modality[Any],
    items: Sequence[Any],
    forward: Callable[[Any], Tensor],
    *,
    device: torch.device,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> Vectors:
    """Rows [len(items), d] of ``forward(batch)`` in the order of ``items``, computed in batches of like size.

    Parameters
    ----------
    modality : Modality
        Collates the items and knows their costs.
    items : sequence
    forward : callable
        Collated batch on ``device`` -> tensor [n, d].
    device, precision
        See :func:`pick_device` and :func:`resolved_precision`.
    done : callable
        Told the number of items of each finished batch.
    """
    rows: Vectors | None = None
    for index, out in in_batches([modality], [items], forward, device=device, precision=precision):
        found = out.float().cpu().numpy()
        if rows is None:
            rows = np.empty((len(items), found.shape[1]), np.float32)
        rows[index] = found
        done(len(index))
    return np.zeros((0, 0), np.float32) if rows is None else rows


def embed_items(
    model: TwoTower,
    name: str,
    items: Sequence[Any],
    *,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> Vectors:
    """Unit vectors [len(items), dim] of items of side ``name``; the model must be in evaluation mode."""
    device = model.log_scale.device
    return encode(
        model.sides[name],
        items,
        lambda b: model.embed(name, b),
        device=device,
        precision=precision,
        done=done,
    )


@torch.inference_mode()
def project_features(model: TwoTower, name: str, features: Tensor) -> Vectors:
    """Unit vectors [n, dim] of precomputed tower features [n, d] of side ``name``."""
    device = model.log_scale.device
    parts = [model.project(name, part.to(device)).cpu().numpy() for part in torch.split(features, 65536)]
    return np.concatenate(parts) if parts else np.zeros((0, model.dim), np.float32)
