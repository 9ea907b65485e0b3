"""Checks that need torchdrug, run in a process of their own: prints {name: traceback or null} as JSON.

``torch_scatter`` and ``torch_cluster`` are stand-ins in plain torch: torchdrug's own graphs and sums are the
reference.
"""

from __future__ import annotations

import copy
import functools
import json
import pickle
import re
import sys
import tempfile
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils.cpp_extension

from protclip.errors import ConfigError, ProtclipError, StructureError
from protclip.modalities.sequence.adapter import SequenceModality
from protclip.modalities.structure import StructureModality
from protclip.model.two_tower import TwoTower
from protclip.structure import Protein, read_structure
from protclip.structure.encoders.gearnet import GearNetConfig
from protclip.structure.torchdrug import from_torchdrug, to_torchdrug
from protclip.structure.torchdrug_import import import_torchdrug
from protclip.tasks.metrics import aupr_micro, fmax
from protclip.tasks.serial import WIDTH, SerialTower, widen

CORPUS = Path(__file__).resolve().parents[2] / "data" / "cath" / "dompdb"
TINY = GearNetConfig.sized("tiny")


def refuse(*args, **kwargs):
    raise AssertionError("a C++ extension would be compiled")


@functools.cache
def domains():
    """Real domains without gaps along the chain, and one with."""
    found = [read_structure(path) for path in sorted(CORPUS.iterdir())]
    whole = [p for p in found if p.has_ca.all() and len(p) < 200 and p.position[-1] == len(p) - 1][:5]
    broken = next(p for p in found if p.chain_breaks.any() and len(p) < 200)
    return whole, broken


def damaged():
    """Missing atoms, unknown residues, insertion codes, negative numbers, confidence."""
    rng = np.random.default_rng(0)
    coords = rng.normal(size=(6, 4, 3)).astype(np.float32) * 5
    coords[1, 1] = np.nan  # no C-alpha
    coords[2, [0, 2, 3]] = np.nan  # nothing else
    coords[3] = np.nan  # no atom at all
    codes = np.array([b"", b"A", b"B", b"", b"", b""], "S1")
    plddt = np.array([90, 80, 70, np.nan, 50, 40], np.float32)
    return Protein("model_7", "GXWUAB", coords, np.array([-3, 5, 5, 5, 9, 100], np.int32), codes, plddt)


def same(one, other):
    assert one.sequence == other.sequence
    np.testing.assert_array_equal(one.coords, other.coords)
    np.testing.assert_array_equal(one.residue_number, other.residue_number)
    np.testing.assert_array_equal(one.insertion_code, other.insertion_code)


def fails(kind, text, call, *args, **kwargs):
    with pytest.raises(kind, match=re.escape(text)):
        call(*args, **kwargs)


def check_round_trip():
    whole, broken = domains()
    for protein in [*whole, broken]:
        there = to_torchdrug(protein, chain="B")
        assert [there.id2alphabet[int(c)] for c in there.chain_id.unique()] == ["B"]
        assert there.view == "residue"
        assert there.residue_feature.shape == (len(protein), 21)
        back = from_torchdrug(there, id=protein.id)
        same(protein, back)
        assert back.id == protein.id
        assert back.plddt is None
        again = to_torchdrug(back, chain="B")
        for name in ("edge_list", "node_position", "atom_name", "atom2residue", "residue_type", "chain_id"):
            assert torch.equal(getattr(again, name), getattr(there, name)), name


def check_round_trip_of_a_damaged_protein():
    protein = damaged()
    there = to_torchdrug(protein)
    assert int(there.chain_id[0]) == there.alphabet2id["7"]  # from the id
    assert there.residue_type.tolist()[:3] == [0, 0, 19]
    back = from_torchdrug(there, id="x", confidence=True)
    assert back.sequence == "GXWXAX"  # what torchdrug has no type for
    same(back, Protein("x", "GXWXAX", protein.coords, protein.residue_number, protein.insertion_code))
    np.testing.assert_array_equal(back.plddt, protein.plddt)


def check_equals_what_torchdrug_reads():
    """torchdrug's own reader of a PDB file, side chains and all, gives the same protein here."""
    data = import_torchdrug("a test").data
    path = CORPUS / domains()[0][0].id
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")
        file = Path(folder) / "x.pdb"
        file.write_text(path.read_text())
        theirs = data.Protein.from_pdb(str(file), atom_feature=None, bond_feature=None)
    same(from_torchdrug(theirs), read_structure(path))
    ours = to_torchdrug(read_structure(path))
    assert torch.equal(ours.residue_type, theirs.residue_type)
    assert torch.equal(ours.residue_feature, theirs.residue_feature.float())
    # Bonds between the backbone's atoms: theirs by chemistry, ours by name and distance.
    backbone = torch.isin(
        theirs.atom_name, torch.tensor([theirs.atom_name2id[n] for n in ("N", "CA", "C", "O")])
    )

    def bonds(protein, kept):
        where = list(zip(protein.atom2residue.tolist(), protein.atom_name.tolist(), strict=True))
        edges = [(a, b, t) for a, b, t in protein.edge_list.tolist() if kept[a] and kept[b]]
        return {(where[a], where[b], t) for a, b, t in edges}

    assert bonds(theirs, backbone) == bonds(ours, torch.ones(ours.num_node, dtype=torch.bool))


