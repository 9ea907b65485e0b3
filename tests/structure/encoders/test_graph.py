"""Packing, pooling and neighbour lists against plain loops."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from protclip.errors import StructureError
from protclip.structure.encoders.contacts import TILE
from protclip.structure.encoders.graph import RESIDUE_TYPES, Level, StructureBatch, collate_structures
from protclip.structure.protein import Protein


def chain(
    length: int, seed: int = 0, number: list[int] | None = None, sequence: str | None = None
) -> Protein:
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3))
    xyz = np.cumsum(3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True), axis=0)
    letters = "".join(rng.choice(list(RESIDUE_TYPES), length)) if sequence is None else sequence
    return Protein.from_ca(f"p{seed}", letters, xyz, None if number is None else np.array(number))


def edges(level: Level) -> set[tuple[int, int]]:
    """Pairs in tile order."""
    n = level.neighbours
    return set(zip(n.target[n.real].tolist(), n.source[n.real].tolist(), strict=True))


def slot_edges(level: Level) -> list[tuple[int, int]]:
    """Pairs in slot order, without padding."""
    n = level.neighbours
    target = [
        node
        for row, node in enumerate(n.order.tolist())
        for _ in range(next(s for end, s in _ends(n.buckets) if row < end))
    ]
    real = n.real[n.slot_edge.long()].tolist()
    return [(t, s) for t, s, r in zip(target, n.slot_source.tolist(), real, strict=True) if r]


def _ends(buckets: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    ends = np.cumsum([nodes for nodes, _ in buckets]).tolist()
    return list(zip(ends, [size for _, size in buckets], strict=True))


def graph_of(level: Level) -> np.ndarray:
    start = level.start.numpy()
    return np.repeat(np.arange(len(start) - 1), np.diff(start))


@pytest.mark.parametrize("lengths", [[1], [2, 1, 3], [40, 7, 1, 25]])
def test_edges_are_the_pairs_within_the_radius(lengths: list[int]) -> None:
    proteins = [chain(n, seed) for seed, n in enumerate(lengths)]
    batch = collate_structures(proteins, radii=(8.0, 12.0, 16.0, 20.0), window=5)
    for level, radius in zip(batch.levels, batch.radii, strict=True):
        graph, xyz = graph_of(level), level.xyz.double().numpy()
        expected = {
            (i, j)
            for i in range(len(xyz))
            for j in range(len(xyz))
            if graph[i] == graph[j] and np.linalg.norm(xyz[i] - xyz[j]) <= radius
        }
        assert edges(level) == expected
        listed = slot_edges(level)
        assert set(listed) == expected
        assert len(listed) == len(expected) == int(level.neighbours.real.sum())


def test_orders_agree_with_each_other() -> None:
    batch = collate_structures([chain(50), chain(3, 1), chain(31, 2)], window=7)
    for level in batch.levels:
        n = level.neighbours
        real = n.real.nonzero()[:, 0]
        assert torch.equal(n.slot_edge[n.edge_slot[real].long()].long(), real)
        assert torch.equal(n.slot_source[n.edge_slot[real].long()], n.source[real])
        assert torch.equal(n.rank[n.order.long()].long(), torch.arange(len(n.order)))
        offset = level.position[n.source.long()] - level.position[n.target.long()]
        expected = n.offset.repeat_interleave(TILE) - 3
        assert torch.equal(offset.clamp(-3, 3)[n.real], expected[n.real])
        bounds = [*n.leaving_start.tolist(), len(n.leaving)]
        for node in range(len(level.xyz)):
            slots = n.leaving[bounds[node] : bounds[node + 1]].long()
            assert bool((n.slot_source[slots] == node).all())
        assert sorted(n.leaving.tolist()) == sorted(n.edge_slot[real].tolist())


def test_proteins_do_not_share_nodes_whatever_their_lengths() -> None:
    proteins = [chain(n, n) for n in range(1, 12)]
    batch = collate_structures(proteins)
    for depth, level in enumerate(batch.levels):
        assert level.start.diff().tolist() == [-(-n // 2**depth) for n in range(1, 12)]
        graph = graph_of(level)
        assert all(graph[i] == graph[j] for i, j in edges(level))


def test_pooling_takes_means_of_consecutive_pairs() -> None:
    batch = collate_structures([chain(5), chain(4, 1)])
    fine, coarse = batch.levels[:2]
    x, f = fine.xyz.numpy(), fine.frame.numpy()
    members = [[0, 1], [2, 3], [4], [5, 6], [7, 8]]
    np.testing.assert_allclose(coarse.xyz, [x[m].mean(0) for m in members], atol=1e-5)
    mean = np.stack([f[m].mean(0) for m in members])
    mean /= np.linalg.norm(mean, axis=-1, keepdims=True)
    np.testing.assert_allclose(coarse.frame, mean, atol=1e-5)
    assert coarse.finer is not None
    assert coarse.finer.tolist() == [[0, 2, 4, 5, 7], [1, 3, 4, 6, 8]]
    assert coarse.position.tolist() == [0, 1, 2, 0, 1]
    assert [level.node_of_residue.tolist() for level in batch.levels[1:3]] == [
        [0, 0, 1, 1, 2, 3, 3, 4, 4],
        [0, 0, 0, 0, 1, 2, 2, 2, 2],
    ]


def test_segments_keep_their_gap_and_are_not_averaged_over_it() -> None:
    # 3 + 4 residues; the second segment is far away and 40 further along the chain.
    a = chain(7, number=[1, 2, 3, 41, 42, 43, 44])
    coords = a.coords.copy()
    coords[3:] += 15.0
    protein = Protein(a.id, a.sequence, coords, a.residue_number, a.insertion_code)
    levels = collate_structures([protein]).levels
    assert levels[0].position.tolist() == [0, 1, 2, 40, 41, 42, 43]
    assert levels[1].position.tolist() == [0, 1, 20, 21]
    assert levels[1].finer is not None
    assert levels[1].finer.tolist() == [[0, 2, 3, 5], [1, 2, 4, 6]]
    assert levels[2].position.tolist() == [0, 10]


def test_residues_without_ca_are_left_out_but_counted() -> None:
    protein = chain(6)
    protein.coords[2] = np.nan
    batch = collate_structures([protein, chain(2, 1)])
    assert batch.lengths == (6, 2)
    assert batch.residue_row.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert batch.levels[0].position.tolist() == [0, 1, 3, 4, 5, 0, 1]


def test_letters() -> None:
    batch = collate_structures([chain(28, sequence=RESIDUE_TYPES + "BZUOJx*")])
    assert batch.residue_type.tolist() == [*range(20), *[20] * 8]


def test_no_ca_is_an_error_that_names_the_protein() -> None:
    bad = chain(3, seed=7)
    bad.coords[:] = np.nan
    with pytest.raises(StructureError, match=r"p7: no residue has a C-alpha.*got 3 residues"):
        collate_structures([chain(3), bad])
    with pytest.raises(StructureError, match="nothing to collate"):
        collate_structures([])


def test_a_file_of_zeros_is_an_error_before_it_is_a_quadratic_graph() -> None:
    zeros = Protein.from_ca("zeros", "A" * 3000, np.zeros((3000, 3)))
    with pytest.raises(StructureError, match="zeros: the C-alphas lie on top of each other"):
        collate_structures([zeros])


def test_huge_coordinates_stay_finite() -> None:
    far = chain(5)
    far.coords[:, 1] *= 1e30
    level = collate_structures([far]).levels[0]
    assert torch.isfinite(level.frame).all()
    assert len(edges(level)) == 5


def test_padding_stays_small() -> None:
    level = collate_structures([chain(300), chain(200, 1)]).levels[0]
    real = int(level.neighbours.real.sum())
    assert len(level.neighbours.slot_source) < 1.35 * real
    assert len(level.neighbours.buckets) <= 8


def test_batch_travels() -> None:
    batch = collate_structures([chain(9), chain(1, 1)])
    again: StructureBatch = pickle.loads(pickle.dumps(batch))
    moved = again.to("cpu", non_blocking=True)
    assert len(moved) == 2
    assert moved.ids == ("p0", "p1")
    assert torch.equal(moved.levels[1].neighbours.source, batch.levels[1].neighbours.source)
    meta = batch.to("meta")
    assert {meta.residue_type.device.type, meta.levels[3].neighbours.real.device.type} == {"meta"}
    assert meta.levels[1].finer is not None
    assert meta.levels[1].finer.device.type == "meta"


@pytest.mark.gpu
def test_batch_is_pinned() -> None:
    batch = collate_structures([chain(9)]).pin_memory()
    assert batch.levels[0].neighbours.source.is_pinned()
