"""Packed batches of proteins: residues of all levels, pooling and neighbour lists, without padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from protclip.errors import StructureError
from protclip.structure.encoders.contacts import Neighbours, arrange
from protclip.structure.encoders.frames import FLATTEST, residue_frames, unit
from protclip.structure.encoders.packing import Outline, build, flatten, outline_of, pack, unpack
from protclip.structure.protein import Protein
from protclip.typing import Doubles, Indices

RESIDUE_TYPES = "ACDEFGHIKLMNPQRSTVWYX"
"""Letters in the order of their embedding; every other letter counts as X."""

PUBLISHED_RADII = (8.0, 12.0, 16.0, 20.0)
"""Angstrom, one radius per level."""

DENSEST = 0.1
"""Residues per cubic Angstrom of the bounding box. Real proteins stay below a tenth of it."""

_LETTER = np.full(256, RESIDUE_TYPES.index("X"), np.uint8)
_LETTER[np.frombuffer(RESIDUE_TYPES.encode(), np.uint8)] = np.arange(len(RESIDUE_TYPES))

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Level:
    """One resolution of the packed proteins: N nodes, each the mean of the residues it stands for.

    Attributes
    ----------
    xyz : float32 tensor [N, 3]
        Positions in Angstrom, each protein about its own centre.
    frame : float32 tensor [N, 3, 3]
        Rows b, n, o; zero where undefined.
    position : int32 tensor [N]
        Sequence coordinate at this level, i.e. that of the residues halved once per level.
    start : int32 tensor [proteins + 1]
        First node of every protein, and N.
    finer : int32 tensor [2, N] or None
        The two nodes of the level below whose mean this node is (the same one twice if it has but one);
        None on the residue level.
    node_of_residue : int32 tensor [residues with C-alpha]
        Node that stands for each residue at this level.
    neighbours : Neighbours
        Pairs of nodes within the radius of this level.
    """

    xyz: Tensor
    frame: Tensor
    position: Tensor
    start: Tensor
    finer: Tensor | None
    node_of_residue: Tensor
    neighbours: Neighbours


@dataclass(frozen=True, eq=False)
class StructureBatch:
    """Proteins packed one after the other, at every resolution of the encoder.

    Attributes
    ----------
    ids : tuple of str
    lengths : tuple of int
        Residues of each protein, those without C-alpha included.
    residue_type : int32 tensor [N]
        Index in :data:`RESIDUE_TYPES` of every residue with a C-alpha.
    residue_row : int32 tensor [N]
        Row of that residue among all ``sum(lengths)`` residues.
    levels : tuple of Level
        From residues to the coarsest.
    radii : tuple of float
        Angstrom, one per level.
    window : int
        Number of sequence offsets told apart.
    """

    ids: tuple[str, ...]
    lengths: tuple[int, ...]
    residue_type: Tensor
    residue_row: Tensor
    levels: tuple[Level, ...]
    radii: tuple[float, ...]
    window: int

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        sizes = f"{len(self)} proteins, {len(self.residue_type)} residues, {len(self.levels)} levels"
        return f"StructureBatch({sizes})"

    def to(self, device: torch.device | str, non_blocking: bool = False) -> StructureBatch:
        """The batch on ``device``; to another one, everything goes in one transfer."""
        here = self.residue_type.device.type
        if here != "cpu" or torch.device(device).type == "cpu":
            return _map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))
        form, outline, buffer = self._packed()
        return _unpacked(form, outline, buffer.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> StructureBatch:
        """The batch in page-locked memory, from where transfers overlap with computing."""
        tensors: list[Tensor] = []
        form = flatten(self, tensors)
        return _unpacked(form, outline_of(tensors), pack(tensors, pin=True))

    def _packed(self) -> tuple[Any, Outline, Tensor]:
        """Form, outline and buffer of all tensors; without a copy where they came in one."""
        tensors: list[Tensor] = []
        form = flatten(self, tensors)
        kept: Tensor | None = self.__dict__.get("_buffer")
        return form, outline_of(tensors), pack(tensors) if kept is None else kept

    def __reduce__(self) -> tuple[Any, ...]:
        # A loader's worker hands each tensor over in shared memory of its own: one is cheaper than hundreds.
        return _unpacked, self._packed()


def _unpacked(form: Any, outline: Outline, buffer: Tensor) -> StructureBatch:
    """A batch whose tensors are views of a buffer, which it keeps for the next transfer."""
    batch: StructureBatch = build(form, iter(unpack(buffer, outline)))
    object.__setattr__(batch, "_buffer", buffer)
    return batch


def _map_tensors(value: T, change: Callable[[Tensor], Tensor]) -> T:
    new: dict[str, Any] = {}
    for field in fields(value):  # type: ignore[arg-type]
        item = getattr(value, field.name)
        if isinstance(item, Tensor):
            new[field.name] = change(item)
        elif isinstance(item, Neighbours):
            new[field.name] = _map_tensors(item, change)
        elif isinstance(item, tuple) and item and isinstance(item[0], Level):
            new[field.name] = tuple(_map_tensors(level, change) for level in item)
    return replace(value, **new)  # type: ignore[type-var]


def collate_structures(
    proteins: Sequence[Protein], *, radii: Sequence[float] = PUBLISHED_RADII, window: int = 21
) -> StructureBatch:
    """Pack proteins into one batch with everything that the encoder needs and weights do not change.

    Level by level, the residues of one protein whose sequence coordinates agree after halving are
    averaged: positions, and frames with their rows made unit vectors again.  In a gapless chain these are
    consecutive pairs.  Residues on two sides of a gap are never averaged, and residues left out by an
    augmentation or without a C-alpha do not shift the pairs after them.  Proteins never share a node
    nor an edge.

    Parameters
    ----------
    proteins : sequence of Protein
        Residues without C-alpha are left out; the sequence coordinates of the others stay.
    radii : sequence of float
        Angstrom, one per level.
    window : int
        Odd number of sequence offsets with weights of their own: -(window // 2) .. window // 2.

    Raises
    ------
    StructureError
        If there is no protein, or a protein has no C-alpha, or C-alphas without number at one place.

    Examples
    --------
    >>> line = np.arange(5)[:, None] * np.array([[3.8, 0, 0]])
    >>> batch = collate_structures([Protein.from_ca("a", "GAVLI", line), Protein.from_ca("b", "G", line[:1])])
    >>> batch
    StructureBatch(2 proteins, 6 residues, 4 levels)
    >>> [level.start.tolist() for level in batch.levels]
    [[0, 5, 6], [0, 3, 4], [0, 2, 3], [0, 1, 2]]
    """
    if not proteins:
        raise StructureError("nothing to collate", got="0 proteins", expected="at least 1")
    xyz, present, position = zip(*[traced_residues(protein) for protein in proteins], strict=True)
    counts = np.array([len(x) for x in xyz])
    lengths = tuple(len(protein) for protein in proteins)
    graph: Indices = np.repeat(np.arange(len(proteins)), counts)
    residue_row = np.flatnonzero(np.concatenate(present))
    nodes = _Nodes(np.concatenate(xyz), np.concatenate(position).astype(np.int64), graph)
    nodes.frame = residue_frames(*map(torch.from_numpy, (nodes.xyz, nodes.position, graph))).numpy()
    levels: list[Level] = []
    node_of_residue: Indices = np.arange(len(graph))
    finer: Indices | None = None
    for radius in radii:
        if levels:
            parent, finer = nodes.halve()
            node_of_residue = parent[node_of_residue]
        levels.append(
            Level(
                torch.from_numpy(nodes.xyz.astype(np.float32)),
                torch.from_numpy(nodes.frame.astype(np.float32)),
                _int32(nodes.position),
                _int32(np.searchsorted(nodes.graph, np.arange(len(proteins) + 1))),
                None if finer is None else _int32(finer),
                _int32(node_of_residue),
                arrange(*nodes.pairs(radius), position=nodes.position, window=window),
            )
        )
    return StructureBatch(
        tuple(protein.id for protein in proteins),
        lengths,
        _int32(residue_types(proteins)[residue_row]),
        _int32(residue_row),
        tuple(levels),
        tuple(float(radius) for radius in radii),
        window,
    )


def _int32(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(array.astype(np.int32))


def residue_types(proteins: Sequence[Protein]) -> NDArray[np.uint8]:
    """Index in :data:`RESIDUE_TYPES` of every residue of all proteins, one after the other."""
    letters = "".join(protein.sequence for protein in proteins).encode("latin-1", "replace")
    return _LETTER[np.frombuffer(letters, np.uint8)]


def traced_residues(protein: Protein) -> tuple[Doubles, NDArray[np.bool_], NDArray[np.int32]]:
    """C-alphas about their centre [n, 3], mask of the residues that have one, their sequence coordinates.

    Raises
    ------
    StructureError
        If there is no C-alpha, or C-alphas without number at one place.
    """
    present = protein.has_ca
    if not present.any():
        raise StructureError(
            "no residue has a C-alpha, so there is nothing to encode",
            where=protein.id,
            got=f"{len(protein)} residues",
            hint="Leave this protein out or repair its C-alpha atoms",
        )
    xyz = protein.ca[present].astype(np.float64)
    size = np.prod(np.ptp(xyz, axis=0) + 4.0)
    if len(xyz) > DENSEST * max(size, 5120.0):
        raise StructureError(
            "the C-alphas lie on top of each other",
            where=protein.id,
            got=f"{len(xyz)} within {size:.0f} cubic Angstrom",
            hint="Check the coordinate columns of the file",
        )
    # About the centre single precision loses nothing, wherever the file puts the protein.
    return xyz - xyz.mean(0), present, protein.position[present]


class _Nodes:
    """The nodes of the current level, in double precision."""

    frame: Doubles

    def __init__(self, xyz: Doubles, position: Indices, graph: Indices) -> None:
        self.xyz, self.position, self.graph = xyz, position, graph

    def halve(self) -> tuple[Indices, Indices]:
        """Go to the next level; returns the node of every old node, and [2, new] old nodes of every node."""
        position = self.position // 2
        first = np.ones(len(position), np.bool_)
        first[1:] = (np.diff(position) != 0) | (np.diff(self.graph) != 0)
        start = np.flatnonzero(first)
        # Coordinates rise strictly, so that a node has one or two members.
        end = np.append(start[1:], len(position)) - 1
        self.xyz = (self.xyz[start] + self.xyz[end]) / 2
        mean = torch.from_numpy((self.frame[start] + self.frame[end]) / 2)
        self.frame = unit(mean, FLATTEST).numpy()
        self.position, self.graph = position[start], self.graph[start]
        return np.cumsum(first) - 1, np.stack([start, end])

    def pairs(self, radius: float) -> tuple[Indices, Indices]:
        """Target and source of every pair of one protein within ``radius``, and of every node with itself."""
        # A fourth dimension holds the proteins apart, so that one tree serves them all.
        apart = self.graph[:, None] * (2.0 * radius + 1.0)
        tree = cKDTree(np.concatenate([self.xyz, apart], 1), balanced_tree=False)
        low, high = tree.query_pairs(radius, output_type="ndarray").astype(np.int64).T
        alone: Indices = np.arange(len(self.graph))
        return np.concatenate([alone, low, high]), np.concatenate([alone, high, low])