def check_packs_with_others():
    data = import_torchdrug("a test").data
    whole, _ = domains()
    packed = data.Protein.pack([to_torchdrug(p) for p in whole])
    for protein, part in zip(whole, packed, strict=True):
        same(protein, from_torchdrug(part))
    fails(StructureError, "one by one", from_torchdrug, packed)


def check_bad_input():
    data = import_torchdrug("a test").data
    fails(StructureError, "not a torchdrug protein", from_torchdrug, "GAV")
    fails(StructureError, "no coordinates", from_torchdrug, data.Protein.from_sequence("GAV", None, None))
    fails(StructureError, "one letter or digit", to_torchdrug, damaged(), chain="AA")
    two = to_torchdrug(damaged(), chain="A")
    two.chain_id[3:] = 2
    fails(StructureError, "several chains; got 'A', 'B'", from_torchdrug, two)
    fails(StructureError, "no such chain", from_torchdrug, two, chain="C")
    assert from_torchdrug(two, chain="B").sequence == "XAX"
    codes = np.array([b"*"] * 6, "S1")
    odd = Protein("x", "GAVLIM", damaged().coords, damaged().residue_number, codes)
    fails(StructureError, "insertion codes", to_torchdrug, odd)


def their_graph(proteins):
    """The published graph, made by torchdrug."""
    guest = import_torchdrug("a test")
    packed = guest.data.Protein.pack([to_torchdrug(p) for p in proteins])
    packed.view = "residue"
    geometry = guest.layers.geometry
    construct = guest.layers.GraphConstruction(
        node_layers=[geometry.AlphaCarbonNode()],
        edge_layers=[
            geometry.SequentialEdge(max_distance=2),
            geometry.SpatialEdge(radius=10.0, min_distance=5),
            geometry.KNNEdge(k=10, min_distance=5),
        ],
        edge_feature="gearnet",
    )
    return construct(packed)


