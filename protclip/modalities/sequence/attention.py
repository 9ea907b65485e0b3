"""Attention over packed sequences: no padding, so no sequence can see or slow down another."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Packing:
    """Where the W sequences of a packed batch of T tokens lie.

    Attributes
    ----------
    lengths : tuple of int
        Tokens of each sequence; they sum to T.
    starts : int32 tensor [W + 1]
        First token of each sequence, and T.
    sequence : int64 tensor [T]
        Sequence that each token belongs to.
    position : int64 tensor [T]
        Place of each token in its sequence, from 0.

    Examples
    --------
    >>> packing = Packing.of([2, 3])
    >>> packing.starts.tolist(), packing.sequence.tolist(), packing.position.tolist()
    ([0, 2, 5], [0, 0, 1, 1, 1], [0, 1, 0, 1, 2])
    """

    lengths: tuple[int, ...]
    starts: Tensor
    sequence: Tensor
    position: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Packing:
        """Lay sequences of these lengths one after the other."""
        size = torch.as_tensor(lengths, dtype=torch.int64)
        starts = torch.zeros(len(lengths) + 1, dtype=torch.int64)
        torch.cumsum(size, 0, out=starts[1:])
        sequence = torch.repeat_interleave(torch.arange(len(lengths)), size)
        position = torch.arange(int(starts[-1])) - starts[sequence]
        return cls(tuple(lengths), starts.int(), sequence, position)

    def map(self, move: Callable[[Tensor], Tensor]) -> Packing:
        """Apply ``move`` (a copy to a device, say) to every tensor."""
        return Packing(self.lengths, move(self.starts), move(self.sequence), move(self.position))


def attend(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Softmax attention within each sequence, scaled by the square root of the head width.

    Parameters
    ----------
    query, key, value : float tensors [T, heads, width]
    packing : Packing

    Returns
    -------
    Tensor [T, heads, width]

    Examples
    --------
    >>> q, k, v = torch.randn(3, 5, 2, 8, generator=torch.Generator().manual_seed(0))
    >>> both = attend(q, k, v, Packing.of([2, 3]))
    >>> first = attend(q[:2], k[:2], v[:2], Packing.of([2]))
    >>> torch.allclose(both[:2], first)
    True
    """
    if not packing.lengths:
        return query
    if not query.is_cuda:
        return attend_in_runs(query, key, value, packing)
    if (
        query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] % 8 == 0
        and (kernel := _varlen_kernel())
    ):
        return attend_varlen(query, key, value, packing, kernel)
    return attend_padded(query, key, value, packing)


def attend_in_runs(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """One kernel call per run of sequences of equal length: exact and unpadded; best on the CPU."""
    runs = [(length, len(list(group))) for length, group in groupby(packing.lengths)]
    sizes = [length * count for length, count in runs]
    out = []
    # Tensor.split, not slicing: its backward is one concatenation instead of a zero-filled copy per run.
    parts = zip(*(torch.split(x, sizes) for x in (query, key, value)), strict=True)
    for (length, count), qkv in zip(runs, parts, strict=True):
        q, k, v = (x.unflatten(0, (count, length)).transpose(1, 2) for x in qkv)
        out.append(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1))
    return torch.cat(out)


def attend_padded(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """One masked kernel call on sequences padded to the longest; for devices without a packed kernel."""
    count, longest = len(packing.lengths), max(packing.lengths)
    at = (packing.sequence, packing.position)

    def pad(x: Tensor) -> Tensor:
        return x.new_zeros(count, longest, *x.shape[1:]).index_put(at, x).transpose(1, 2)

    present = torch.zeros(count, longest, dtype=torch.bool, device=query.device)
    present[at] = True
    mask = None if min(packing.lengths) == longest else present[:, None, None, :]
    return scaled_dot_product_attention(pad(query), pad(key), pad(value), attn_mask=mask).transpose(1, 2)[at]


def attend_varlen(
    query: Tensor, key: Tensor, value: Tensor, packing: Packing, kernel: Callable[..., Any]
) -> Tensor:
    """One unpadded flash-attention call for all sequences (CUDA, half precision)."""
    longest = max(packing.lengths)
    out: Tensor = kernel(query, key, value, packing.starts, packing.starts, longest, longest)
    return out


@cache
def _varlen_kernel() -> Callable[..., Any] | None:
    """PyTorch's packed attention where this PyTorch and this GPU have it."""
    if torch.cuda.get_device_capability() < (8, 0):
        return None
    try:
        kernel: Callable[..., Any] = importlib.import_module("torch.nn.attention.varlen").varlen_attn
    except (ImportError, AttributeError):  # before PyTorch 2.10
        return None
    return kernel
