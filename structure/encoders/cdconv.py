"""Continuous-discrete convolution over residues in space and along the chain.

With neighbours j of node i, kernels k(i, j) in R^K and the smooth cut-off g,

    y(i) = W vec( sum over j of g(i, j) k(i, j) x(j)^T ).

The sums over neighbours are matrix products [K, neighbours] x [neighbours, C], batched over the nodes of
equal numbers of neighbours.  Nothing of the size edges x K x C ever exists; the sums themselves
(nodes x K x C) exist for one block of nodes at a time and are made again in the backward pass, which costs
2 x neighbours / C of the product with W.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from protclip.structure.encoders.contacts import TILE, Neighbours
from protclip.structure.encoders.frames import pair_geometry
from protclip.structure.encoders.graph import Level

KERNEL_SLOPE = 0.2
FEATURES = 7
TYPICAL_NEIGHBOURS = 12
"""Neighbours of a residue within the published radii, for the scale of the initial weights."""

BLOCK_BYTES = {"cpu": 32 * 2**20, "cuda": 512 * 2**20}
"""Largest block of neighbour sums held at a time. On the CPU, the largest that glibc's allocator reuses:
above, it asks the system for fresh pages every time, which costs a fifth of the early stages."""


def edge_features(level: Level, *, radius: float, window: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Input of the weight net for every edge of a level: the same for all layers at that level.

    Returns
    -------
    tensor [tiles, TILE, 8]
        In tile order; zero in padding. See :func:`protclip.structure.encoders.frames.pair_geometry`.
    """
    edges = level.neighbours
    half = window // 2
    reach = (edges.offset - half).abs().to(dtype) / max(half, 1)
    features = pair_geometry(
        level.xyz.to(dtype),
        level.frame.to(dtype),
        edges.target,
        edges.source,
        reach.repeat_interleave(TILE),
        radius=radius,
    )
    return (features * edges.real[:, None].to(dtype)).view(-1, TILE, FEATURES + 1)


class CDConv(nn.Module):
    """The operator with its weights.

    Parameters
    ----------
    in_channels, out_channels : int
    kernel_channels : int
        K, the width of the kernel.
    window : int
        l, the odd number of sequence offsets with weights of their own.
    radius : float
        Angstrom; sets the scale of the initial weights on the distance.
    generator : torch.Generator, optional
        Source of the initial weights; torch's global one by default.

    Examples
    --------
    >>> import numpy as np
    >>> from protclip.structure.encoders.graph import collate_structures
    >>> from protclip.structure.protein import Protein
    >>> chain = Protein.from_ca("a", "GAVL", np.arange(12.0).reshape(4, 3))
    >>> level = collate_structures([chain], radii=[8.0]).levels[0]
    >>> conv = CDConv(5, 6, kernel_channels=4)
    >>> features = edge_features(level, radius=8.0, window=21)
    >>> conv(torch.ones(4, 5), features, level.neighbours).shape
    torch.Size([4, 6])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_channels: int = 24,
        window: int = 21,
        radius: float = 8.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.kernel_channels = in_channels, out_channels, kernel_channels
        self.radius = radius
        self.kernel_weight = nn.Parameter(torch.empty(window, FEATURES, kernel_channels))
        self.kernel_bias = nn.Parameter(torch.empty(window, kernel_channels))
        self.weight = nn.Parameter(torch.empty(kernel_channels * in_channels, out_channels))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw weights that keep the scale of the features for typical numbers of neighbours."""
        bound = 1.0 / math.sqrt(FEATURES)
        gain = math.sqrt(2.0 / (1.0 + KERNEL_SLOPE**2))
        with torch.no_grad():
            self.kernel_weight.uniform_(-gain * bound, gain * bound, generator=generator)
            # Distances come in Angstrom, up to the radius; all other features stay within one.
            self.kernel_weight[:, FEATURES - 1] /= self.radius
            self.kernel_bias.uniform_(-bound, bound, generator=generator)
            fan_in = self.kernel_channels * self.in_channels * TYPICAL_NEIGHBOURS
            self.weight.normal_(0.0, math.sqrt(2.0 / fan_in), generator=generator)

    def forward(self, x: Tensor, features: Tensor, neighbours: Neighbours) -> Tensor:
        """Convolve.

        Parameters
        ----------
        x : float tensor [N, in_channels]
        features : float tensor [tiles, TILE, 8]
            From :func:`edge_features`.
        neighbours : Neighbours

        Returns
        -------
        float tensor [N, out_channels]
        """
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        with torch.autocast(device, enabled=False):
            # Distances need more digits than bf16 has, and the weight net is cheap: it keeps full precision.
            weight = torch.cat([self.kernel_weight, self.kernel_bias[:, None]], 1)
            kernel = torch.bmm(features, weight.index_select(0, neighbours.offset))
            kernel = F.leaky_relu(kernel, KERNEL_SLOPE, inplace=True).flatten(0, 1)
            convolve = cast(Callable[..., Tensor], _Convolve.apply)
            return convolve(x.to(dtype), kernel.to(dtype), self.weight.to(dtype), neighbours)

    def extra_repr(self) -> str:
        """Sizes, for the printed module."""
        return f"{self.in_channels}, {self.out_channels}, kernel_channels={self.kernel_channels}"


