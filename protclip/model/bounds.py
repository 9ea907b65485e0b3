"""A bound on the tensors that a network may make while it is built from a configuration."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

SPARE_NUMBERS = 1 << 26
"""For tables that a network makes but does not save; 256 MB in float32."""

LEAST = 4096
"""What a tensor counts for whatever its size: memory and time of its own, which a billion of layers take."""

_BY_SIZE = {
    torch.empty,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.rand,
    torch.randn,
    torch.randint,
    torch.eye,
}
_BY_RANGE = {torch.arange, torch.linspace}


class BoundedTensors(TorchFunctionMode):
    """Refuses to make tensors from sizes once they hold more than ``most`` numbers together.

    A tensor counts for :data:`LEAST` numbers at least.

    Parameters
    ----------
    most : int

    Examples
    --------
    >>> with BoundedTensors(10_000):
    ...     _ = torch.nn.Linear(30, 30)
    >>> with BoundedTensors(10_000):
    ...     _ = torch.nn.Linear(30, 10**12)
    Traceback (most recent call last):
    ValueError: a tensor of 30000000000000 numbers, more than the weights file can hold
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count what is made."""
        options = dict(kwargs or {})
        if func in _BY_SIZE:
            count = math.prod(_whole_numbers([*args, options.get("size", ())]))
        elif func in _BY_RANGE:
            count = max(map(abs, _whole_numbers([*args, *options.values()])), default=0)
        else:
            return func(*args, **options)
        self.left -= max(count, LEAST)
        if self.left < 0:
            raise ValueError(f"a tensor of {count} numbers, more than the weights file can hold")
        return func(*args, **options)


def _whole_numbers(values: Iterable[Any]) -> list[int]:
    """The whole numbers of a call's sizes, which stand alone or in one sequence."""
    found: list[int] = []
    for value in values:
        if isinstance(value, (tuple, list)):
            return [int(entry) for entry in value]
        if isinstance(value, int):
            found.append(value)
    return found
