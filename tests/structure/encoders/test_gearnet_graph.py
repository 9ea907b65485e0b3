"""GearNet's graph against its definition written out as loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from protclip.errors import ConfigError, StructureError
from protclip.structure.encoders.gearnet import GearNetConfig
from protclip.structure.encoders.gearnet_graph import collate_gearnet
from protclip.structure.protein import Protein


def chain(length, seed, gap=0):
    """A random walk of 3.8 Angstrom per residue; with ``gap``, residues missing in the middle."""
    rng = np.random.default_rng(seed)
    xyz = np.zeros((length, 3))
    for i in range(1, length):
        step = rng.normal(size=3) - 0.15 * (xyz[i - 1] - xyz[:i].mean(0))
        xyz[i] = xyz[i - 1] + 3.8 * step / np.linalg.norm(step)
    number = np.arange(1, length + 1)
    number[length // 2 :] += gap
    if gap:
        xyz[length // 2 :] += 6.0
    return Protein.from_ca(f"p{seed}", "G" * length, xyz, number)


def slow_edges(proteins, *, reach=2, radius=10.0, nearest=10, apart=5):
    """{(source, target, relation)} by looking at every pair."""
    edges, first = set(), 0
    for protein in proteins:
        kept = np.flatnonzero(protein.has_ca)
        xyz, position = protein.ca[kept].astype(float), protein.position[kept].tolist()
        distance = np.linalg.norm(xyz[:, None] - xyz[None], axis=-1)
        for t in range(len(kept)):
            others = sorted((s for s in range(len(kept)) if s != t), key=lambda s: distance[s, t])
            for s in range(len(kept)):
                offset = position[t] - position[s]
                if abs(offset) <= reach:
                    edges.add((first + s, first + t, reach + offset))
                if s != t and distance[s, t] <= radius and abs(offset) >= apart:
                    edges.add((first + s, first + t, 2 * reach + 1))
                if s in others[:nearest] and abs(offset) >= apart:
                    edges.add((first + s, first + t, 2 * reach + 2))
        first += len(kept)
    return edges


def edges_of(batch):
    counts = np.diff(batch.first.numpy(), append=len(batch.source))
    group = np.repeat(np.arange(len(counts)), counts)
    found = np.stack([batch.source.numpy(), group // batch.relations, group % batch.relations], 1)
    assert len(np.unique(found, axis=0)) == len(found)
    return set(map(tuple, found.tolist()))


def without(protein, *rows):
    coords = protein.coords.copy()
    coords[list(rows)] = np.nan
    return Protein(protein.id, protein.sequence, coords, protein.residue_number, protein.insertion_code)


SETS = {
    "one": [chain(40, 0)],
    "several": [chain(40, 0), chain(25, 1), chain(60, 2)],
    "short": [chain(1, 3), chain(2, 4), chain(7, 5), chain(12, 6)],
    "gaps": [chain(30, 7, gap=1), chain(30, 8, gap=40), chain(20, 9)],
    "missing": [without(chain(30, 10), 0, 7, 8, 29), chain(20, 11)],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("changes", [{}, {"reach": 3, "radius": 7.0, "nearest": 4, "apart": 2}, {"reach": 0}])
def test_edges_are_those_of_the_definition(name, changes):
    proteins = SETS[name]
    batch = collate_gearnet(proteins, **changes)
    assert edges_of(batch) == slow_edges(proteins, **changes)
    assert batch.relations == 2 * changes.get("reach", 2) + 3


def test_a_batch_is_its_proteins_side_by_side():
    proteins = SETS["several"]
    batch = collate_gearnet(proteins)
    alone = [collate_gearnet([protein]) for protein in proteins]
    source = [b.source + int(first) for b, first in zip(alone, batch.start, strict=False)]
    assert torch.equal(batch.source, torch.cat(source))
    assert batch.start.tolist() == [0, 40, 65, 125]
    assert len(batch) == 3


def test_rows_and_types_of_what_is_there():
    protein = Protein.from_ca("a", "GAVLX", 3.8 * np.eye(5, 3))
    batch = collate_gearnet([without(protein, 1), protein])
    assert batch.residue_row.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]
    assert batch.residue_type.tolist() == [5, 17, 9, 20, 5, 0, 17, 9, 20]
    assert batch.lengths == (5, 5)
    moved = batch.to("cpu")
    assert torch.equal(moved.source, batch.source)
    assert moved.ids == batch.ids


def test_bad_input():
    with pytest.raises(StructureError, match="nothing to collate"):
        collate_gearnet([])
    with pytest.raises(StructureError, match="no residue has a C-alpha"):
        collate_gearnet([without(chain(2, 0), 0, 1)])
    with pytest.raises(ConfigError, match="unknown size"):
        GearNetConfig.sized("huge")
    with pytest.raises(ConfigError, match="GearNet, readout: value out of range"):
        GearNetConfig(readout="max")
    with pytest.raises(ConfigError, match="unknown entry; got channels"):
        GearNetConfig.from_dict({"channels": [1]})


def test_a_config_survives_its_file():
    config = GearNetConfig.sized("small", input="geometry").widened(3)
    assert GearNetConfig.from_dict(config.to_dict()) == config
    assert config.embedding_dim == 4
