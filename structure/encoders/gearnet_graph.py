"""Packed residue graphs with the relations of GearNet: along the chain, within a radius, nearest neighbours.

Relations as published (Zhang et al., Protein Representation Learning by Geometric Structure Pretraining,
2023, section 3.1 and its code): one for each offset -2 .. 2 along the chain, the residue itself included;
one for residues within 10 Angstrom and one for the 10 nearest residues, both of at least 5 apart along the
chain.  Three differences: offsets count over gaps of the chain, as in
:attr:`protclip.structure.protein.Protein.position`, so that the two sides of an unobserved loop are no
neighbours; the number of residues within the radius is not cut at 32; residues without C-alpha do not shift
those after them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from protclip.errors import StructureError
from protclip.structure.encoders.graph import residue_types, traced_residues
from protclip.structure.protein import Protein
from protclip.typing import Doubles, Indices


@dataclass(frozen=True, eq=False)
class GearNetBatch:
    """Proteins packed one after the other, with their edges sorted by target and relation.

    Attributes
    ----------
    ids : tuple of str
    lengths : tuple of int
        Residues of each protein, those without C-alpha included.
    residue_type : int32 tensor [N]
        Index in :data:`protclip.structure.encoders.graph.RESIDUE_TYPES` of every residue with a C-alpha.
    residue_row : int32 tensor [N]
        Row of that residue among all ``sum(lengths)`` residues.
    start : int64 tensor [proteins + 1]
        First node of every protein, and N.
    source : int32 tensor [E]
        The node that every edge comes from.
    first : int32 tensor [N * relations]
        First edge into each node by each relation; node by node.
    relations : int
    """

    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    residue_type: Tensor
    residue_row: Tensor
    start: Tensor
    source: Tensor
    first: Tensor
    relations: int

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        sizes = f"{len(self)} proteins, {len(self.residue_type)} residues, {len(self.source)} edges"
        return f"GearNetBatch({sizes})"

    def to(self, device: torch.device | str, non_blocking: bool = False) -> GearNetBatch:
        """The batch on ``device``."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> GearNetBatch:
        """The batch in page-locked memory, from where transfers overlap with computing."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Callable[[Tensor], Tensor]) -> GearNetBatch:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]
        changed: dict[str, Any] = {name: change(v) for name, v in values if isinstance(v, Tensor)}
        return replace(self, **changed)


def collate_gearnet(
    proteins: Sequence[Protein], *, reach: int = 2, radius: float = 10.0, nearest: int = 10, apart: int = 5
) -> GearNetBatch:
    """Pack proteins into one batch with the edges that GearNet sends messages along.

    Parameters
    ----------
    proteins : sequence of Protein
        Residues without C-alpha are left out; the sequence coordinates of the others stay.
    reach : int
        Largest offset along the chain with a relation of its own.
    radius : float
        Angstrom.
    nearest : int
        Number of nearest residues, of which those too near along the chain are then left out.
    apart : int
        Least distance along the chain of the residues of an edge in space.

    Returns
    -------
    GearNetBatch
        Relations 0 .. 2 * reach are the offsets from -reach to reach of the target from the source, then
        comes the radius, then the nearest. No edge joins two proteins.

    Raises
    ------
    StructureError
        If there is no protein, or a protein has no C-alpha, or C-alphas without number at one place.

    Examples
    --------
    >>> line = np.arange(7)[:, None] * np.array([[1.9, 0, 0]])
    >>> batch = collate_gearnet([Protein.from_ca("a", "GAVLIAG", line), Protein.from_ca("b", "G", line[:1])])
    >>> batch
    GearNetBatch(2 proteins, 8 residues, 40 edges)
    >>> batch.relations, batch.source[batch.first[-7]:].tolist()
    (7, [7])
    """
    if not proteins:
        raise StructureError("nothing to collate", got="0 proteins", expected="at least 1")
    coordinates, present, positions = zip(*[traced_residues(protein) for protein in proteins], strict=True)
    counts = np.array([len(x) for x in coordinates])
    graph: Indices = np.repeat(np.arange(len(proteins)), counts)
    xyz = np.concatenate(coordinates)
    position = np.concatenate(positions).astype(np.int64)
    edges = [
        _sequential(position, graph, reach),
        *_spatial(xyz, position, graph, radius=radius, nearest=nearest, apart=apart),
    ]
    relations = 2 * reach + 3
    relation = np.concatenate(
        [edges[0][2], *(np.full(len(e[0]), 2 * reach + 1 + i) for i, e in enumerate(edges[1:]))]
    )
    source, target = (np.concatenate([edge[i] for edge in edges]) for i in (0, 1))
    group = target * relations + relation
    # Within a sum, sources in order: a protein's sums do not depend on the others, to the last bit.
    order = np.lexsort((source, group))
    size = np.bincount(group, minlength=len(graph) * relations)
    row = np.flatnonzero(np.concatenate(present))
    return GearNetBatch(
        tuple(protein.id for protein in proteins),
        tuple(len(protein) for protein in proteins),
        _int32(residue_types(proteins)[row]),
        _int32(row),
        torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        _int32(source[order]),
        _int32(np.cumsum(size) - size),
        relations,
    )


def _sequential(position: Indices, graph: Indices, reach: int) -> tuple[Indices, Indices, Indices]:
    """Source, target and offset + reach of all pairs within ``reach`` along one chain."""
    alone: Indices = np.arange(len(graph))
    parts = [(alone, alone, np.full(len(graph), reach))]
    # Coordinates rise strictly, so that an offset of k is at most k residues away.
    for step in range(1, min(reach, len(graph) - 1) + 1):
        low, high = alone[:-step], alone[step:]
        offset = position[high] - position[low]
        held = (graph[high] == graph[low]) & (offset <= reach)
        low, high, offset = low[held], high[held], offset[held]
        parts += [(low, high, reach + offset), (high, low, reach - offset)]
    source, target, relation = (np.concatenate(column) for column in zip(*parts, strict=True))
    return source, target, relation


def _spatial(
    xyz: Doubles, position: Indices, graph: Indices, *, radius: float, nearest: int, apart: int
) -> tuple[tuple[Indices, Indices], tuple[Indices, Indices]]:
    """Source and target of the pairs within ``radius``, and from every node's nearest nodes to itself."""
    # A fourth dimension holds the proteins further apart than any two residues of one, so that one tree
    # serves all.
    gap = 2.0 * max(float(np.ptp(xyz, axis=0).sum()), radius) + 1.0
    points = np.concatenate([xyz, graph[:, None] * gap], 1)
    tree = cKDTree(points, balanced_tree=False)
    low, high = tree.query_pairs(radius, output_type="ndarray").astype(np.int64).T
    far = np.abs(position[low] - position[high]) >= apart
    low, high = low[far], high[far]
    within = np.concatenate([low, high]), np.concatenate([high, low])

    count = min(nearest + 1, len(graph))
    _, found = tree.query(points, k=range(1, count + 1))
    other = found != np.arange(len(graph))[:, None]
    # Where others stand on the very place of a node it may not find itself: the last one goes.
    other[other.all(1), -1] = False
    target, column = np.nonzero(other)
    source = found[target, column].astype(np.int64)
    held = (graph[source] == graph[target]) & (np.abs(position[source] - position[target]) >= apart)
    return within, (source[held], target[held])


def _int32(array: NDArray[np.integer]) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))
