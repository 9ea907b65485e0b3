"""The state of an unfinished run: written whole or not at all, readable without running code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protclip.errors import DataError, ProtclipError
from protclip.files import atomic_path
from protclip.parallel.fsdp import part_of, whole

STATE_FORMAT = 1


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Trained parameters and buffers; a frozen tower's weights are not repeated in every checkpoint.

    Every process has to ask for those of a sharded model; they come whole.
    """
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    return {
        name: whole(value.detach()).cpu().clone()
        for name, value in model.state_dict().items()
        if name not in frozen
    }


def load_trainable_state(model: nn.Module, state: dict[str, Tensor], *, where: str) -> None:
    """Put back :func:`trainable_state`.

    Raises
    ------
    DataError
        If the state is of another architecture.
    """
    expected = trainable_state(model)
    if {k: v.shape for k, v in expected.items()} != {k: v.shape for k, v in state.items()}:
        raise DataError(
            "the checkpoint does not fit the model of config.toml",
            where=where,
            got=f"{len(state)} tensors",
            expected=f"{len(expected)} tensors of the same shapes",
            hint="Start a new run in another folder",
        )
    own = model.state_dict()
    model.load_state_dict({name: part_of(value, own[name]) for name, value in state.items()}, strict=False)


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write ``state`` atomically."""
    with atomic_path(path) as temporary:
        torch.save({"format_version": STATE_FORMAT, **state}, temporary)


@contextmanager
def damaged_state(path: Path) -> Iterator[None]:
    """Turn the errors of reading a damaged checkpoint, which are of many kinds, into :class:`DataError`."""
    try:
        yield
    except ProtclipError:
        raise
    except Exception as error:
        raise DataError(
            f"damaged checkpoint ({type(error).__name__})",
            where=str(path),
            hint="Start a new run in another folder",
        ) from error


def load_state(path: Path) -> dict[str, Any]:
    """Read what :func:`save_state` wrote, with ``weights_only=True``.

    Raises
    ------
    DataError
        If the file is damaged or of a newer format.
    """
    with damaged_state(path):
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version = state.get("format_version")
    if version != STATE_FORMAT:
        raise DataError(
            "checkpoint of another format", where=str(path), got=str(version), expected=str(STATE_FORMAT)
        )
    return state
