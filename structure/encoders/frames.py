"""Local frames of residues and the geometry of a pair of residues."""

from __future__ import annotations

import torch
from torch import Tensor

CLOSEST = 1e-8
"""Angstrom. Points closer than this have no direction between them."""

FLATTEST = 1e-3
"""Sine of the bend between two steps of the chain below which the chain counts as straight: rounding in
single precision stays well below it, real chains well above."""


def unit(vector: Tensor, floor: float = CLOSEST) -> Tensor:
    """Unit vectors [..., 3]; vectors shorter than ``floor`` shrink to zero with it.

    The gradient is finite everywhere, at zero too.

    Examples
    --------
    >>> unit(torch.tensor([[0.0, -4.0, 0.0], [0.0, 0.0, 0.0]])).tolist()
    [[0.0, -1.0, 0.0], [0.0, 0.0, 0.0]]
    """
    # The clamp stands under the root, where the gradient of a norm would be 0/0.
    square = vector.square().sum(-1, keepdim=True)
    return vector * square.clamp_min(floor * floor).rsqrt()


def residue_frames(xyz: Tensor, position: Tensor, graph: Tensor) -> Tensor:
    """Orthonormal frame of every residue from its C-alpha and those of its two chain neighbours.

    With t(k) the direction from residue k to k + 1, the rows of the frame of residue i are
    b = unit(t(i-1) - t(i)), n = unit(t(i-1) x t(i)) and o = unit(b x n).  The two ends of a stretch
    without gaps copy their neighbour.

    Residues of a stretch of one or two have no inner residue to copy from: they take the frame over the
    gap, from the residues before and after it in the same protein.  Where no frame exists at all
    (proteins of one or two residues, collinear or coinciding C-alphas) its rows are zero, the only value
    that turns with the protein.

    Parameters
    ----------
    xyz : float tensor [N, 3]
        C-alphas in Angstrom, proteins one after the other, in chain order.
    position : int tensor [N]
        Sequence coordinate; a step above one is a gap.
    graph : int tensor [N]
        Index of the protein of each residue, not decreasing.

    Returns
    -------
    float tensor [N, 3, 3]
        Rows b, n, o.

    Examples
    --------
    >>> xyz = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0]])
    >>> (residue_frames(xyz, torch.arange(3), torch.zeros(3))[0] * 2**0.5).round().tolist()
    [[1.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -1.0, 0.0]]
    """
    size = len(xyz)
    if size < 3:
        return xyz.new_zeros(size, 3, 3)
    direction = unit(xyz[1:] - xyz[:-1])
    before, after = direction[:-1], direction[1:]
    b = unit(before - after, FLATTEST)
    n = unit(torch.linalg.cross(before, after), FLATTEST)
    inner = torch.stack([b, n, unit(torch.linalg.cross(b, n), FLATTEST)], 1)
    frame = torch.cat([inner.new_zeros(1, 3, 3), inner, inner.new_zeros(1, 3, 3)])
    owned: Tensor = frame[_frame_owner(position, graph)]
    return owned * _has_frame(graph)[:, None, None].to(xyz.dtype)


def _links(same: Tensor) -> tuple[Tensor, Tensor]:
    """Whether a residue is joined to the one before and to the one after it, from the N - 1 steps."""
    off = same.new_zeros(1)
    return torch.cat([off, same]), torch.cat([same, off])


def _frame_owner(position: Tensor, graph: Tensor) -> Tensor:
    """Index [N] of the residue whose frame each residue carries."""
    index = torch.arange(len(graph), device=graph.device)
    in_protein = graph[1:] == graph[:-1]
    left, right = _links(in_protein)
    # First without regard to gaps: only the ends of a protein have to copy.
    over_gaps = torch.where(left & right, index, torch.where(right, index + 1, index - left.long()))
    bonded_left, bonded_right = _links(in_protein & (position[1:] - position[:-1] <= 1))
    inner = bonded_left & bonded_right
    # Then within the stretch, where it has an inner residue next to this one.
    inner_before, inner_after = inner.roll(1) & bonded_left, inner.roll(-1) & bonded_right
    owner = torch.where(inner_after, index + 1, torch.where(inner_before, index - 1, over_gaps))
    return torch.where(inner, index, owner)


def _has_frame(graph: Tensor) -> Tensor:
    """Mask [N] of residues of proteins with at least three residues."""
    _, protein, count = torch.unique_consecutive(graph, return_inverse=True, return_counts=True)
    known: Tensor = (count >= 3)[protein]
    return known


def pair_geometry(
    xyz: Tensor, frame: Tensor, target: Tensor, source: Tensor, reach: Tensor, *, radius: float
) -> Tensor:
    """Edge input of the continuous-discrete kernel, times the smooth cut-off.

    The seven features of the edge from j (source) to i (target) are the direction from i to j in the frame
    of i (3), the dot products of the rows of the two frames (3) and the distance in Angstrom (1).  An eighth
    feature of one carries the bias.  All are multiplied by the cut-off
    g = 0.5 - 0.5 tanh(16 (distance / radius) reach - 14) > 0.  The kernel's LeakyReLU commutes with
    a positive factor, so that nothing wider has to be multiplied by g later.

    Parameters
    ----------
    xyz : float tensor [N, 3]
    frame : float tensor [N, 3, 3]
    target, source : int tensor [E]
    reach : float tensor [E]
        |sequence offset| / (window // 2), after clipping: 0 to 1.
    radius : float
        Angstrom.

    Returns
    -------
    float tensor [E, 8]
    """
    frame_i = frame.flatten(1).index_select(0, target).view(-1, 3, 3)
    frame_j = frame.flatten(1).index_select(0, source).view(-1, 3, 3)
    difference = xyz.index_select(0, source) - xyz.index_select(0, target)
    square = difference.square().sum(-1, keepdim=True)
    scale = square.clamp_min(CLOSEST * CLOSEST).rsqrt()
    distance = square * scale
    towards = (frame_i * (difference * scale)[:, None]).sum(-1)
    features = torch.cat([towards, (frame_i * frame_j).sum(-1), distance, torch.ones_like(distance)], 1)
    return features * smooth_cutoff(distance, reach[:, None], radius=radius)


def smooth_cutoff(distance: Tensor, reach: Tensor, *, radius: float) -> Tensor:
    """Weight of an edge, 1 nearby falling to 0 where it is far in space and along the chain at once."""
    return 0.5 - 0.5 * torch.tanh(16.0 * (distance / radius) * reach - 14.0)
