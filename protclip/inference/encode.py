"""Items in, vectors out: the one inference path of validation, evaluation and embedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from protclip.errors import ConfigError
from protclip.modalities.base import CUDA_BATCH, Modality, budget_batches
from protclip.model.two_tower import TwoTower
from protclip.typing import Done


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


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast on CUDA by default; ``fp32`` and ``bf16`` decide themselves."""
    use = precision == "bf16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=use)


@torch.inference_mode()
def encode(
    modality: Modality[Any],
    items: Sequence[Any],
    forward: Callable[[Any], Tensor],
    *,
    device: torch.device,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> NDArray[np.float32]:
    """Rows [len(items), d] of ``forward(batch)`` in the order of ``items``, computed in batches of like size.

    Parameters
    ----------
    modality : Modality
        Collates the items and knows their costs.
    items : sequence
    forward : callable
        Collated batch on ``device`` -> tensor [n, d].
    device, precision
        See :func:`pick_device` and :func:`autocast`.
    done : callable
        Told the number of items of each finished batch.
    """
    rows: NDArray[np.float32] | None = None
    costs = [modality.cost(item) for item in items]
    for index in budget_batches(costs, modality.budget * (CUDA_BATCH if device.type == "cuda" else 1)):
        batch = modality.collate([items[i] for i in index]).to(device)
        with autocast(device, precision):
            out = forward(batch).float().cpu().numpy()
        if rows is None:
            rows = np.empty((len(items), out.shape[1]), np.float32)
        rows[index] = out
        done(len(index))
    return np.zeros((0, 0), np.float32) if rows is None else rows


def embed_items(
    model: TwoTower,
    name: str,
    items: Sequence[Any],
    *,
    precision: str = "auto",
    done: Done = lambda n: None,
) -> NDArray[np.float32]:
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
def project_features(model: TwoTower, name: str, features: Tensor) -> NDArray[np.float32]:
    """Unit vectors [n, dim] of precomputed tower features [n, d] of side ``name``."""
    device = model.log_scale.device
    parts = [model.project(name, part.to(device)).cpu().numpy() for part in torch.split(features, 65536)]
    return np.concatenate(parts) if parts else np.zeros((0, model.dim), np.float32)


def take(items: Sequence[Any], index: NDArray[np.int64]) -> list[Any]:
    """The items at ``index``, in one call where the sequence reads many at once (has ``take``).

    Examples
    --------
    >>> take("abc", np.array([2, 0]))
    ['c', 'a']
    """
    if hasattr(items, "take"):
        return list(items.take(index))
    return [items[int(i)] for i in index]
