"""A batch of many small tensors as one buffer: one message between processes, one transfer to a device."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

ALIGN = 64
"""Bytes; a multiple of every element size, and of what vector instructions and copies like."""

Outline = list[tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of every tensor in a buffer, in order."""


def outline_of(tensors: Sequence[Tensor]) -> Outline:
    """What :func:`unpack` has to know of packed tensors."""
    return [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]


def _places(outline: Outline) -> list[tuple[int, int]]:
    """First byte and number of bytes of each tensor."""
    places, start = [], 0
    for dtype, shape in outline:
        size = math.prod(shape) * dtype.itemsize
        places.append((start, size))
        start += -(-size // ALIGN) * ALIGN
    return places


def pack(tensors: Sequence[Tensor], *, pin: bool = False) -> Tensor:
    """Contents of CPU tensors, one after the other, as uint8 [bytes].

    Parameters
    ----------
    tensors : sequence of Tensor
    pin : bool
        In page-locked memory, from where transfers overlap with computing.

    Examples
    --------
    >>> given = [torch.arange(3), torch.ones(2, 2), torch.tensor([True])]
    >>> [tensor.tolist() for tensor in unpack(pack(given), outline_of(given))]
    [[0, 1, 2], [[1.0, 1.0], [1.0, 1.0]], [True]]
    """
    places = _places(outline_of(tensors))
    buffer = torch.empty(sum(places[-1]) if places else 0, dtype=torch.uint8, pin_memory=pin)
    for tensor, (start, size) in zip(tensors, places, strict=True):
        buffer[start : start + size].copy_(tensor.contiguous().view(-1).view(torch.uint8))
    return buffer


def unpack(buffer: Tensor, outline: Outline) -> list[Tensor]:
    """The tensors as views of a packed buffer, on its device."""
    return [
        buffer[start : start + size].view(dtype).view(shape)
        for (dtype, shape), (start, size) in zip(outline, _places(outline), strict=True)
    ]


def flatten(value: Any, tensors: list[Tensor]) -> Any:
    """Nested dataclasses and tuples as plain tuples for :func:`build`; their tensors go to the list."""
    if isinstance(value, Tensor):
        tensors.append(value)
        return Tensor
    if is_dataclass(value) and not isinstance(value, type):
        parts = tuple(flatten(getattr(value, field.name), tensors) for field in fields(value))
        return (type(value), parts)
    if isinstance(value, tuple):
        return (tuple, tuple(flatten(part, tensors) for part in value))
    return value


def build(form: Any, tensors: Iterator[Tensor]) -> Any:
    """The opposite of :func:`flatten`."""
    if form is Tensor:
        return next(tensors)
    if isinstance(form, tuple):
        kind, parts = form
        values = [build(part, tensors) for part in parts]
        return tuple(values) if kind is tuple else kind(*values)
    return form