def check_graph_is_the_published_one():
    whole, _ = domains()
    batch = TINY.collate(whole)
    theirs = their_graph(whole)
    counts = torch.diff(batch.first, append=torch.tensor([len(batch.source)], dtype=torch.int32))
    group = torch.repeat_interleave(torch.arange(len(counts)), counts.long())
    ours = torch.stack([batch.source.long(), group // batch.relations, group % batch.relations], 1)
    assert theirs.num_relation == batch.relations == 7
    assert len(ours) == theirs.num_edge
    assert set(map(tuple, ours.tolist())) == set(map(tuple, theirs.edge_list.tolist()))


def check_network_is_torchdrugs():
    """The same weights, in torchdrug's network on torchdrug's graph with torchdrug's sums."""
    guest = import_torchdrug("a test")
    whole, _ = domains()
    for readout in ("sum", "mean"):
        torch.manual_seed(0)
        config = GearNetConfig.sized("tiny", readout=readout)
        encoder = trained(config)
        theirs = guest.models.GearNet(
            21, list(config.hidden), 7, None, None, True, True, "relu", True, readout
        ).eval()
        theirs.load_state_dict(encoder.net.state_dict())
        for layer in theirs.layers:
            # The two steps that its fused form, which wants the compiled extension, stands for.
            layer.message_and_aggregate = lambda g, x, layer=layer: layer.aggregate(g, layer.message(g, x))
        graph = their_graph(whole)
        with graph.residue():
            expected = theirs(graph, graph.residue_feature.float())
        batch = config.collate(whole)
        torch.testing.assert_close(encoder(batch), expected["graph_feature"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            torch.cat(encoder.encode_residues(batch)), expected["node_feature"], rtol=1e-4, atol=1e-4
        )


def trained(config):
    """An encoder with running statistics of real features."""
    encoder = config.build()
    with torch.no_grad():
        for _ in range(10):
            encoder(config.collate(domains()[0]))
    return encoder.eval()


def check_rows_do_not_depend_on_the_batch():
    whole, broken = domains()
    some = [*whole[:3], broken, Protein.from_ca("one", "G", np.zeros((1, 3)))]
    for input in ("residues", "geometry"):
        encoder = trained(GearNetConfig.sized("tiny", input=input))
        together = encoder(encoder.config.collate(some))
        alone = torch.cat([encoder(encoder.config.collate([p])) for p in some])
        torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)
        assert together.dtype == torch.float32
        assert torch.isfinite(together).all()
        lettered = [Protein(p.id, "G" * len(p), p.coords, p.residue_number, p.insertion_code) for p in some]
        blind = torch.allclose(encoder(encoder.config.collate(lettered)), together)
        assert blind == (input == "geometry")
        rows = encoder.encode_residues(encoder.config.collate([damaged(), *some]))
        assert [len(r) for r in rows] == [6, *map(len, some)]
        assert (rows[0][[1, 3]] == 0).all()
        assert (rows[0][0] != 0).any()


def check_gradients():
    """By finite differences, node input included."""
    config = GearNetConfig(hidden=(3, 3), extra=2)
    encoder = config.build().double()
    batch = config.collate(
        [Protein.from_ca("a", "GAVLIMW", np.random.default_rng(0).normal(size=(7, 3)) * 4)]
    )
    entering = torch.randn(7, config.embedding_dim, dtype=torch.double, requires_grad=True)
    encoder.net.readout.forward = lambda graph, x: x.sum(0, keepdim=True)  # the readout computes in float32
    assert torch.autograd.gradcheck(lambda x: encoder(batch, x), entering)


def check_copies():
    encoder = trained(TINY)
    batch = TINY.collate(domains()[0][:2])
    for twin in (copy.deepcopy(encoder), pickle.loads(pickle.dumps(encoder))):
        assert torch.equal(twin(batch), encoder(batch))
    fails(
        ConfigError,
        "another encoder",
        encoder,
        GearNetConfig.sized("tiny", reach=1).collate(domains()[0][:1]),
    )
    assert type(encoder).__mro__[1] is torch.nn.Module


def check_model_folder():
    torch.manual_seed(0)
    sides = [StructureModality(TINY), SequenceModality.create("scratch", init="random", tune="full")]
    model = TwoTower(*sides, dim=8).eval()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder) / "model", facts={}, card="")
        again, _ = TwoTower.load(Path(folder) / "model")
        batch = sides[0].collate(domains()[0][:2])
        assert torch.equal(again.embed("structure", batch), model.embed("structure", batch))
        sys.modules["torchdrug"], kept = None, sys.modules["torchdrug"]
        try:
            fails(
                ProtclipError,
                "needs torchdrug; got torchdrug is not installed",
                TwoTower.load,
                folder + "/model",
            )
        finally:
            sys.modules["torchdrug"] = kept
    said = sides[0].describe()
    assert said["tower"] == "GearNet"
    assert "torchdrug" in said["needs"]


def check_serial_fusion():
    torch.manual_seed(0)
    side = StructureModality(TINY)
    side.encoder = trained(TINY)
    wide = widen(side)
    wide.encoder.eval()
    batch = side.collate(domains()[0][:2])
    torch.testing.assert_close(wide.encoder(batch), side.encoder(batch))
    entering = torch.randn(len(batch.residue_type), 21 + WIDTH)
    assert not torch.allclose(wide.encoder(batch, entering), side.encoder(batch))
    sequence = SequenceModality.create("scratch", init="random", tune="full")
    tower = SerialTower({"structure": wide, "sequence": sequence}).eval()
    tokens = sequence.collate([p.sequence for p in domains()[0][:2]])
    out = tower({"structure": batch, "sequence": tokens})
    assert out.shape == (2, side.encoder.out_dim)
    out.sum().backward()
    assert tower.enter.weight.grad is not None


def check_metrics():
    """Equal to torchdrug's on untied scores."""
    metrics = import_torchdrug("a test").metrics
    for seed, (n, classes) in enumerate([(1, 2), (7, 3), (40, 11), (100, 50), (3, 200)]):
        rng = np.random.default_rng(seed)
        # All different in float32, and at least one label for each protein, as torchdrug takes it.
        scores = rng.permutation(n * classes).reshape(n, classes) / (n * classes)
        labels = rng.random((n, classes)) < 0.2
        labels[np.arange(n), rng.integers(classes, size=n)] = True
        x, y = torch.tensor(scores), torch.tensor(labels, dtype=torch.float64)
        np.testing.assert_allclose(fmax(scores, labels).value, metrics.f1_max(x, y), rtol=1e-8)
        theirs = metrics.area_under_prc(x.flatten(), y.flatten().long())
        np.testing.assert_allclose(aupr_micro(scores, labels).value, theirs, rtol=1e-6)


if __name__ == "__main__":
    torch.utils.cpp_extension.load = refuse
    torch.set_num_threads(1)
    answer = {}
    for name, check in [(n, c) for n, c in globals().items() if n.startswith("check_")]:
        try:
            check()
            answer[name] = None
        except Exception:
            answer[name] = traceback.format_exc()
    print(json.dumps(answer))
