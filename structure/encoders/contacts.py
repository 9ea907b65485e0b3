"""The order in which the operator wants the neighbours of one level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from protclip.typing import Indices

TILE = 64
"""Edges per tile: edges of one sequence offset fill whole tiles."""

ROUND = 4
"""Neighbours per node are padded to a multiple of this."""

MERGE = 0.02
"""Buckets are merged while that adds less than this fraction of slots."""


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Edges of one level in two orders, and the ways between them.

    *Tile order*, for the kernel's weights: edges of the same sequence offset together, each offset padded to
    whole tiles, so that the weight net is one batched product over tiles.
    *Slot order*, for the sums over neighbours: the edges of one node together; nodes in buckets of equal
    numbers of slots, so that the sums are one batched product per bucket.

    Attributes
    ----------
    target, source : int32 tensor [R]
        Edge from node ``source`` to node ``target``, in tile order; 0 in padding.
    real : bool tensor [R]
        False in padding.
    offset : int32 tensor [R / TILE]
        Clipped sequence offset + window // 2 of every tile: which weights it uses.
    slot_source : int32 tensor [S]
        Node of every slot; in padding some node, whose kernel is zero.
    slot_edge : int32 tensor [S]
        Edge of every slot, an unreal one in padding.
    edge_slot : int32 tensor [R]
        Slot of every edge; some slot for unreal ones.
    buckets : tuple of (nodes, slots per node)
    order : int32 tensor [N]
        Nodes in bucket order.
    rank : int32 tensor [N]
        Place of every node in bucket order.
    leaving : int32 tensor [E]
        Slots of which node 0 is the source, then node 1, ...: the sums of the backward pass.
    leaving_start : int32 tensor [N]
        First entry of every node in ``leaving``.
    """

    target: Tensor
    source: Tensor
    real: Tensor
    offset: Tensor
    slot_source: Tensor
    slot_edge: Tensor
    edge_slot: Tensor
    buckets: tuple[tuple[int, int], ...]
    order: Tensor
    rank: Tensor
    leaving: Tensor
    leaving_start: Tensor


def arrange(target: Indices, source: Indices, *, position: Indices, window: int) -> Neighbours:
    """Arrange the edges of one level.

    Parameters
    ----------
    target, source : int array [E]
        Symmetric, with every node its own neighbour.
    position : int array [N]
        Sequence coordinate of the nodes.
    window : int
        Odd number of sequence offsets told apart.

    Examples
    --------
    >>> pairs = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 0])
    >>> n = arrange(*pairs, position=np.array([0, 1]), window=3)
    >>> n.offset.tolist(), n.buckets, n.slot_source.tolist()
    ([0, 1, 2], ((2, 4),), [0, 1, 0, 0, 1, 0, 0, 0])
    """
    half = window // 2
    size = len(position)
    offset = np.clip(position[source] - position[target], -half, half) + half

    # Tile order. One spare place makes sure that there is an unreal edge for padded slots.
    count = np.bincount(offset, minlength=window)
    room = count.copy()
    room[half] += 1
    tiles = -(-room // TILE)
    place = _starts(tiles * TILE)
    row = np.empty(len(offset), np.int64)
    by_offset = _stable_order(offset)
    row[by_offset] = np.repeat(place - _starts(count), count) + np.arange(len(offset))
    rows = int(tiles.sum()) * TILE
    unreal = int(place[half] + count[half])
    tile_target, tile_source = np.zeros((2, rows), np.int32)
    tile_target[row], tile_source[row] = target, source
    real = np.zeros(rows, np.bool_)
    real[row] = True

    # Slot order.
    degree = np.bincount(target, minlength=size)
    slots_of = _bucket_sizes(degree)[degree]
    order = _stable_order(slots_of)
    rank = np.empty(size, np.int64)
    rank[order] = np.arange(size)
    first_slot = np.empty(size, np.int64)
    first_slot[order] = _starts(slots_of[order])
    by_target = _stable_order(target)
    slot = np.empty(len(target), np.int64)
    slot[by_target] = np.repeat(first_slot - _starts(degree), degree) + np.arange(len(target))
    slots = int(slots_of.sum())
    slot_source = np.zeros(slots, np.int32)
    slot_source[slot] = source
    slot_edge = np.full(slots, unreal, np.int32)
    slot_edge[slot] = row
    edge_slot = np.zeros(rows, np.int32)
    edge_slot[row] = slot
    per_node, nodes = np.unique(slots_of, return_counts=True)

    # Neighbourhood is symmetric: a node is the source of as many edges as it is the target of.
    leaving = slot[_stable_order(source)]
    return Neighbours(
        torch.from_numpy(tile_target),
        torch.from_numpy(tile_source),
        torch.from_numpy(real),
        torch.from_numpy(np.repeat(np.arange(window, dtype=np.int32), tiles)),
        torch.from_numpy(slot_source),
        torch.from_numpy(slot_edge),
        torch.from_numpy(edge_slot),
        tuple((int(n), int(s)) for n, s in zip(nodes, per_node, strict=True)),
        torch.from_numpy(order.astype(np.int32)),
        torch.from_numpy(rank.astype(np.int32)),
        torch.from_numpy(leaving.astype(np.int32)),
        torch.from_numpy(_starts(degree).astype(np.int32)),
    )


def _stable_order(keys: Indices) -> Indices:
    """Stable order of non-negative keys; small ones take numpy's counting sort of 16-bit integers."""
    order: Indices = np.argsort(keys.astype(np.uint16) if keys.max() < 2**16 else keys, kind="stable")
    return order


def _starts(counts: Indices) -> Indices:
    """Where each group starts if the groups follow one another."""
    starts: Indices = np.cumsum(counts) - counts
    return starts


def _bucket_sizes(degree: Indices) -> Indices:
    """Slots per node for every number of neighbours 0..max: few distinct values, little padding."""
    largest = int(degree.max())
    histogram = np.bincount(-(-degree // ROUND))
    sizes = [int(s) for s in np.flatnonzero(histogram)]
    nodes = [int(histogram[s]) for s in sizes]
    allowed = MERGE * float(degree.sum()) / ROUND
    while len(sizes) > 1:
        cost = [(sizes[i + 1] - sizes[i]) * nodes[i] for i in range(len(sizes) - 1)]
        cheapest = min(range(len(cost)), key=cost.__getitem__)
        if cost[cheapest] > allowed:
            break
        nodes[cheapest + 1] += nodes[cheapest]
        del sizes[cheapest], nodes[cheapest]
    upper = ROUND * np.array(sizes)
    slots: Indices = upper[np.searchsorted(upper, np.arange(largest + 1))]
    return slots