class _Convolve(torch.autograd.Function):
    """W vec(sum over neighbours of kernel x features), with the sums recomputed in backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, weight: Tensor, neighbours: Neighbours) -> Tensor:
        slots = kernel.index_select(0, neighbours.slot_edge)
        ctx.save_for_backward(x, slots, weight)
        ctx.neighbours, ctx.edges = neighbours, len(kernel)
        result = x.new_empty(len(x), weight.shape[1])
        for block in _blocks(neighbours, x, slots):
            torch.mm(block.sums(), weight, out=result[block.nodes])
        return result.index_select(0, neighbours.rank)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, slots, weight = ctx.saved_tensors
        neighbours: Neighbours = ctx.neighbours
        wants_x, wants_kernel, wants_weight, _ = ctx.needs_input_grad
        grad = grad.index_select(0, neighbours.order)
        grad_weight: Tensor | None = None
        grad_slots = torch.empty_like(slots)
        grad_x_slots = x.new_empty(len(slots), x.shape[1]) if wants_x else None
        for block in _blocks(neighbours, x, slots):
            rows = grad[block.nodes]
            sums = block.sums(compute=wants_weight)
            if wants_weight:
                grad_weight = _add_product(grad_weight, sums, rows)
            # The gradient of the sums takes the place of the sums.
            block.backward(torch.mm(rows, weight.t(), out=sums), grad_slots, grad_x_slots)
        grad_x = None
        if grad_x_slots is not None:
            # A sum of rows per node, in fixed order: parallel, and the same bits every time.
            grad_x = F.embedding_bag(neighbours.leaving, grad_x_slots, neighbours.leaving_start, mode="sum")
        grad_kernel = grad_slots.index_select(0, neighbours.edge_slot) if wants_kernel else None
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        return grad_x, grad_kernel, grad_weight, None


def _add_product(total: Tensor | None, sums: Tensor, grad: Tensor) -> Tensor:
    """Total + sums^T grad; several blocks are added up in full precision."""
    if total is None:
        return sums.t() @ grad
    if total.dtype == sums.dtype and sums.element_size() >= 4:
        return total.addmm_(sums.t(), grad)
    return total.to(torch.float32).add_(sums.t() @ grad)


class _Block:
    """Consecutive nodes in bucket order whose neighbour sums are held at one time."""

    def __init__(
        self, x: Tensor, slots: Tensor, neighbours: Neighbours, parts: list[tuple[int, int, int]], start: int
    ):
        self.x, self.kernel, self.source, self.parts = x, slots, neighbours.slot_source, parts
        self.count = sum(nodes for nodes, _, _ in parts)
        self.nodes = slice(start, start + self.count)

    def _each(self) -> Iterator[tuple[slice, slice, Tensor, Tensor]]:
        """Rows, slots, kernels [n, s, K] and neighbours' features [n, s, C] of each bucket's part."""
        row = 0
        for nodes, per_node, first in self.parts:
            where = slice(first, first + nodes * per_node)
            kernel = self.kernel[where].view(nodes, per_node, -1)
            features = self.x.index_select(0, self.source[where]).view(nodes, per_node, -1)
            yield slice(row, row + nodes), where, kernel, features
            row += nodes

    def sums(self, *, compute: bool = True) -> Tensor:
        """Neighbour sums [nodes, K * C], or the room for them."""
        sums = self.x.new_empty(self.count, self.kernel.shape[1], self.x.shape[1])
        if compute:
            for rows, _, kernel, features in self._each():
                torch.bmm(kernel.transpose(1, 2), features, out=sums[rows])
        return sums.flatten(1)

    def backward(self, grad_sums: Tensor, grad_slots: Tensor, grad_x_slots: Tensor | None) -> None:
        """Fill in the gradients of the kernels [S, K] and of the gathered features [S, C] of these nodes."""
        grad_sums = grad_sums.view(self.count, self.kernel.shape[1], self.x.shape[1])
        for rows, where, kernel, features in self._each():
            part = grad_sums[rows]
            torch.bmm(features, part.transpose(1, 2), out=grad_slots[where].view_as(kernel))
            if grad_x_slots is not None:
                torch.bmm(kernel, part, out=grad_x_slots[where].view_as(features))


def _blocks(neighbours: Neighbours, x: Tensor, slots: Tensor) -> Iterator[_Block]:
    """Cut the nodes, bucket by bucket, into blocks of bounded memory."""
    per_node = slots.shape[1] * x.shape[1] * x.element_size()
    largest = max(1, BLOCK_BYTES.get(x.device.type, BLOCK_BYTES["cpu"]) // per_node)
    parts: list[tuple[int, int, int]] = []
    start = held = first_slot = 0
    for nodes, size in neighbours.buckets:
        left = nodes
        while left:
            take = min(left, largest - held)
            parts.append((take, size, first_slot))
            left, held, first_slot = left - take, held + take, first_slot + take * size
            if held == largest:
                yield _Block(x, slots, neighbours, parts, start)
                start, held, parts = start + held, 0, []
    if parts:
        yield _Block(x, slots, neighbours, parts, start)
